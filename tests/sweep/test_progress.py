"""Progress from a made-up stream of Tune's events."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.sweep.conftest import with_settings
from vagram_ray.records.folder import RecordWriter, SweepFolder, make_record
from vagram_ray.sweep.plan.estimates import TrialEstimate
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.run.callbacks import FollowTrials
from vagram_ray.sweep.run.faults import Faults
from vagram_ray.sweep.run.trials import TrialQueue
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.view.progress import ProgressTable, ProgressView, SweepProgress, end_line, result_line

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


def text_of(progress: SweepProgress, max_height: int | None = None, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(ProgressTable(progress, max_height))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_cells_add_up_their_trials(progress: SweepProgress, make_result: Callable[..., dict[str, Any]]) -> None:
    progress.started(FIRST)
    progress.reported(FIRST, make_result(4, {0: 1.0, 1: 3.0}))
    progress.started(SECOND)
    progress.reported(SECOND, make_result(2, {2: 8.0}))
    first, other = progress.cells()
    assert (first.status, first.epochs_done, first.epochs_total) == ("running", 6, 20)
    assert (first.returns.count, first.returns.iqm) == (3, 4.0)
    assert first.steps_per_s == 100.0
    assert first.seconds_left == 8 * 2.0  # the slower of both: 8 epochs of 2 s
    assert (other.status, other.epochs_done, other.epochs_total) == ("waiting", 0, 10)
    assert progress.share_done() == pytest.approx(6 / 30)


def test_a_cell_runs_as_long_as_one_of_its_trials_does(progress: SweepProgress) -> None:
    assert progress.counts() == {"running": 0, "done": 0, "failed": 0, "stopped": 0, "waiting": 3}
    progress.started(FIRST)
    assert [cell.status for cell in progress.cells()] == ["running", "waiting"]
    progress.finished(FIRST)
    assert [cell.status for cell in progress.cells()] == ["waiting", "waiting"]


def test_time_left_follows_the_estimate_until_epochs_are_measured(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]]
) -> None:
    assert progress.seconds_left() == 200.0  # three trials of 100 s in two slots
    progress.started(FIRST)
    progress.reported(FIRST, make_result(1, {0: 1.0}, time_total_s=20.0))
    # 9 more epochs of 20 s; the others were planned with 10 s an epoch and are taken to be twice as slow, too.
    assert progress.seconds_left() == 380.0


def test_what_is_run_stands_in_the_first_line(make_plan_of: Callable[..., SweepPlan]) -> None:
    """Also where a setting that is no axis makes the task."""
    plan = make_plan_of({"model_loss=vagram": [(0, 1)], "model_loss=nll": [(0, 1)]})
    settings = {"env": "Pendulum-v1", "num_distractors": 5, "ensemble_size": 5, "num_layers": 2, "hidden_size": 64}
    plan = with_settings(plan, *({**settings, "model_loss": loss} for loss in ("vagram", "nll")))
    lines = text_of(SweepProgress(plan), width=140).splitlines()
    assert lines[0].strip() == "Pendulum-v1 | 5 distractors | vagram, nll | 2 seeds x 1,050 steps | model 5 x (2 x 64)"
    narrow = text_of(SweepProgress(plan), max_height=12, width=60).splitlines()
    assert narrow[0].strip() == "Pendulum-v1 | 5 distractors | vagram, nll"  # broken between parts alone
    assert len(narrow) <= 12


def test_nothing_is_red_while_all_goes_well(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]]
) -> None:
    def red() -> list[str]:
        console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="truecolor")
        console.print(ProgressTable(progress))
        codes = re.findall(r"\x1b\[([\d;]*)m", console.file.getvalue())  # type: ignore[attr-defined]
        colours = [re.search(r"38;2;(\d+);(\d+);(\d+)", code) for code in codes]
        mixed = [code for code, rgb in zip(codes, colours, strict=True) if rgb and int(rgb[1]) > 2 * int(rgb[2])]
        return mixed + [code for code in codes if {"31", "91"} & set(code.split(";"))]

    progress.started(FIRST)
    progress.reported(FIRST, make_result(3, {0: 1.0, 1: 3.0}))
    progress.started(OTHER)
    progress.finished(SECOND)
    assert not red()
    progress.failed(OTHER, "path/error.txt")
    assert red()


def test_intervals_of_few_seeds_are_grey(
    make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> None:
    few, many = tuple(range(2)), tuple(range(5))
    progress = SweepProgress(make_plan_of({"a=1": [few], "a=2": [many]}))
    for trial, seeds in zip(progress.trials, (few, many), strict=True):
        progress.reported(trial, make_result(3, {seed: 10.0 * (seed + 1) for seed in seeds}))
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard")
    console.print(ProgressTable(progress))
    rows = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert any("15.0\x1b[2m [10.0, 20.0]\x1b[0m" in row for row in rows)
    assert any("30.0 [" in row for row in rows)


def test_epochs_that_grow_are_foreseen(
    make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]], clock: Clock
) -> None:
    """Planned epochs of 1, 2, 3 and 4 s: when the first has taken 2 s, the others take twice as long, too."""
    plan = make_plan_of({"a=1": [(0,)], "a=2": [(0,)]}, epochs=4)
    growing = TrialEstimate(epoch_ends=(1.0, 3.0, 6.0, 10.0))
    plan = replace(plan, trials=tuple(replace(trial, estimate=growing) for trial in plan.trials))
    progress, (first, _) = SweepProgress(plan, clock), plan.trials
    progress.reported(first.name, make_result(1, {0: 1.0}))
    assert progress.cells()[0].seconds_left == pytest.approx(18.0)
    assert progress.seconds_left() == pytest.approx(20.0)  # the other trial has ten planned seconds
    progress.reported(first.name, make_result(2, {0: 1.0}))  # 4 s for 3: the factor goes down
    assert progress.cells()[0].seconds_left == pytest.approx(7 * 4 / 3)
    for epoch in (3, 2):  # back to a checkpoint: three measured epochs of 6 planned seconds
        progress.reported(first.name, make_result(epoch, {0: 1.0}))
    assert progress.cells()[0].seconds_left == pytest.approx(7 * 6 / 6)


def test_failures_show_and_failed_seeds_leave_the_return(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]]
) -> None:
    progress.reported(FIRST, make_result(1, {0: 1.0, 1: 3.0}))
    progress.reported(FIRST, make_result(2, {0: 1.0, 1: 3.0}, failed=(1,)))
    returns = progress.cells()[0].returns  # seed 1 counts as the worst; seed 2 has not reported yet
    assert (returns.count, returns.iqm) == (2, 1.0)
    assert "1 seed failed" in text_of(progress)
    assert "return 1.00 [1.00, 1.00] (IQM of 2, seed 1 as the worst)" in result_line(progress, FIRST)
    progress.reported(SECOND, make_result(2, {2: -7.0}))
    assert progress.cells()[0].returns.mean == pytest.approx((1 - 7 - 7) / 3)
    progress.failed(OTHER, "path/error.txt")
    assert "1 failed" in text_of(progress)
    assert progress.counts()["failed"] == 1
    assert "FAILED, see path/error.txt" in end_line(progress, OTHER)


def test_seeds_that_will_not_come_count_as_the_worst(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]]
) -> None:
    progress.reported(FIRST, make_result(1, {0: 1.0, 1: 3.0}))
    assert progress.cells()[0].returns.count == 2  # seed 2 is pending
    progress.failed(SECOND, "path/error.txt")
    returns = progress.cells()[0].returns
    assert (returns.count, returns.mean) == (3, pytest.approx((1 + 3 + 1) / 3))
    progress.retrying(SECOND, "path/error.txt")  # it may yet come
    assert progress.cells()[0].returns.count == 2
    progress.ended(10.0)  # interrupted
    assert progress.cells()[0].returns.count == 2
    progress.failed(SECOND, "path/error.txt")
    progress.failed(OTHER, "path/error.txt")
    assert progress.cells()[0].returns.mean == pytest.approx((1 + 3 + 1) / 3)
    assert progress.cells()[1].returns.count == 0  # no seed has a return, and so the cell has none


def test_the_table_stays_small_with_many_cells(make_plan_of: Callable[..., SweepPlan]) -> None:
    many = SweepProgress(make_plan_of({f"a={number}": [(0,)] for number in range(50)}))
    lines = text_of(many, max_height=12).splitlines()
    assert len(lines) == 12
    assert "... 45 more cells: 45 waiting" in lines[-3]
    many.started("a=49,seeds=0")
    many.failed("a=48,seeds=0", "path/error.txt")
    text = text_of(many, max_height=12)
    assert "a=49 " in text and "a=48 " in text  # what runs and what failed comes before what waits


@pytest.mark.parametrize(("width", "speed"), [(72, False), (80, True), (160, True)])
def test_the_table_fits_the_terminal(
    make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]], width: int, speed: bool
) -> None:
    seeds = tuple(range(8))
    plan = make_plan_of({f"num_distractors={number}": [seeds] for number in (5, 10)})
    axes = [{"num_distractors": 5, "model_loss": "vagram"}, {"num_distractors": 10, "model_loss": "none"}]
    cells = [
        replace(cell, axes=own, label=f"{cell.label}, {'x' * 20}") for cell, own in zip(plan.cells, axes, strict=True)
    ]
    trials = tuple(replace(trial, cell=cells[trial.cell.index]) for trial in plan.trials)
    wide = SweepProgress(replace(plan, cells=tuple(cells), trials=trials))
    for trial in wide.trials:
        wide.reported(trial, make_result(3, {seed: -1234.0 - 10 * seed for seed in seeds}))
    text = text_of(wide, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert len(re.findall(r"-1,269 \[-1,2\d\d, -1,2\d\d\]", text)) == 2
    assert ("steps/s" in text) == speed
    assert "…" not in text
    assert ("5, vagram " in text) == (width < 120)


def test_failures_stay_on_the_terminal_in_red_with_their_paths(progress: SweepProgress) -> None:
    progress.started(FIRST)
    progress.failed(OTHER, "/somewhere/else/error.txt")
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard")
    console.print(ProgressTable(progress))
    line = next(line for line in console.file.getvalue().splitlines() if "FAILED" in line)  # type: ignore[attr-defined]
    assert line.startswith("\x1b[31ma=2 (seeds 0-2) FAILED, see /somewhere/else/error.txt")


def test_a_trial_goes_on_after_an_error(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]], clock: Clock
) -> None:
    for epoch in (1, 2, 3):
        progress.reported(FIRST, make_result(epoch, {0: 1.0}))
    progress.retrying(FIRST, "path/error.txt")
    assert progress.counts()["running"] == 0
    assert "an error after epoch 3; trying again from its last checkpoint" in text_of(progress)
    assert "see path/error.txt" in end_line(progress, FIRST)
    progress.reported(FIRST, make_result(2, {0: 1.0}, time_total_s=104.0))  # 100 seconds were lost
    assert progress.cells()[0].seconds_left == 8 * 2.0
    assert "goes on after an error, see path/error.txt" in text_of(progress)
    progress.finished(FIRST)
    assert "error" not in text_of(progress)


def test_a_sweep_without_estimates_tells_the_time_left_from_its_own_epochs(
    make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]], clock: Clock
) -> None:
    plan = make_plan_of({"a=1": [(0, 1)], "a=2": [(0, 1, 2, 3)]}, epochs=10, seconds=None)
    progress = SweepProgress(plan, clock)
    assert "unknown time left" in text_of(progress)
    progress.reported(plan.trials[0].name, make_result(1, {0: 1.0}))  # 2 s for two seeds
    assert progress.seconds_left() == 10 * 4.0  # the trial that waits has four


def test_epochs_that_are_done_tell_the_time_where_a_cell_without_times_joins(
    make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]], clock: Clock
) -> None:
    timed, untimed = (make_plan_of({"a=1": [(0, 1)], "a=2": [(0, 1)]}, epochs=10, seconds=s) for s in (100.0, None))
    progress = SweepProgress(replace(timed, trials=timed.trials[:1]), clock)
    name = timed.trials[0].name
    progress.started(name)
    progress.reported(name, make_result(1, {0: 1.0}, time_total_s=20.0))
    assert progress.seconds_left() == 180.0
    progress.replanned(replace(timed, trials=(timed.trials[0], untimed.trials[1])))
    assert progress.cells()[0].seconds_left == 180.0 and progress.seconds_left() == 200.0


def test_silence_and_the_end_are_told(
    progress: SweepProgress, clock: Clock, make_result: Callable[..., dict[str, Any]]
) -> None:
    progress.reported(FIRST, make_result(1, {0: 1.0}))
    clock.now += 59.0
    assert "nothing new" not in text_of(progress)
    clock.now += 241.0
    assert "nothing new for 5 min" in text_of(progress)
    progress.finished(FIRST)
    progress.ended(100.0)
    text = text_of(progress)
    assert "1:40 elapsed; trials: 1 done, 2 stopped" in text
    assert "left" not in text.splitlines()[-1] and "nothing new" not in text


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
        "    0:04  a=1 (seeds 0-1): epoch 1/10, 150 env steps, return -100 [-100, -99.8] (IQM of 2), 50 steps/s "
        "| sweep 3 %, about 38 s left"
    )
    assert lines[3] == "    0:28  a=1 (seeds 0-1): done after 750 env steps, return -100 [-100, -99.8] (IQM of 2)"


def test_a_line_says_when_a_trial_is_tried_again(progress: SweepProgress) -> None:
    progress.started(FIRST)
    assert "trying again" in end_line(progress, FIRST)


def test_results_without_returns_have_lines_too(
    progress: SweepProgress, make_result: Callable[..., dict[str, Any]]
) -> None:
    progress.reported(FIRST, make_result(1, {}, perf={}))
    assert "epoch 1/10, 150 env steps |" in result_line(progress, FIRST)


def test_tunes_events_reach_records_and_progress(
    make_plan_of: Callable[..., SweepPlan], tmp_path: Path, make_result: Callable[..., dict[str, Any]]
) -> None:
    class Trial:
        """What Tune hands to callbacks; its error's text lies in a file."""

        pickled_error_file, error_file = str(tmp_path / "none.pkl"), str(tmp_path / "error")

        def __str__(self) -> str:
            return FIRST

    plan = make_plan_of({"a=1": [(0, 1), (2,)]})
    (tmp_path / "error").write_text("no such thing")
    progress, faults = SweepProgress(plan), Faults(tmp_path)
    queue = TrialQueue(plan, [FIRST], SweepStorage(str(tmp_path), "run"), faults)
    view = ProgressView(progress, Console(file=io.StringIO()))
    follow = FollowTrials(queue, faults, RecordWriter(tmp_path), view)
    trial: Any = Trial()
    follow.on_trial_start(1, [], trial)
    damage = "checkpoint_000003 is damaged. It is passed over."
    result = make_result(1, {0: 5.0, 1: 5.0}, failed=(1,), damaged_checkpoints=[damage], config={})
    follow.on_trial_result(1, [], trial, result)
    assert progress.trials[FIRST].epochs_done == 1
    assert len(SweepFolder(tmp_path).records(FIRST)) == 1
    assert progress.warnings == [f"{FIRST}: {damage}", f"{FIRST}: seed 1 died in epoch 1: its networks became NaN."]
    assert not {"seeds", "config"} & set(result)
    follow.on_trial_error(1, [], trial)
    shown = progress.trials[FIRST]
    assert (shown.status, shown.retries, shown.reason) == ("waiting", 1, "no such thing")
    assert shown.error_path == str(tmp_path / FIRST / "error.txt")
    for _ in range(2):
        follow.on_trial_error(1, [], trial)
    assert (shown.status, shown.error_path) == ("failed", str(tmp_path / FIRST / "error.txt"))


