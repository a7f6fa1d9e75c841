"""Figure 7 of the paper: is a variance head what makes the difference? nll, mse and vagram, small model or distractors.

``mse`` differs from ``nll`` in being deterministic, and from ``vagram`` in the weights alone. Run it with
``python -m vagram_ray.sweep tune_configs/deterministic_vs_probabilistic.py --scale smoke|laptop|paper``.
"""

from ray import tune

from vagram_ray.rllib import MBPOConfig, laptop_settings, published_settings, smoke_settings
from vagram_ray.sweep import Scale, Sweep

config = (
    MBPOConfig()
    .environment("Hopper-v4")
    .training(model_loss=tune.grid_search(["vagram", "nll", "mse"]))
    .evaluation(evaluation_interval=1, evaluation_duration=10)
)

SETTINGS = {
    "2x64 model": {**published_settings("Hopper"), "num_layers": 2, "hidden_size": 64},
    "15 distractors": {**published_settings("Hopper", distractors=True), "num_distractors": 15},
}
LAPTOP_SETTINGS = {
    "1x8 model": {**laptop_settings(), "num_layers": 1, "hidden_size": 8},
    "10 distractors": {**laptop_settings(), "num_distractors": 10},
}

SWEEP = Sweep(
    name="deterministic_vs_probabilistic",
    description="Figure 7: deterministic and probabilistic models under the same difficulties.",
    config=config,
    variants={"setting": SETTINGS},
    seeds=8,
    epochs=300,  # the right panel's; the left one, of the small model, ends after 250
    scales={
        "smoke": Scale(epochs=2, seeds=1, overrides={**smoke_settings(), "evaluation_duration": 1}),
        "laptop": Scale(
            epochs=13,
            overrides={"env": "Pendulum-v1", "evaluation_duration": 5},
            variants={"setting": LAPTOP_SETTINGS},
        ),
        "paper": Scale(),
    },
)
