"""How far a sweep is, as people see it: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vagram_ray.records.seed_statistics import MIN_SEEDS, SeedStatistics
from vagram_ray.records.terminal import FirstThatFits, TaskLine, axis_names, short_name, short_title
from vagram_ray.sweep.view.progress_state import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    WAITING,
    CellProgress,
    SweepProgress,
    TrialProgress,
    return_statistics,
)
from vagram_ray.text import (
    format_clock,
    format_duration,
    format_number,
    format_seeds,
    plural,
    short_path,
)

__all__ = ["DONE", "FAILED", "STOPPED", "ProgressTable", "ProgressView", "SweepProgress", "end_line", "result_line"]

LOG_INTERVAL_S = 10.0
_BAR = 8
MAX_TROUBLES = 6
"""Failed trials that are told of below the live table."""
_SILENCE_S, _FIRST_SILENCE_S = 60.0, 600.0
"""Seconds without news that are told of, at least, and before the first epoch of the sweep."""
_STYLES = {WAITING: "dim", RUNNING: "", DONE: "green", FAILED: "red", STOPPED: "yellow"}


# -- the live table --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """Columns of the table. The first layout that fits the terminal is taken."""

    axis_names: bool
    """Whether every row repeats the names of the axes. Otherwise they stand above the column."""
    speed: bool
    interval: bool


_LAYOUTS = (
    _Layout(axis_names=True, speed=True, interval=True),
    _Layout(axis_names=False, speed=True, interval=True),
    _Layout(axis_names=False, speed=False, interval=True),
    _Layout(axis_names=False, speed=False, interval=False),
)


class ProgressTable:
    """The live table: one row per cell, what failed, and a line about the whole sweep.

    Names and columns are shortened until the table fits the width it is given. With ``max_height`` as many cells are
    shown as fit, those that are running or failed before others. What is run stands in the first line.
    """

    def __init__(self, progress: SweepProgress, max_height: int | None = None) -> None:
        self._progress, self._max_height = progress, max_height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells, task = self._progress.cells(), self._progress.plan.task
        axes = axis_names(row.cell.axes for row in cells)
        above: list[RenderableType] = [TaskLine(task), ""] if task else []
        below: list[RenderableType] = ["", *_troubles(self._progress), _status_line(self._progress)]
        head = max(1, len(axes)) + 1 + len(console.render_lines(Group(*above, *below), options))
        shown = _choose(cells, None if self._max_height is None else self._max_height - head)
        table = FirstThatFits(*(_table(shown, axes, layout) for layout in _LAYOUTS))
        yield Group(*above, table, *_others(cells, shown), *below)


def _choose(cells: Sequence[CellProgress], max_rows: int | None) -> Sequence[CellProgress]:
    """The cells to show, in their own order: what is going on first, then from the top."""
    if max_rows is None or len(cells) <= max_rows:
        return cells
    ranks = {RUNNING: 0, FAILED: 1}
    by_interest = sorted(cells, key=lambda row: ranks.get(row.status, 2))
    chosen = {row.cell.index for row in by_interest[: max(1, max_rows - 1)]}  # a line tells of the others
    return [row for row in cells if row.cell.index in chosen]


def _table(shown: Sequence[CellProgress], axes: Sequence[str], layout: _Layout) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("cell" if layout.axis_names else short_title(axes), overflow="ellipsis", no_wrap=True)
    table.add_column("", width=_BAR)
    speed = ["steps/s"] if layout.speed else []
    for title in ("epochs", "return (IQM, 95 %)" if layout.interval else "return", *speed, "left"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in shown:
        label = row.cell.label if layout.axis_names else short_name(row.cell.label, row.cell.axes, axes)
        bar = ProgressBar(total=row.epochs_total, completed=row.epochs_done, width=_BAR, complete_style="cyan")
        steps = [Text(f"{row.steps_per_s:,.0f}" if row.steps_per_s else "-")] if layout.speed else []
        epochs, returns = Text(f"{row.epochs_done}/{row.epochs_total}"), _return(row.returns, layout.interval)
        table.add_row(Text(label, style=_STYLES[row.status]), bar, epochs, returns, *steps, _state(row))
    return table


def _others(cells: Sequence[CellProgress], shown: Sequence[CellProgress]) -> list[Text]:
    """A line about the cells that are not shown, if there are any."""
    chosen = {row.cell.index for row in shown}
    statuses = [row.status for row in cells if row.cell.index not in chosen]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    line = f"... {plural(len(statuses), 'more cell')}: {counts}"
    return [Text(line, style="dim", no_wrap=True, overflow="ellipsis")] if statuses else []


def _state(row: CellProgress) -> Text:
    if row.failed_trials:
        return Text(f"{row.failed_trials} failed", style="red")
    if row.failed_seeds:
        return Text(f"{plural(row.failed_seeds, 'seed')} failed", style="red")
    if row.status == RUNNING:
        return Text(_time_left(row.seconds_left))
    return Text(row.status, style=_STYLES[row.status])


def _troubles(progress: SweepProgress) -> list[Text]:
    """One line per trial that failed, with the path of its log in full."""
    troubled = progress.troubled()
    limits = progress.fit_limit_warnings()
    more = [f"... and {plural(len(limits) - MAX_TROUBLES, 'more cell')} whose fits reach their limit"]
    sentences = [*progress.warnings, *limits[:MAX_TROUBLES], *(more if len(limits) > MAX_TROUBLES else [])]
    lines = [Text(sentence, style="yellow", overflow="fold") for sentence in sentences]
    for trial in troubled[:MAX_TROUBLES]:
        if trial.status == FAILED:
            line = Text(f"{_title(trial)} {_failed(trial)}", style="red")
        else:
            line = Text(f"{_title(trial)}: {_again(trial)}", style="yellow")
        line.overflow = "fold"
        lines.append(line)
    if len(troubled) > MAX_TROUBLES:
        lines.append(Text(f"... and {len(troubled) - MAX_TROUBLES} more trials with errors", style="red"))
    return [*lines, Text("")] if lines else []


def _status_line(progress: SweepProgress) -> Text:
    counts = ", ".join(f"{count} {status}" for status, count in progress.counts().items() if count)
    counts += f", {progress.plan.to_come} to be suggested" if progress.plan.to_come else ""
    unfinished = any(progress.counts()[status] for status in (RUNNING, WAITING))
    left = progress.seconds_left()
    parts = [f"{format_clock(progress.elapsed)} elapsed", *([_about(left)] if unfinished else [])]
    line = Text(f"{', '.join(parts)}; trials: {counts}", style="dim")
    longest = progress.longest_epoch()
    patience = max(_SILENCE_S, 3 * longest) if math.isfinite(longest) else _FIRST_SILENCE_S
    if unfinished and progress.silence > patience:
        line.append(f"; nothing new for {format_duration(progress.silence)}", style="yellow")
    return line


class ProgressView:
    """Shows progress on a console: a table that is redrawn on a terminal, plain lines anywhere else.

    Plain lines are at most one every ``interval_s`` seconds, except for trials that end.
    """

    def __init__(self, progress: SweepProgress, console: Console, interval_s: float = LOG_INTERVAL_S) -> None:
        self.progress, self.console, self.interval_s = progress, console, interval_s
        self._last_line = -math.inf
        self._told: set[str] = set()
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                console=console,
                refresh_per_second=2,
                get_renderable=lambda: ProgressTable(progress, console.size.height - 1),
                vertical_overflow="visible",
            )

    def __enter__(self) -> ProgressView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def reported(self, name: str) -> None:
        """Tell about a trial's new result."""
        now = self.progress.elapsed
        if self._live is None and now - self._last_line >= self.interval_s:
            self._last_line = now
            self._print(result_line(self.progress, name))
            self._tell_fit_limits()

    def ended(self, name: str) -> None:
        """Tell about the end of a trial, or about a new start after an error."""
        if self._live is None:
            self._print(end_line(self.progress, name))

    def _tell_fit_limits(self) -> None:
        """Tell, once per cell, of fits that reach their limit: the share changes with every epoch."""
        for sentence in self.progress.fit_limit_warnings():
            cell = sentence.partition(": ")[0]
            if cell not in self._told:
                self._told.add(cell)
                self._print(f"{format_clock(self.progress.elapsed):>8}  {sentence}")

    def warn(self, sentence: str) -> None:
        """Tell, once, of something that cannot be done while the sweep goes on."""
        if self.progress.warned(sentence) and self._live is None:
            self._print(f"{format_clock(self.progress.elapsed):>8}  {sentence}")

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)


