"""Progress from a made-up stream of Tune's events."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vagram_ray.sweep.callbacks import RecordResults, ShowProgress
from vagram_ray.sweep.plan import SweepPlan
from vagram_ray.sweep.progress import ProgressView, SweepProgress, end_line, render_progress, result_line
from vagram_ray.sweep.results import read_records

FIRST, SECOND, OTHER = "a=1,seeds=0-1", "a=1,seeds=2", "a=2,seeds=0-1-2"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(make_plan_of: Callable[..., SweepPlan], clock: Clock) -> SweepProgress:
    return SweepProgress(make_plan_of({"a=1": [(0, 1), (2,)], "a=2": [(0, 1, 2)]}, epochs=10), clock)


def text_of(progress: SweepProgress, max_rows: int = 30) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(render_progress(progress, max_rows))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_cells_add_up_their_trials(progress: SweepProgress, make_result: Callable[..., dict[str, Any]]) -> None:
    progress.started(FIRST)
    progress.reported(FIRST, make_result(4, {0: 1.0, 1: 3.0}))
    progress.started(SECOND)
    progress.reported(SECOND, make_result(2, {2: 8.0}))
    first, other = progress.cells()
    assert (first.status, first.epochs_done, first.epochs_total) == ("running", 6, 20)
    assert first.return_iqm == 4.0
    assert first.steps_per_s == 100.0
    assert first.seconds_left == 8 * 2.0  # the slower of both: 8 epochs of 2 s
    assert (other.status, other.epochs_done, other.epochs_total) == ("waiting", 0, 10)
    assert progress.share_done() == pytest.approx(6 / 30)


def test_trials_whose_processes_are_on_their_way_are_starting(progress: SweepProgress) -> None:
    assert progress.counts() == {"running": 0, "starting": 2, "done": 0, "failed": 0, "waiting": 1}
    assert [cell.status for cell in progress.cells()] == ["starting", "waiting"]
    progress.started(FIRST)
    progress.finished(FIRST)
    assert [cell.status for cell in progress.cells()] == ["starting", "starting"]


def test_time_left_follows_the_estimate_until_epochs_are_measured(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]]
) -> None:
    assert progress.seconds_left() == 200.0  # three trials of 100 s in two slots
    progress.started(FIRST)
    progress.reported(FIRST, make_result(1, {0: 1.0}, time_this_iter_s=20.0))
    # 9 more epochs of 20 s; the others were planned with 10 s an epoch and are taken to be twice as slow, too.
    assert progress.seconds_left() == 380.0


def test_failures_show_and_failed_seeds_leave_the_return(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]]
) -> None:
    progress.reported(FIRST, make_result(1, {0: 1.0, 1: 3.0}))
    progress.reported(FIRST, make_result(2, {0: 1.0, 1: 3.0}, failed=(1,)))
    assert progress.cells()[0].return_iqm == 1.0
    assert "1 seeds failed" in text_of(progress)
    progress.failed(OTHER, "path/error.txt")
    assert "1 failed" in text_of(progress)
    assert progress.counts()["failed"] == 1
    assert "FAILED, see path/error.txt" in end_line(progress, OTHER)


def test_the_table_stays_small_with_many_cells(make_plan_of: Callable[..., SweepPlan]) -> None:
    many = SweepProgress(make_plan_of({f"a={number}": [(0,)] for number in range(50)}))
    assert "... 48 more cells" in text_of(many, max_rows=10)


def test_plain_lines_come_at_most_every_few_seconds_and_at_every_end(
    progress: SweepProgress, clock: Clock, make_result: Callable[..., dict[str, Any]]
) -> None:
    console = Console(file=io.StringIO(), width=80)
    with ProgressView(progress, console, interval_s=10.0) as view:
        for epoch in range(1, 8):
            clock.now += 4.0
            progress.reported(FIRST, make_result(epoch, {0: -100.25, 1: -99.75}))
            view.reported(FIRST)
        progress.finished(FIRST)
        view.ended(FIRST)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[0] for line in lines] == ["0:04", "0:16", "0:28", "0:28"]
    assert lines[0] == (
        "    0:04  a=1 (seeds 0-1): epoch 1/10, 150 env steps, return -100 (IQM of 2), 50 steps/s "
        "| sweep 3 %, about 38 s left"
    )
    assert lines[3] == "    0:28  a=1 (seeds 0-1): done after 750 env steps, return -100 (IQM of 2)"


def test_a_line_says_when_a_trial_is_tried_again(progress: SweepProgress) -> None:
    progress.started(FIRST)
    assert "trying again" in end_line(progress, FIRST)


def test_results_without_returns_have_lines_too(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]]
) -> None:
    progress.reported(FIRST, make_result(1, {}, perf={}))
    assert "epoch 1/10, 150 env steps |" in result_line(progress, FIRST)


def test_tunes_events_reach_records_and_progress(
    progress: SweepProgress, tmp_path: Path, make_result: Callable[..., dict[str, Any]]
) -> None:
    class Trial:
        path = "storage/trial"

        def __str__(self) -> str:
            return FIRST

    show = ShowProgress(progress, ProgressView(progress, Console(file=io.StringIO())))
    record = RecordResults(tmp_path)
    trial: Any = Trial()
    show.on_trial_start(1, [], trial)
    for callback in (show, record):
        callback.on_trial_result(1, [], trial, make_result(1, {0: 5.0}))
    assert progress.trials[FIRST].epochs_done == 1
    assert len(read_records(tmp_path, FIRST)) == 1
    show.on_trial_recover(1, [], trial)
    show.on_trial_error(1, [], trial)
    assert progress.trials[FIRST].error_path == "storage/trial/error.txt"
    # A restored sweep goes on without this terminal.
    restored = pickle.loads(pickle.dumps(show))
    restored.on_trial_result(2, [], trial, make_result(2, {0: 6.0}))
    restored.on_trial_complete(2, [], trial)
    assert progress.trials[FIRST].epochs_done == 1
