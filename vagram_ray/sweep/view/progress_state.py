"""How far a sweep is: the state of its trials, fed with Tune's events or with a sweep's records."""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vagram_ray.records.fit_limit import fit_limit_warning, shares_at_limit
from vagram_ray.records.folder import make_record, stopped_by
from vagram_ray.records.seed_statistics import SeedStatistics, counted_returns, summarize
from vagram_ray.records.task_line import task_line
from vagram_ray.sweep.plan.cells import Cell
from vagram_ray.sweep.plan.packing import makespan
from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan

WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"
_RECENT_EPOCHS = 5


@dataclass(frozen=True)
class RecordedPlan:
    """A sweep's plan as far as ``sweep.json`` tells it."""

    cells: tuple[Cell, ...]
    trials: tuple[TrialPlan, ...]
    epochs: int
    slots: int
    return_metric: str
    to_come: int = 0
    """Samples of a search that have not been suggested yet: one trial each."""
    task: str = ""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> RecordedPlan:
        """The plan in the content of ``sweep.json``."""
        cells = tuple(Cell(index, cell["label"], cell["axes"], {}) for index, cell in enumerate(info["cells"]))
        trials = tuple(
            TrialPlan(cells[trial["cell"]], tuple(trial["seeds"]), trial["name"]) for trial in info["trials"]
        )
        slots = info.get("slots", 1)  # earlier versions did not write it
        samples = info.get("tuning", {}).get("num_samples") or 0
        to_come = 0 if "wall_time_s" in info else max(0, samples - len(cells))
        return cls(
            cells, trials, info["epochs"], min(slots, len(trials)), info["return_metric"], to_come, task_line(info)
        )


@dataclass
class TrialProgress:
    """One trial as far as its results tell."""

    plan: TrialPlan
    status: str = WAITING
    epochs_done: int = 0
    env_steps: int = 0
    total_s: float = 0.0
    steps_per_s: float = math.nan
    returns: dict[int, float] = field(default_factory=dict)
    failed_seeds: set[int] = field(default_factory=set)
    recent: deque[tuple[int, int, float]] = field(default_factory=lambda: deque(maxlen=_RECENT_EPOCHS))
    """Its recent epochs: after which one they began, the last one, and the seconds that they took."""
    fit_limits: dict[int, list[float]] = field(default_factory=dict)
    """By epoch, the shares of its seeds' model fits that ended at their limit."""
    retries: int = 0
    error_path: str = ""
    """File that tells of the last error, empty without one."""
    reason: str = ""
    """The last error in a few words, where it is known."""
    stopped_by: str = ""
    """The scheduler or stopper that has ended it before its last epoch, empty where none did."""

    @property
    def lost_seeds(self) -> set[int]:
        """Seeds that count as the worst: those that became NaN, all of a trial that failed for good, and those without
        a return in a trial at its end. The seeds of any other trial are pending, also once the launch has ended.
        """
        lost = set(self.failed_seeds)
        if self.status in (FAILED, DONE) or self.stopped_by:
            lost |= {seed for seed in self.plan.seeds if self.status == FAILED or seed not in self.returns}
        return lost

    @property
    def counted_returns(self) -> dict[int, float]:
        """The last return of every seed of this trial, lost ones with the worst of them."""
        return counted_returns(dict(self.returns), self.lost_seeds)


@dataclass(frozen=True)
class CellProgress:
    """One row of the live table.

    ``returns`` summarizes the last return of every seed that has one and, as the worst of them, the lost seeds.
    """

    cell: Cell
    status: str
    epochs_done: int
    epochs_total: int
    returns: SeedStatistics
    steps_per_s: float
    seconds_left: float
    failed_trials: int
    failed_seeds: int


