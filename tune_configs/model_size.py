"""Figure 3 of the paper: Hopper with smaller and smaller models, value-aware loss against maximum likelihood.

Run it with ``python -m vagram_ray.sweep tune_configs/model_size.py --scale smoke|laptop|workstation|paper``. Plain SAC
(``none``) has no model and is one cell.
"""

from ray import tune

from vagram_ray.rllib import MBPOConfig, laptop_settings, published_settings, smoke_settings, workstation_settings
from vagram_ray.sweep import Scale, Sweep

config = (
    MBPOConfig()
    .environment("Hopper-v4")
    .training(**published_settings("Hopper") | {"model_loss": tune.grid_search(["vagram", "nll", "none"])})
    .evaluation(evaluation_interval=1, evaluation_duration=10)
)

PAPER_SIZES = {
    "4x200": {"num_layers": 4, "hidden_size": 200},
    "3x64": {"num_layers": 3, "hidden_size": 64},
    "2x64": {"num_layers": 2, "hidden_size": 64},
}
LAPTOP_SIZES = {
    "2x64": {"num_layers": 2, "hidden_size": 64},
    "1x16": {"num_layers": 1, "hidden_size": 16},
    "1x8": {"num_layers": 1, "hidden_size": 8},
}

# The size is the axis here, so the smaller scales leave it to the variants.
SMOKE, LAPTOP, WORKSTATION = (
    {key: value for key, value in settings.items() if key not in ("num_layers", "hidden_size")}
    for settings in (smoke_settings(), laptop_settings(), workstation_settings())
)

SWEEP = Sweep(
    name="model_size",
    description="Figure 3: how small may the model be?",
    config=config,
    variants={"model_size": PAPER_SIZES},
    seeds=16,
    epochs=250,  # the published file's; Figure 7 shows the smallest model over as many
    scales={
        "smoke": Scale(epochs=2, seeds=2, overrides={**SMOKE, "evaluation_duration": 1}),
        "laptop": Scale(
            epochs=13,
            seeds=8,
            overrides={**LAPTOP, "env": "Pendulum-v1", "evaluation_duration": 5},
            variants={"model_size": LAPTOP_SIZES},
        ),
        # Hopper itself, with networks for a core; one of the sizes: --set model_size=2x64
        "workstation": Scale(
            epochs=60,
            seeds=8,
            overrides={
                **WORKSTATION,
                "evaluation_duration": 5,
                "model_loss": tune.grid_search(["vagram", "nll", "mse", "none"]),
            },
        ),
        "paper": Scale(),
    },
)