def test_what_was_recorded_before_counts_from_the_start(
    progress: SweepProgress, clock: Clock, make_result: Callable[..., dict[str, Any]]
) -> None:
    clock.now += 100  # making the plan took its time
    progress.restored(FIRST, [make_record(make_result(epoch, {0: 1.0, 1: 3.0})) for epoch in range(1, 11)])
    progress.restored(SECOND, [make_record(make_result(epoch, {2: 8.0}, failed=(2,))) for epoch in range(1, 5)])
    first, other = progress.cells()
    assert (first.status, first.epochs_done, first.epochs_total) == ("waiting", 14, 20)
    assert (first.returns.count, first.failed_seeds, first.steps_per_s) == (3, 1, 0.0)  # seed 2 as the worst
    assert progress.share_done() == 14 / 30
    assert progress.counts() == {"running": 0, "done": 1, "failed": 0, "stopped": 0, "waiting": 2}
    # Epochs of 2 s were measured: 6 of a trial that goes on, and 10 of the other, beside each other.
    assert progress.seconds_left() == 20.0
    assert progress.silence == 100.0
    progress.started(SECOND)
    progress.reported(SECOND, make_result(3, {2: 8.0}))  # the epoch of its checkpoint once more
    progress.reported(SECOND, make_result(4, {2: 8.0}))
    assert progress.trials[SECOND].epochs_done == 4
    assert [seconds for _, _, seconds in progress.trials[SECOND].recent] == [2.0] * 5
