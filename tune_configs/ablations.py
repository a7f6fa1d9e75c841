"""Figure 5 of the paper: other value-aware losses and plain SAC on Pendulum and continuous cartpole.

``itervaml`` has 0.01 of the squared error added (Appendix D.1), ``value_weighted`` weights each sample's squared error
by the inverse of its value. Run it with ``python -m vagram_ray.sweep tune_configs/ablations.py --scale
smoke|laptop|paper``.
"""

from ray import tune

from vagram_ray.rllib import MBPOConfig, laptop_settings, published_settings, smoke_settings
from vagram_ray.sweep import Scale, Sweep

config = (
    MBPOConfig()
    .training(
        model_loss=tune.grid_search(["vagram", "nll", "itervaml", "value_weighted", "none"]),
        model_loss_options={"mse_weight": 0.01},  # itervaml's; the other losses have no such constant
    )
    .evaluation(evaluation_interval=1, evaluation_duration=10)
)

TASKS = {
    "pendulum": {"env": "Pendulum-v1", **published_settings("Pendulum")},
    "cartpole": {"env": "ContinuousCartPole-v0", **published_settings("ContinuousCartPole")},
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
    seeds=8,
    epochs=100,
    scales={
        "smoke": Scale(epochs=2, seeds=1, overrides=smoke_settings()),
        "laptop": Scale(epochs=13, overrides=LAPTOP, variants={"task": LAPTOP_TASKS}),
        "paper": Scale(),
    },
)