class SweepProgress:
    """State of all trials. Events come with the time of the clock at which they happened, now by default.

    Args:
        plan: The sweep.
        clock: Gives seconds.
        started: Time of the clock when the sweep started, by default now.
    """

    def __init__(
        self,
        plan: SweepPlan | RecordedPlan,
        clock: Callable[[], float] = time.monotonic,
        started: float | None = None,
    ) -> None:
        self.trials: dict[str, TrialProgress] = {}
        self.replanned(plan)
        self._clock = clock
        self._started = clock() if started is None else started
        self._ended: float | None = None
        self._last_news = self._started
        self.warnings: list[str] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the start, up to the end."""
        return max(0.0, (self._clock() if self._ended is None else self._ended) - self._started)

    @property
    def silence(self) -> float:
        """Seconds since anything was heard of any trial, or none once the sweep has ended."""
        return 0.0 if self._ended is not None else max(0.0, self._clock() - self._last_news)

    # -- what has happened -------------------------------------------------------------------------------------

    def started(self, name: str) -> None:
        """A trial's process is starting."""
        self.trials[name].status = RUNNING
        self._heard()

    def reported(self, name: str, result: Mapping[str, Any]) -> None:
        """A trial has finished an epoch and gives a result of RLlib."""
        self.recorded(name, make_record(result))

    def recorded(self, name: str, record: Mapping[str, Any], when: float | None = None) -> None:
        """A trial has finished an epoch. ``record`` is as in ``records/*.jsonl``."""
        trial, epoch = self.trials[name], record["training_iteration"]
        seconds = float(record["time_total_s"]) - trial.total_s
        if epoch > trial.epochs_done and seconds > 0:  # otherwise it has gone back to a checkpoint
            trial.recent.append((trial.epochs_done, epoch, seconds))
        trial.status = RUNNING
        trial.fit_limits[epoch] = shares_at_limit([record])
        trial.epochs_done, trial.env_steps = epoch, record["env_steps"]
        trial.total_s = float(record["time_total_s"])
        trial.steps_per_s = float(record["perf"].get("env_steps_per_s", math.nan))
        for seed in trial.plan.seeds:
            metrics = record["seeds"].get(str(seed), {})
            if metrics.get("failed"):
                trial.failed_seeds.add(seed)
                trial.returns.pop(seed, None)
            elif self.plan.return_metric in metrics:
                trial.returns[seed] = metrics[self.plan.return_metric]
        self._heard(when)

    def restored(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """A trial has been recorded this far by an earlier launch: it is done, or waits to go on."""
        last_news = self._last_news
        for record in records:
            self.recorded(name, record, when=last_news)
        trial = self.trials[name]
        trial.steps_per_s = math.nan
        trial.status = DONE if trial.epochs_done >= self.plan.epochs else WAITING
        if by := stopped_by(records):
            self.stopped(name, by, when=last_news)

    def finished(self, name: str, when: float | None = None) -> None:
        """A trial has come to its end."""
        self.trials[name].status = DONE
        self._heard(when)

    def stopped(self, name: str, by: str, when: float | None = None) -> None:
        """A scheduler or a stopper has ended a trial: it is at its end, and has not failed."""
        trial = self.trials[name]
        trial.status, trial.stopped_by = STOPPED, by
        self._heard(when)

    def retrying(self, name: str, error_path: str, when: float | None = None, reason: str = "") -> None:
        """A trial has failed and starts again from its last checkpoint."""
        trial = self.trials[name]
        trial.status, trial.error_path, trial.retries = WAITING, error_path, trial.retries + 1
        trial.reason = reason
        self._heard(when)

    def failed(self, name: str, error_path: str, when: float | None = None, reason: str = "") -> None:
        """A trial has failed for good."""
        trial = self.trials[name]
        trial.status, trial.error_path, trial.reason = FAILED, error_path, reason
        self._heard(when)

    def replanned(self, plan: SweepPlan | RecordedPlan) -> None:
        """Other trials are planned: some were divided, or a searcher has suggested one. New ones wait."""
        known, self.plan = self.trials, plan
        self.trials = {trial.name: known.get(trial.name) or TrialProgress(trial) for trial in plan.trials}
        self._is_timed = all(trial.estimate.epoch_ends for trial in plan.trials)

    def warned(self, sentence: str) -> bool:
        """Something people should know cannot be done. Returns whether it is new."""
        new = sentence not in self.warnings
        if new:
            self.warnings.append(sentence)
        return new

    def ended(self, seconds: float) -> None:
        """The sweep has ended, after so many seconds. Trials that have not come to their end were stopped."""
        self._ended = self._started + seconds
        for trial in self.trials.values():
            if trial.status not in (DONE, FAILED):
                trial.status = STOPPED

    # -- what follows from it ----------------------------------------------------------------------------------

    def cells(self) -> list[CellProgress]:
        """One row per cell."""
        trials: dict[int, list[TrialProgress]] = {cell.index: [] for cell in self.plan.cells}
        for trial in self.trials.values():
            trials[trial.plan.cell.index].append(trial)
        pace = self._pace(list(self.trials.values()))
        return [self._cell(cell, trials[cell.index], pace) for cell in self.plan.cells]

    def seconds_left(self) -> float:
        """Estimated seconds until the last trial ends, or NaN while there is nothing to tell it from."""
        trials = list(self.trials.values())
        pace = self._pace(trials)
        by_status = [[trial for trial in trials if trial.status == status] for status in (RUNNING, WAITING)]
        seconds = [self._trial_seconds_left(trial, pace) for group in by_status for trial in group]
        if self.plan.to_come and trials:  # of the size of the newest one
            seconds += [self._trial_seconds_left(TrialProgress(trials[-1].plan), pace)] * self.plan.to_come
        if any(math.isnan(left) for left in seconds):
            return math.nan
        return makespan(seconds, self.plan.slots) if seconds else 0.0

    def share_done(self) -> float:
        """Share of all epochs that are done. Those of failed and of stopped trials will not come any more."""
        total = (len(self.trials) + self.plan.to_come) * self.plan.epochs
        return sum(self._epochs(trial) for trial in self.trials.values()) / total

    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        statuses = [trial.status for trial in self.trials.values()]
        return {status: statuses.count(status) for status in (RUNNING, DONE, FAILED, STOPPED, WAITING)}

    def troubled(self) -> list[TrialProgress]:
        """Trials that have failed, then those that go on after an error."""
        trials = list(self.trials.values())
        failed = [trial for trial in trials if trial.status == FAILED]
        return failed + [
            trial for trial in trials if trial.retries and trial.status not in (FAILED, DONE) and not trial.stopped_by
        ]

    def fit_limit_warnings(self) -> list[str]:
        """One sentence per cell whose model fits reach their limit too often."""
        shares: dict[int, list[float]] = {}
        for trial in self.trials.values():
            for own in list(trial.fit_limits.values()):
                shares.setdefault(trial.plan.cell.index, []).extend(own)
        warnings = (fit_limit_warning(cell.label, shares.get(cell.index, ())) for cell in self.plan.cells)
        return [warning for warning in warnings if warning]

    def longest_epoch(self) -> float:
        """Seconds of the longest of the recent epochs of all trials, NaN before the first one."""
        recent = [epochs for trial in self.trials.values() for epochs in tuple(trial.recent)]
        return max((seconds / (last - first) for first, last, seconds in recent), default=math.nan)

    def _heard(self, when: float | None = None) -> None:
        self._last_news = max(self._last_news, self._clock() if when is None else when)

    def _epochs(self, trial: TrialProgress) -> int:
        return self.plan.epochs if trial.status == FAILED or trial.stopped_by else trial.epochs_done

    def _cell(self, cell: Cell, trials: Sequence[TrialProgress], pace: float) -> CellProgress:
        running = [trial for trial in trials if trial.status == RUNNING]
        last = {seed: value for trial in trials for seed, value in list(trial.returns.items())}
        returns = sorted(counted_returns(last, {seed for trial in trials for seed in trial.lost_seeds}).values())
        return CellProgress(
            cell=cell,
            status=_status(trials),
            epochs_done=sum(trial.epochs_done for trial in trials),
            epochs_total=len(trials) * self.plan.epochs,
            returns=return_statistics(tuple(returns)),
            steps_per_s=sum(trial.steps_per_s for trial in running if math.isfinite(trial.steps_per_s)),
            seconds_left=max([self._trial_seconds_left(trial, pace) for trial in running], default=math.nan),
            failed_trials=sum(trial.status == FAILED for trial in trials),
            failed_seeds=sum(len(trial.failed_seeds) for trial in trials),
        )

    def _trial_seconds_left(self, trial: TrialProgress, pace: float) -> float:
        """What the epochs after its last one will take, at its own pace once it has one."""
        planned = self._planned(trial, trial.epochs_done, self.plan.epochs)
        return planned * (self._pace([trial]) if trial.recent else pace)

    def _planned(self, trial: TrialProgress, first: int, last: int) -> float:
        """Planned seconds of a trial's epochs. Where times are unknown, a second for each epoch of a seed."""
        if self._is_timed:
            return trial.plan.estimate.seconds_between(first, last)
        return float((last - first) * len(trial.plan.seeds))

    def _pace(self, trials: Sequence[TrialProgress]) -> float:
        """How much longer than planned the recent epochs of trials have taken, NaN where nothing tells it."""
        measured = planned = 0.0
        for trial in trials:
            for first, last, seconds in tuple(trial.recent):  # a copy: the table is drawn by a thread of its own
                measured, planned = measured + seconds, planned + self._planned(trial, first, last)
        if not measured:
            return 1.0 if self._is_timed else math.nan
        return measured / planned if planned > 0 else math.nan


def _status(trials: Sequence[TrialProgress]) -> str:
    statuses = {trial.status for trial in trials}
    return next(status for status in (RUNNING, WAITING, FAILED, STOPPED, DONE) if status in statuses)


@functools.lru_cache(maxsize=256)  # more than a table has rows. Each key holds all returns of a cell
def return_statistics(returns: tuple[float, ...]) -> SeedStatistics:
    """``summarize``, computed once for the same returns: a table that is redrawn asks again and again."""
    return summarize(returns)