# -- lines for a log -------------------------------------------------------------------------------------------


def result_line(progress: SweepProgress, name: str) -> str:
    """One line about a trial's last result and the whole sweep."""
    trial = progress.trials[name]
    parts = [f"epoch {trial.epochs_done}/{progress.plan.epochs}", f"{trial.env_steps:,} env steps"]
    speed = f", {trial.steps_per_s:,.0f} steps/s" if math.isfinite(trial.steps_per_s) else ""
    return (
        f"{format_clock(progress.elapsed):>8}  {_title(trial)}: {', '.join(parts)}{_return_part(trial)}{speed} "
        f"| sweep {100 * progress.share_done():.0f} %, {_about(progress.seconds_left())}"
    )


def end_line(progress: SweepProgress, name: str) -> str:
    """One line about a trial that has ended, or that starts again after an error."""
    trial = progress.trials[name]
    final = f"done after {trial.env_steps:,} env steps{_return_part(trial)}"
    early = f"stopped by {trial.stopped_by} after epoch {trial.epochs_done}{_return_part(trial)}"
    state = {DONE: final, STOPPED: early, FAILED: _failed(trial)}.get(trial.status, _again(trial))
    return f"{format_clock(progress.elapsed):>8}  {_title(trial)}: {state}"


def format_return(returns: SeedStatistics) -> str:
    """``-144 [-177, -120]``: interquartile mean and its 95 % interval, as far as there are seeds for it."""
    if math.isnan(returns.low):
        return format_number(returns.iqm)
    return f"{format_number(returns.iqm)} [{format_number(returns.low)}, {format_number(returns.high)}]"


