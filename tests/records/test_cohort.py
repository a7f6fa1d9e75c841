"""What a trial reported for its seeds together, told again from its record."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vagram_ray.records.cohort import cohort_result
from vagram_ray.records.folder import make_record
from vagram_ray.rllib.results import cohort_results, merge


def flat(nested: dict, prefix: str = "") -> dict:
    own: dict = {}
    for key, value in nested.items():
        own |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return own


def test_a_failed_seed_is_the_worst_in_returns_and_left_out_elsewhere() -> None:
    seeds = {
        "0": {"eval/episode_return": 8.0, "sac/alpha": 1.0, "failed": 0},
        "1": {"eval/episode_return": 2.0, "sac/alpha": 3.0, "failed": 0},
        "2": {"eval/episode_return": 6.0, "sac/alpha": 100.0, "failed": 1},  # counts as 2
        "3": {"eval/episode_return": 4.0, "failed": 0},
    }
    record = {"training_iteration": 3, "env_steps": 9, "time_total_s": 1.5, "time": {"sac_s": 2.0}, "perf": {}}
    result = cohort_result({**record, "seeds": seeds})
    assert result["eval/episode_return_iqm"] == (2 + 4) / 2  # of 2, 2, 4, 8 without the outer quarters
    assert result["eval/episode_return"] == (8 + 2 + 2 + 4) / 4
    assert result["sac/alpha"] == 2.0
    assert (result["training_iteration"], result["env_steps"], result["time/sac_s"]) == (3, 9, 2.0)
    assert "failed" not in result


def test_records_tell_what_the_trial_reported() -> None:
    generator = np.random.default_rng(0)
    failed = np.array([False, True, False, False, False])
    metrics = {name: generator.normal(size=5) for name in ("eval/episode_return", "train/episode_return", "sac/alpha")}
    metrics["eval/episode_return"][1] = np.nan
    metrics["model/train_loss"] = np.full(5, np.nan)
    reported = merge(cohort_results(metrics, range(5), failed), {"training_iteration": 1, "env_steps": 5})
    told = cohort_result(make_record(reported))
    wanted = {
        key: value
        for key, value in flat({key: value for key, value in reported.items() if key != "seeds"}).items()
        if not math.isnan(value)
    }
    assert {key: told[key] for key in wanted} == pytest.approx(wanted)
    assert "model/train_loss" not in told
