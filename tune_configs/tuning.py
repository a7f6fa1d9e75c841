"""Tuning before an experiment: step size of the model, updates per step, share of real data, on seeds of its own.

Optuna chooses the values; without it (``pip install "vagram_ray[optuna]"``) they are drawn at random. ASHA lets the
better third of the trials go on at epochs 3 and 9. A trial has six seeds, 200 to 205, which no other sweep here uses.
Run it with ``python -m vagram_ray.sweep tune_configs/tuning.py --scale smoke|laptop|paper``. The report ranks the
settings and gives the best as options for another sweep.
"""

from importlib.util import find_spec
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from vagram_ray.rllib import MBPOConfig, laptop_settings, published_settings, smoke_settings
from vagram_ray.sweep import Scale, Sweep


def searched(last_mixed_epoch: int, updates: list[int]) -> dict[str, Any]:
    """What is tuned: the share of real data falls from 1 to its final value until ``last_mixed_epoch``."""
    return {
        "model_lr": tune.loguniform(1e-4, 1e-2),
        "utd_ratio": tune.choice(updates),
        "real_ratio": tune.choice([(0, last_mixed_epoch, 1.0, share) for share in (0.05, 0.25, 0.5, 0.75)]),
    }


SWEEP = Sweep(
    name="tuning",
    description="Which step size of the model, how many updates per step, how much real data?",
    config=MBPOConfig()
    .environment("Hopper-v4", num_distractors=10)
    .training(**published_settings("Hopper", distractors=True) | searched(50, [10, 20, 40]))
    .evaluation(evaluation_interval=1, evaluation_duration=10),
    seeds=range(200, 206),
    epochs=125,
    num_samples=32,
    search_alg=OptunaSearch(seed=0) if find_spec("optuna") else None,
    scheduler=ASHAScheduler(grace_period=3, reduction_factor=3, max_t=1000),
    scales={
        "smoke": Scale(
            epochs=2,
            seeds=(200,),
            num_samples=2,
            overrides={**smoke_settings(), **searched(1, [1, 2]), "evaluation_duration": 1},
        ),
        "laptop": Scale(
            epochs=13,
            num_samples=24,
            overrides={
                **laptop_settings(),
                **searched(2, [2, 5, 10]),
                "evaluation_duration": 5,
                "env": "Pendulum-v1",
            },
        ),
        "paper": Scale(),
    },
)
