"""How far a sweep is: the state of its trials, a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vagram_ray.sweep.cells import Cell
from vagram_ray.sweep.plan import SweepPlan, TrialPlan, format_seeds, makespan
from vagram_ray.sweep.results import make_record
from vagram_ray.sweep.seed_statistics import interquartile_mean
from vagram_ray.sweep.text import format_clock, format_duration, format_number

WAITING, STARTING, RUNNING, DONE, FAILED = "waiting", "starting", "running", "done", "failed"
LOG_INTERVAL_S = 10.0
_RECENT_EPOCHS = 5


@dataclass
class TrialProgress:
    """One trial as far as its results tell."""

    plan: TrialPlan
    status: str = WAITING
    epochs_done: int = 0
    env_steps: int = 0
    steps_per_s: float = math.nan
    returns: dict[str, float] = field(default_factory=dict)
    failed_seeds: set[int] = field(default_factory=set)
    epoch_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_EPOCHS))
    error_path: str = ""


@dataclass(frozen=True)
class CellProgress:
    """One row of the live table."""

    cell: Cell
    status: str
    epochs_done: int
    epochs_total: int
    return_iqm: float
    steps_per_s: float
    seconds_left: float
    failed_trials: int
    failed_seeds: int


class SweepProgress:
    """State of all trials, fed with Tune's events; ``clock`` gives seconds."""

    def __init__(self, plan: SweepPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan = plan
        self.trials = {trial.name: TrialProgress(trial) for trial in plan.trials}
        self._clock = clock
        self._started = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def started(self, name: str) -> None:
        """A trial's process is starting."""
        self.trials[name].status = RUNNING

    def reported(self, name: str, result: Mapping[str, Any]) -> None:
        """A trial has finished an epoch."""
        trial, record = self.trials[name], make_record(result)
        trial.status = RUNNING
        trial.epochs_done, trial.env_steps = record["training_iteration"], record["env_steps"]
        trial.steps_per_s = float(record["perf"].get("env_steps_per_s", math.nan))
        trial.epoch_seconds.append(float(result.get("time_this_iter_s", math.nan)))
        for seed, metrics in record["seeds"].items():
            if metrics.get("failed"):
                trial.failed_seeds.add(int(seed))
                trial.returns.pop(seed, None)
            elif self.plan.return_metric in metrics:
                trial.returns[seed] = metrics[self.plan.return_metric]

    def finished(self, name: str) -> None:
        """A trial has come to its end."""
        self.trials[name].status = DONE

    def failed(self, name: str, error_path: str) -> None:
        """A trial has failed for good."""
        self.trials[name].status, self.trials[name].error_path = FAILED, error_path

    def cells(self) -> list[CellProgress]:
        """One row per cell."""
        return [self._cell(cell) for cell in self.plan.cells]

    def seconds_left(self) -> float:
        """Estimated seconds until the last trial ends."""
        ongoing = [self._trial_seconds_left(trial) for trial in self.trials.values() if trial.status == RUNNING]
        waiting = [self._trial_seconds_left(trial) for trial in self.trials.values() if trial.status == WAITING]
        return makespan(ongoing + waiting, self.plan.slots) if ongoing or waiting else 0.0

    def share_done(self) -> float:
        """Share of all epochs that are done; those of failed trials will not come any more."""
        return sum(self._epochs(trial) for trial in self.trials.values()) / (len(self.trials) * self.plan.epochs)

    def counts(self) -> dict[str, int]:
        """Number of trials by status."""
        starting = len(self._starting())
        statuses = [trial.status for trial in self.trials.values()]
        counts = {status: statuses.count(status) for status in (RUNNING, WAITING, DONE, FAILED)}
        return {RUNNING: counts.pop(RUNNING), STARTING: starting, **counts, WAITING: counts[WAITING] - starting}

    def _starting(self) -> set[str]:
        """Names of the trials whose processes are on their way: Tune tells only when they are there."""
        running = sum(trial.status == RUNNING for trial in self.trials.values())
        waiting = [name for name, trial in self.trials.items() if trial.status == WAITING]
        return set(waiting[: max(0, self.plan.slots - running)])

    def _epochs(self, trial: TrialProgress) -> int:
        return self.plan.epochs if trial.status == FAILED else trial.epochs_done

    def _cell(self, cell: Cell) -> CellProgress:
        trials = [trial for trial in self.trials.values() if trial.plan.cell.index == cell.index]
        running = [trial for trial in trials if trial.status == RUNNING]
        ended = all(trial.status in (DONE, FAILED) for trial in trials)
        failed = sum(trial.status == FAILED for trial in trials)
        starting = self._starting().intersection(trial.plan.name for trial in trials)
        status = (FAILED if failed else DONE) if ended else RUNNING if running else STARTING if starting else WAITING
        return CellProgress(
            cell=cell,
            status=status,
            epochs_done=sum(trial.epochs_done for trial in trials),
            epochs_total=len(trials) * self.plan.epochs,
            return_iqm=interquartile_mean([value for trial in trials for value in trial.returns.values()]),
            steps_per_s=sum(trial.steps_per_s for trial in running if math.isfinite(trial.steps_per_s)),
            seconds_left=max([self._trial_seconds_left(trial) for trial in running], default=math.nan),
            failed_trials=failed,
            failed_seeds=sum(len(trial.failed_seeds) for trial in trials),
        )

    def _trial_seconds_left(self, trial: TrialProgress) -> float:
        share = 1.0 - trial.epochs_done / self.plan.epochs
        recent = [seconds for seconds in trial.epoch_seconds if math.isfinite(seconds)]
        if recent:
            return (self.plan.epochs - trial.epochs_done) * sum(recent) / len(recent)
        return share * trial.plan.estimate.seconds * self._estimate_correction()

    def _estimate_correction(self) -> float:
        """How much longer than planned the epochs have taken so far; 1 before the first one."""
        measured = planned = 0.0
        for trial in self.trials.values():
            recent = [seconds for seconds in trial.epoch_seconds if math.isfinite(seconds)]
            measured += sum(recent)
            planned += len(recent) * trial.plan.estimate.seconds / self.plan.epochs
        return measured / planned if planned > 0 else 1.0


# -- the two views ---------------------------------------------------------------------------------------------

_STYLES = {WAITING: "dim", STARTING: "", RUNNING: "", DONE: "green", FAILED: "red"}


def render_progress(progress: SweepProgress, max_rows: int = 30) -> RenderableType:
    """The live table: one row per cell and a line about the whole sweep."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("", width=16)
    for column in ("epochs", "return (IQM)", "env steps/s", "time left"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = progress.cells()
    busy = [row for row in rows if row.status in (STARTING, RUNNING, FAILED)]
    shown = rows if len(rows) <= max_rows else busy[:max_rows]
    for row in shown:
        table.add_row(
            Text(row.cell.label, style=_STYLES[row.status]),
            ProgressBar(total=row.epochs_total, completed=row.epochs_done, width=16),
            f"{row.epochs_done}/{row.epochs_total}",
            format_number(row.return_iqm),
            f"{row.steps_per_s:,.0f}" if row.steps_per_s else "-",
            _state(row),
        )
    if len(shown) < len(rows):
        table.add_row(f"... {len(rows) - len(shown)} more cells, waiting or done")
    return Group(table, "", _status_line(progress))


def _state(row: CellProgress) -> Text:
    if row.failed_trials:
        return Text(f"{row.failed_trials} failed", style="red")
    if row.failed_seeds:
        return Text(f"{row.failed_seeds} seeds failed", style="red")
    if row.status == RUNNING:
        return Text(format_duration(row.seconds_left))
    return Text(row.status, style=_STYLES[row.status])


def _status_line(progress: SweepProgress) -> Text:
    counts = ", ".join(f"{count} {status}" for status, count in progress.counts().items() if count)
    left = f", about {format_duration(progress.seconds_left())} left" if progress.share_done() < 1 else ""
    return Text(f"{format_clock(progress.elapsed)} elapsed{left}; trials: {counts}", style="dim")


class ProgressView:
    """Shows progress on a console: a table that is redrawn on a terminal, plain lines anywhere else.

    Plain lines are at most one every ``interval_s`` seconds, except for trials that end.
    """

    def __init__(self, progress: SweepProgress, console: Console, interval_s: float = LOG_INTERVAL_S) -> None:
        self.progress, self.console, self.interval_s = progress, console, interval_s
        self._last_line = -math.inf
        self._live: Live | None = None
        if console.is_terminal:
            rows = max(4, console.size.height - 6)
            self._live = Live(
                console=console,
                refresh_per_second=2,
                get_renderable=lambda: render_progress(progress, rows),
                vertical_overflow="visible",
            )

    def __enter__(self) -> ProgressView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def reported(self, name: str) -> None:
        """Tell about a trial's new result."""
        now = self.progress.elapsed
        if self._live is None and now - self._last_line >= self.interval_s:
            self._last_line = now
            self._print(result_line(self.progress, name))

    def ended(self, name: str) -> None:
        """Tell about the end of a trial, or about a new start after an error."""
        if self._live is None:
            self._print(end_line(self.progress, name))

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)


