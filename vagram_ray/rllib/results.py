"""From per-seed metrics to the result of one training iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
)
from ray.tune.result import DONE

from vagram_ray.core.evaluation import EpisodeStatistics
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.envs.naming import environment_name
from vagram_ray.records.cohort import ENVIRONMENT_FAULT, cohort_metrics

ENVIRONMENT_FAULTS = "environment_faults"
"""Key of a result: sentences on the seeds whose environments have returned numbers that are not finite."""
ALL_SEEDS_FAILED = "all_seeds_failed"
"""Key of a result: the sentence on why the trial ends early."""
SEED_SECTIONS = ("eval", "train", "model", "sac")
"""Sections of metrics that are reported for each seed. The others (``time``) are the cohort's."""


def cohort_results(metrics: Mapping[str, np.ndarray], seeds: Sequence[int], failed: np.ndarray) -> dict[str, Any]:
    """Nested results of a cohort: aggregated over the seeds, and of each seed.

    Args:
        metrics: Name such as ``"sac/critic_loss"`` to values (S,), NaN where it was not measured.
        seeds: The cohort.
        failed: (S,) bool, seeds that became NaN: the worst of the cohort in returns, in no aggregate of other metrics.
    """
    results: dict[str, Any] = {"seeds": {}}
    for name, values in metrics.items():
        for key, value in cohort_metrics(name, values, failed).items():
            set_nested(results, key, value)
    for index, seed in enumerate(seeds):
        own: dict[str, Any] = {"failed": int(failed[index])}
        for name, values in metrics.items():
            if name.split("/")[0] in SEED_SECTIONS:
                set_nested(own, name, float(values[index]))
        results["seeds"][f"seed_{seed}"] = own
    return results


def epoch_results(
    metrics: Mapping[str, np.ndarray], agent: MBPOAgent, env_steps: int, seconds: float
) -> dict[str, Any]:
    """The result of an epoch's training. Episodes of seeds that have failed are not measured.

    Args:
        metrics: Of the epoch, name to values (S,).
        agent: The agent at its end.
        env_steps: Environment steps of the epoch, per seed.
        seconds: Wall time that it took.
    """
    episodes = {
        name: np.where(agent.failed, np.nan, metrics[name]) for name in ("train/episode_return", "train/episode_length")
    }
    results = cohort_results({**metrics, **episodes}, agent.seeds, agent.failed)
    num_seeds, settings = len(agent.seeds), agent.settings
    sampled, total = env_steps * num_seeds, agent.env_steps * num_seeds
    updates = settings.epoch_length * settings.utd_ratio * num_seeds
    results["env_steps"] = agent.env_steps
    set_nested(results, "time/epoch_s", seconds)
    set_nested(results, "perf/env_steps_per_s", sampled / seconds)
    set_nested(results, "perf/updates_per_s", updates / seconds)
    results[NUM_ENV_STEPS_SAMPLED_LIFETIME] = total
    results[ENV_RUNNER_RESULTS] = {
        EPISODE_RETURN_MEAN: results["train"]["episode_return"],
        EPISODE_LEN_MEAN: results["train"]["episode_length"],
        NUM_EPISODES: int(metrics["train/num_episodes"].sum()),
        NUM_ENV_STEPS_SAMPLED: sampled,
        NUM_ENV_STEPS_SAMPLED_LIFETIME: total,
    }
    return results


def evaluation_results(statistics: EpisodeStatistics, agent: MBPOAgent, seconds: float) -> dict[str, Any]:
    """The result of an evaluation that took ``seconds`` of wall time. Seeds that have failed are not measured."""
    metrics = {
        "eval/episode_return": np.where(agent.failed, np.nan, statistics.returns.mean(axis=1)),
        "eval/episode_length": np.where(agent.failed, np.nan, statistics.lengths.mean(axis=1)),
    }
    results = cohort_results(metrics, agent.seeds, agent.failed)
    sound = ~agent.failed
    results[ENV_RUNNER_RESULTS] = episode_metrics(statistics.returns[sound], statistics.lengths[sound])
    set_nested(results, "time/evaluation_s", seconds)
    return results


def episode_metrics(returns: np.ndarray, lengths: np.ndarray) -> dict[str, float]:
    """RLlib's names for a set of finished episodes. Without one there is nothing but their number."""
    if returns.size == 0:
        return {EPISODE_RETURN_MEAN: float("nan"), EPISODE_LEN_MEAN: float("nan"), NUM_EPISODES: 0}
    return {
        EPISODE_RETURN_MEAN: float(returns.mean()),
        EPISODE_RETURN_MIN: float(returns.min()),
        EPISODE_RETURN_MAX: float(returns.max()),
        EPISODE_LEN_MEAN: float(lengths.mean()),
        EPISODE_LEN_MIN: int(lengths.min()),
        EPISODE_LEN_MAX: int(lengths.max()),
        NUM_EPISODES: int(returns.size),
        NUM_ENV_STEPS_SAMPLED: int(lengths.sum()),
    }


def add_failures(result: dict[str, Any], faults: Sequence[tuple[int, str]], agent: MBPOAgent, env: Any) -> None:
    """Add what environments returned wrongly to a result, and ``done`` once no seed is left.

    Args:
        result: Of an iteration.
        faults: The seed's position in the cohort, and a sentence, for each faulty environment.
        agent: The agent at its end.
        env: The environment as the configuration has it.
    """
    sentences = [sentence for _, sentence in faults]
    if faults:
        result[ENVIRONMENT_FAULTS] = sentences
        for position, _ in faults:
            result["seeds"][f"seed_{agent.seeds[position]}"][ENVIRONMENT_FAULT] = 1
    if not agent.failed.all():
        return
    reason = sentences[0] if faults else "networks became NaN in training"
    others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    result[DONE] = True
    result[ALL_SEEDS_FAILED] = (
        f"Training in environment {environment_name(env)!r} ends after epoch {agent.epoch}, because "
        f"every seed ({', '.join(map(str, agent.seeds))}) has failed: {reason}{others}."
    )


def set_nested(target: dict[str, Any], name: str, value: Any) -> None:
    """Set ``target["a"]["b"]`` for the name ``"a/b"``."""
    *sections, key = name.split("/")
    for section in sections:
        target = target.setdefault(section, {})
    target[key] = value


def merge(target: dict[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Add nested ``update`` to nested ``target``, in place."""
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value
    return target