def _time_left(seconds: float) -> str:
    return format_duration(max(1.0, seconds))


def _about(seconds: float) -> str:
    """``about 19 s left``."""
    return f"about {_time_left(seconds)} left" if math.isfinite(seconds) else "unknown time left"


def _return(returns: SeedStatistics, interval: bool) -> Text:
    """The return for the table. The interval of few seeds is grey, as in the report."""
    if not interval:
        return Text(format_number(returns.iqm))
    text = Text(format_return(returns))
    if returns.count < MIN_SEEDS:
        text.stylize("dim", len(format_number(returns.iqm)))
    return text


def _failed(trial: TrialProgress) -> str:
    return f"FAILED{_reason(trial)}, see {_shown(trial.error_path)}"


def _again(trial: TrialProgress) -> str:
    where = f", see {_shown(trial.error_path)}" if trial.error_path else ""
    if trial.retries and trial.status == RUNNING:
        return f"goes on after an error{_reason(trial)}{where}"
    after = f"after epoch {trial.epochs_done}" if trial.epochs_done else "before its first epoch was done"
    return f"an error {after}{_reason(trial)}; trying again from its last checkpoint, if there is one{where}"


def _reason(trial: TrialProgress) -> str:
    return f" ({trial.reason})" if trial.reason else ""


def _shown(path: str) -> str:
    """A path as short as it can be written from here. Places in a bucket stay as they are."""
    return short_path(path) if os.path.isabs(path) else path


def _return_part(trial: TrialProgress) -> str:
    if not trial.returns:
        return ""
    returns = return_statistics(tuple(sorted(trial.counted_returns.values())))
    lost = sorted(trial.lost_seeds)
    worst = f", {'seeds' if len(lost) > 1 else 'seed'} {format_seeds(lost)} as the worst" if lost else ""
    return f", return {format_return(returns)} (IQM of {returns.count}{worst})"


def _title(trial: TrialProgress) -> str:
    noun = "seeds" if len(trial.plan.seeds) > 1 else "seed"
    return f"{trial.plan.cell.label} ({noun} {format_seeds(trial.plan.seeds)})"