def result_line(progress: SweepProgress, name: str) -> str:
    """One line about a trial's last result and the whole sweep."""
    trial = progress.trials[name]
    parts = [f"epoch {trial.epochs_done}/{progress.plan.epochs}", f"{trial.env_steps:,} env steps"]
    speed = f", {trial.steps_per_s:,.0f} steps/s" if math.isfinite(trial.steps_per_s) else ""
    left = format_duration(progress.seconds_left())
    return (
        f"{format_clock(progress.elapsed):>8}  {_title(trial)}: {', '.join(parts)}{_return_part(trial)}{speed} "
        f"| sweep {100 * progress.share_done():.0f} %, about {left} left"
    )


def end_line(progress: SweepProgress, name: str) -> str:
    """One line about a trial that has ended, or that starts again after an error."""
    trial = progress.trials[name]
    final = f"done after {trial.env_steps:,} env steps{_return_part(trial)}"
    again = f"an error after epoch {trial.epochs_done}; trying again from its last checkpoint, if there is one"
    state = {DONE: final, FAILED: f"FAILED, see {trial.error_path}"}.get(trial.status, again)
    return f"{format_clock(progress.elapsed):>8}  {_title(trial)}: {state}"


def _return_part(trial: TrialProgress) -> str:
    if not trial.returns:
        return ""
    return f", return {format_number(interquartile_mean(list(trial.returns.values())))} (IQM of {len(trial.returns)})"


def _title(trial: TrialProgress) -> str:
    noun = "seeds" if len(trial.plan.seeds) > 1 else "seed"
    return f"{trial.plan.cell.label} ({noun} {format_seeds(trial.plan.seeds)})"
