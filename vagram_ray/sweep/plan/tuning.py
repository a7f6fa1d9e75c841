"""Tune's schedulers, searchers and stoppers in a sweep: what of them can be used, and what ``sweep.json`` says of them.

They judge a trial by a metric over the seeds of its cell, so one trial trains all of them. What they decide is
recorded (``vagram_ray.sweep.run.decisions``), and told to them again when the sweep goes on.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vagram_ray.ray_internals import time_attribute
from vagram_ray.records.cohort import OF_THE_TRIAL, RETURN_METRICS
from vagram_ray.sweep.plan.samples import Samples
from vagram_ray.sweep.spec import Sweep, SweepError
from vagram_ray.text import did_you_mean

_KNOWN = (
    *OF_THE_TRIAL,
    *(name for metric in RETURN_METRICS for name in (metric, f"{metric}_iqm")),
    "eval/episode_length", "train/episode_length", "train/num_episodes", "train/epoch",
)  # fmt: skip
_TIMES = ("time_this_iter_s", "time_since_restore", "iterations_since_restore", "timestamp")
"""What Tune itself adds to a result."""
_SECTIONS = ("model", "sac", "time", "perf")
"""Of metrics whose names follow from the model loss and the environment."""


@dataclass(frozen=True)
class Tuning:
    """Scheduler, searcher and stopper: all that decides over trials beside their last epoch."""

    metric: str
    mode: str
    scheduler: Any = None
    """A ``TrialScheduler`` of Tune."""
    stop: Any = None
    """A dictionary, a function or a ``Stopper``."""
    samples: Samples | None = None
    """Chooses the cells, or None where all are known beforehand."""

    @classmethod
    def of(cls, sweep: Sweep) -> Tuning | None:
        """What a sweep asks for, with objects of its own for one launch, or None if there is nothing.

        Raises:
            SweepError: It cannot work.
        """
        if sweep.scheduler is None and sweep.search_alg is None and sweep.stop is None:
            return None
        with_evaluation = sweep.config.evaluation_interval not in (None, 0)
        check_metric(sweep.metric, "metric", with_evaluation)
        _check_stop(sweep.stop, with_evaluation)
        scheduler = _own(sweep.scheduler)
        if scheduler is not None:
            _check_scheduler(scheduler)
            _set_metric(scheduler, sweep)
            _check_time(scheduler)
        samples = None
        if sweep.search_alg is not None:
            _check_variants(sweep)
            samples = Samples(_own(sweep.search_alg), sweep.config, sweep.metric, sweep.mode, sweep.num_samples)
        return cls(sweep.metric, sweep.mode, scheduler, _own(sweep.stop), samples)

    @property
    def identity(self) -> dict[str, Any]:
        """What ``sweep.json`` says: names, not the objects."""
        names = {
            "scheduler": None if self.scheduler is None else name_of(self.scheduler),
            "stop": None if self.stop is None else describe_stop(self.stop),
            "search_alg": None if self.samples is None else self.samples.name,
            "num_samples": None if self.samples is None else self.samples.num_samples,
        }
        known = {key: value for key, value in names.items() if value is not None}
        return {"metric": self.metric, "mode": self.mode, **known}

    @property
    def stops_early(self) -> bool:
        """Whether trials may end before their last epoch."""
        return self.scheduler is not None or self.stop is not None


def name_of(value: Any) -> str:
    """The name of an object's class, or a function's own."""
    return str(getattr(value, "__name__", None) or type(value).__name__)


def describe_stop(stop: Any) -> str:
    """``env_steps>=5000`` for a dictionary, else a name."""
    if isinstance(stop, Mapping):
        return ", ".join(f"{key}>={value:g}" for key, value in stop.items())
    return name_of(stop)


def check_metric(name: str, what: str, with_evaluation: bool = True) -> None:
    """Refuse a metric that no trial reports.

    Raises:
        SweepError: It names ``what`` it stood for, and metrics that are alike.
    """
    if not with_evaluation and name.startswith("eval/"):
        raise SweepError(
            f"{what}={name!r} is not usable: the sweep does not evaluate; set evaluation_interval=1, or use "
            "train/episode_return_iqm."
        )
    if name in _KNOWN or (name.partition("/")[0] in _SECTIONS and "/" in name):
        return
    hint = did_you_mean(name, _KNOWN) or "docs/metrics.md lists what trials report."
    raise SweepError(f"{what}={name!r} is not usable: no trial reports it; {hint}")


def _own(value: Any) -> Any:
    """A copy for one launch, as such objects remember what they have seen, or itself where it cannot be copied."""
    with contextlib.suppress(Exception):  # a connection to a database
        return copy.deepcopy(value)
    return value


def _check_variants(sweep: Sweep) -> None:
    if sweep.variants:
        raise SweepError(
            f"search_alg={name_of(sweep.search_alg)} cannot be combined with variants ({', '.join(sweep.variants)}), "
            "all of which are run: leave one of the two away."
        )


def _check_stop(stop: Any, with_evaluation: bool) -> None:
    from ray.tune import Stopper

    if isinstance(stop, Mapping):
        for key, value in stop.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise SweepError(f"stop={{{key!r}: {value!r}}} is not usable: a metric needs a number to reach.")
            check_metric(key, "stop", with_evaluation)
    elif stop is not None and not isinstance(stop, Stopper) and not callable(stop):
        raise SweepError(
            f"stop={stop!r} is not usable: give a dictionary such as {{'env_steps': 5000}}, a function of a trial's "
            "name and result, or a Stopper of Tune."
        )


def _check_scheduler(scheduler: Any) -> None:
    from ray.tune.schedulers import (
        HyperBandScheduler,
        PopulationBasedTraining,
        PopulationBasedTrainingReplay,
        ResourceChangingScheduler,
        TrialScheduler,
    )

    name = name_of(scheduler)
    if not isinstance(scheduler, TrialScheduler):
        raise SweepError(f"scheduler={scheduler!r} is not usable: give a scheduler of Tune, such as ASHAScheduler().")
    held_back = (HyperBandScheduler, ResourceChangingScheduler)
    if isinstance(scheduler, (PopulationBasedTraining, PopulationBasedTrainingReplay, *held_back)):
        raise SweepError(
            f"scheduler={name} is not usable in a sweep: it holds trials back or changes them while they run, and a "
            "cell has the same settings from its first epoch to its last; use ASHAScheduler here, or it with "
            'tune.Tuner("MBPO").'
        )


def _set_metric(scheduler: Any, sweep: Sweep) -> None:
    """The sweep's metric, where the scheduler has none of its own."""
    if not scheduler.set_search_properties(sweep.metric, sweep.mode) and scheduler.metric != sweep.metric:
        raise SweepError(
            f"{name_of(scheduler)} has metric={scheduler.metric!r} and the sweep metric={sweep.metric!r}: "
            "leave the scheduler's away."
        )


class Decisions:
    """Who has ended which trial before its last epoch, by name."""

    def __init__(self) -> None:
        self.stopped: dict[str, str] = {}
        self.ended_by = ""
        """The stopper that has ended the whole sweep, empty as long as none has."""


def _check_time(scheduler: Any) -> None:
    """Refuse a scheduler whose ``time_attr`` no result holds: it would do nothing."""
    key = time_attribute(scheduler)
    if key not in (*_KNOWN, *_TIMES):
        raise SweepError(
            f"{name_of(scheduler)} looks at {key!r}, which no trial reports: use time_attr='training_iteration' or "
            "'env_steps'."
        )


def changed_tuning(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Differences between the recorded tuning and the one that is asked for. The number of samples is none."""
    for key in dict.fromkeys((*old, *new)):
        if key != "num_samples" and old.get(key) != new.get(key):
            yield f"{key}: {old.get(key, 'none')} -> {new.get(key, 'none')}"
