"""Figure 5 of the paper: other value-aware losses and plain SAC on Pendulum and continuous cartpole.

``itervaml`` has 0.01 of the squared error added (Appendix D.1), ``value_weighted`` weights each sample's squared error
by the inverse of its value. Both tasks have mbrl-lib's settings for cartpole, as Appendix D.1 says. mbrl-lib gives SAC
imagined data alone, the paper mixes: the mix is that of the published file for cartpole. Run it with
``python -m vagram_ray.sweep tune_configs/ablations.py --scale smoke|laptop|paper``.
"""

from ray import tune

from vagram_ray.rllib import MBPOConfig, laptop_settings, mbrl_lib_settings, smoke_settings
from vagram_ray.sweep import Scale, Sweep

config = (
    MBPOConfig()
    .training(
        model_loss=tune.grid_search(["vagram", "nll", "itervaml", "value_weighted", "none"]),
        model_loss_options={"mse_weight": 0.01},  # itervaml's; the other losses have no such constant
    )
    .evaluation(evaluation_interval=1, evaluation_duration=10)
)

CARTPOLE = {**mbrl_lib_settings("ContinuousCartPole"), "real_ratio": (1, 5, 1.0, 0.05)}
TASKS = {
    "pendulum": {"env": "Pendulum-v1", **CARTPOLE},
    "cartpole": {"env": "ContinuousCartPole-v0", **CARTPOLE},
}
LAPTOP_TASKS = {
    "pendulum": {"env": "Pendulum-v1", "target_entropy": "auto"},
    "cartpole": {"env": "ContinuousCartPole-v0", "target_entropy": -0.05},
}
LAPTOP = {key: value for key, value in laptop_settings().items() if key != "target_entropy"}  # the tasks' own

SWEEP = Sweep(
    name="ablations",
    description="Figure 5: is it the gradient of the value that matters, or would its size or its error do?",
    config=config,
    variants={"task": TASKS},
    seeds=10,  # with 8 no difference is firm among so many comparisons (docs/report.md)
    epochs=25,  # mbrl-lib's 5,000 steps
    scales={
        "smoke": Scale(epochs=2, seeds=1, overrides={**smoke_settings(), "evaluation_duration": 1}),
        "laptop": Scale(epochs=13, overrides={**LAPTOP, "evaluation_duration": 5}, variants={"task": LAPTOP_TASKS}),
        "paper": Scale(),
    },
)
