"""Beyond the paper: the share of real data that a batch should hold at the end, and where rollouts should stop.

The final share of real transitions in SAC's batches goes from 0.05 to 0.75 with one-step rollouts. A share of 1 is
plain SAC (``none``), which is one cell. With a share of 0.5 rollouts also grow to five steps: all of that length
("long"), or no further than the ensemble agrees ("disagreement", "value_disagreement": docs/rollouts.md). Run it with
``python -m vagram_ray.sweep tune_configs/real_ratio.py --scale smoke|laptop|workstation|paper``, the shares alone with
``--set 'real_share=grid(0.05,0.25,0.5,0.75)'``.
"""

from typing import Any

from ray import tune

from vagram_ray.rllib import MBPOConfig, laptop_settings, published_settings, smoke_settings, workstation_settings
from vagram_ray.sweep import Scale, Sweep

config = (
    MBPOConfig()
    .environment("Hopper-v4", num_distractors=10)
    .training(
        **published_settings("Hopper", distractors=True)
        | {"model_loss": tune.grid_search(["vagram", "nll", "none"])}  # none: plain SAC, a share of 1
    )
    .evaluation(evaluation_interval=1, evaluation_duration=10)
)

ONE_STEP = (0, 0, 1, 1)


def data_mixes(last_mixed_epoch: int, growing: tuple[int, int, int, int]) -> dict[str, dict[str, Any]]:
    """Final shares of real data, reached in ``last_mixed_epoch``, and longer rollouts at one half."""

    def mix(share: float, rollout_length: tuple[int, int, int, int], truncation: str = "schedule") -> dict[str, Any]:
        real_ratio = (0, last_mixed_epoch, 1.0, share)
        return {"real_ratio": real_ratio, "rollout_length": rollout_length, "rollout_truncation": truncation}

    return {
        **{f"{share:g}": mix(share, ONE_STEP) for share in (0.05, 0.25, 0.5, 0.75)},
        "0.5 long": mix(0.5, growing),
        "0.5 disagreement": mix(0.5, growing, "disagreement"),
        "0.5 value_disagreement": mix(0.5, growing, "value_disagreement"),
    }


# The mix is the axis here, so the smaller scales leave it to the variants.
MIX = ("real_ratio", "rollout_length", "rollout_truncation")
SMOKE, LAPTOP, WORKSTATION = (
    {key: value for key, value in settings.items() if key not in MIX}
    for settings in (smoke_settings(), laptop_settings(), workstation_settings())
)

SMOKE_MIXES = data_mixes(1, (0, 1, 1, 3))

SWEEP = Sweep(
    name="real_ratio",
    description="How much real data should a batch hold at the end, and where should rollouts stop?",
    config=config,
    variants={"real_share": data_mixes(50, (20, 150, 1, 5))},
    seeds=16,
    epochs=300,
    scales={
        "smoke": Scale(
            epochs=2,
            seeds=1,
            overrides=SMOKE | {"evaluation_duration": 1, "model_loss": tune.grid_search(["vagram", "none"])},
            variants={"real_share": {name: SMOKE_MIXES[name] for name in ("0.5", "0.5 value_disagreement")}},
        ),
        "laptop": Scale(
            epochs=13,
            overrides={**LAPTOP, "evaluation_duration": 5, "env": "Pendulum-v1"},
            variants={"real_share": data_mixes(2, (1, 5, 1, 5))},
        ),
        # Hopper alone, with networks for a core; distractors with --set num_distractors=10
        "workstation": Scale(
            epochs=60,
            seeds=8,
            overrides={
                **WORKSTATION,
                "evaluation_duration": 5,
                "num_distractors": 0,
                "model_loss": tune.grid_search(["vagram", "none"]),
            },
            variants={"real_share": data_mixes(20, (20, 60, 1, 5))},
        ),
        "paper": Scale(),
    },
)
