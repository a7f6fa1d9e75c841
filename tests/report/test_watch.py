"""The live view of a sweep elsewhere: files that grow as a sweep lets them grow."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.report.synthetic import RETURN, write_sweep
from vagram_ray.commands import InputError
from vagram_ray.report.watch import SweepWatch, watch_sweep
from vagram_ray.sweep.view.progress import ProgressTable, ProgressView

VAGRAM, NLL = "model_loss=vagram,seeds=0-1", "model_loss=nll,seeds=0-1"
EPOCHS = 4
STARTED = "2026-11-22T12:00:00+00:00"
STARTED_S = 1795348800.0


def record(epoch: int, returns: dict[int, float], total_s: float | None = None) -> str:
    seeds = {str(seed): {RETURN: value, "failed": 0} for seed, value in returns.items()}
    times = {"time_total_s": 10.0 * epoch if total_s is None else total_s, "time": {}}
    speed = {"perf": {"env_steps_per_s": 20.0}}
    return json.dumps({"training_iteration": epoch, "env_steps": 50 + 100 * epoch, **times, **speed, "seeds": seeds})


class Sweep:
    """Writes a sweep's files; ``now`` is the time of its clock and of its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = STARTED_S
        returns = {"vagram": {0: [0.0], 1: [0.0]}, "nll": {0: [0.0], 1: [0.0]}}
        machine = {"cpus": 1, "gpus": 0}
        write_sweep(folder, returns, epochs=EPOCHS, ended=False, started=STARTED, machine=machine)
        for path in (folder / "records").iterdir():
            path.unlink()

    def append(self, trial: str, text: str, *, newline: bool = True) -> None:
        self._write(self.folder / "records" / f"{trial}.jsonl", text + ("\n" if newline else ""))

    def epoch(self, trial: str, epoch: int) -> None:
        self.append(trial, record(epoch, {0: 1.0 * epoch, 1: 3.0 * epoch}))

    def error(self, trial: str, number: int) -> None:
        (self.folder / trial).mkdir(exist_ok=True)
        self._write(self.folder / trial / "error.txt", f"Failure {number} (at noon)\nTraceback ...\nRuntimeError: no\n")

    def launch(self, before: list[dict[str, Any]], **info: Any) -> None:
        """The same command again, now."""
        path = self.folder / "sweep.json"
        started = datetime.fromtimestamp(self.now, UTC).isoformat(timespec="seconds")
        content = json.loads(path.read_text()) | info | {"launches": [*before, {"started": started}]}
        path.unlink()
        self._write(path, json.dumps(content))

    def end(self, **info: Any) -> None:
        path = self.folder / "sweep.json"
        content = (
            json.loads(path.read_text()) | {"wall_time_s": 100.0, "interrupted": False, "failed_trials": {}} | info
        )
        path.unlink()
        self._write(path, json.dumps(content))

    def _write(self, path: Path, text: str) -> None:
        with path.open("a") as file:
            file.write(text)
        os.utime(path, (self.now, self.now))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path / "a-sweep")


@pytest.fixture
def watch(sweep: Sweep) -> SweepWatch:
    return SweepWatch(sweep.folder, clock=lambda: sweep.now)


def text_of(watch: SweepWatch) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(ProgressTable(watch.progress))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_progress_follows_the_records(sweep: Sweep, watch: SweepWatch) -> None:
    watch.poll()
    assert [cell.status for cell in watch.progress.cells()] == ["waiting", "waiting"]
    sweep.now += 10
    sweep.epoch(VAGRAM, 1)
    sweep.epoch(VAGRAM, 2)
    watch.poll()
    vagram, nll = watch.progress.cells()
    assert (vagram.status, vagram.epochs_done, vagram.epochs_total) == ("running", 2, EPOCHS)
    assert (vagram.returns.iqm, vagram.steps_per_s) == (4.0, 20.0)
    assert vagram.seconds_left == 2 * 10.0
    assert watch.progress.seconds_left() == (2 + EPOCHS) * 10.0  # the other trial has as many seeds
    assert nll.status == "waiting"
    for epoch in (3, 4):
        sweep.epoch(VAGRAM, epoch)
    sweep.epoch(NLL, 1)
    watch.poll()
    assert [cell.status for cell in watch.progress.cells()] == ["done", "running"]
    assert "0:10 elapsed, about 30 s left; trials: 1 running, 1 done" in text_of(watch)


def test_a_trial_ends_with_its_last_seed(sweep: Sweep, watch: SweepWatch) -> None:
    """As in the driver's own view, also for who begins to watch later, or after another launch."""
    dead = json.loads(record(2, {0: 1.0, 1: 3.0}))
    for metrics in dead["seeds"].values():
        metrics["failed"] = 1
    sweep.epoch(VAGRAM, 1)
    sweep.append(VAGRAM, json.dumps(dead))
    watch.poll()
    assert [cell.status for cell in watch.progress.cells()] == ["done", "waiting"]
    sweep.now += 100
    sweep.launch([{"started": STARTED}])
    later = SweepWatch(sweep.folder, clock=lambda: sweep.now)
    later.poll()
    assert [cell.status for cell in later.progress.cells()] == ["done", "waiting"]


def test_half_lines_are_read_when_they_are_whole(sweep: Sweep, watch: SweepWatch) -> None:
    whole = record(1, {0: 1.0, 1: 1.0})
    for text, epochs in ((whole[:30], 0), (whole[30:] + "\n", 1), (whole[:30] + "\n", 1)):  # a killed process's half
        sweep.append(VAGRAM, text, newline=False)
        watch.poll()
        assert watch.progress.trials[VAGRAM].epochs_done == epochs
    sweep.epoch(VAGRAM, 2)
    watch.poll()
    assert watch.progress.trials[VAGRAM].epochs_done == 2


def test_a_trial_that_went_back_to_a_checkpoint_counts_its_epochs_once(sweep: Sweep, watch: SweepWatch) -> None:
    for epoch in (1, 2, 3, 2):
        sweep.epoch(VAGRAM, epoch)
    watch.poll()
    assert watch.progress.cells()[0].epochs_done == 2


def test_errors_show_with_their_paths(sweep: Sweep, watch: SweepWatch) -> None:
    sweep.epoch(VAGRAM, 1)
    watch.poll()
    for number in (1, 2):
        sweep.now += 5
        sweep.error(VAGRAM, number)
        watch.poll()
        assert "an error after epoch 1 (RuntimeError: no); trying again" in text_of(watch)
    sweep.now += 5
    sweep.epoch(VAGRAM, 2)
    watch.poll()
    assert "goes on after an error" in text_of(watch)
    for number in (3, 4, 5):  # three in a row: it is not started again
        assert watch.progress.counts()["failed"] == 0
        sweep.now += 5
        sweep.error(VAGRAM, number)
        watch.poll()
    assert watch.progress.counts()["failed"] == 1
    (trial,) = watch.progress.troubled()
    assert trial.error_path == str(sweep.folder / VAGRAM / "error.txt")


def test_an_error_before_the_newest_records_is_past(sweep: Sweep, watch: SweepWatch) -> None:
    sweep.epoch(VAGRAM, 1)
    sweep.error(VAGRAM, 1)
    sweep.now += 5
    sweep.epoch(VAGRAM, 2)
    watch.poll()
    assert [cell.status for cell in watch.progress.cells()] == ["running", "waiting"]
    assert "goes on after an error" in text_of(watch)


def test_the_end_tells_of_failed_and_stopped_trials(sweep: Sweep, watch: SweepWatch) -> None:
    sweep.epoch(VAGRAM, 1)
    watch.poll()
    assert not watch.ended
    sweep.now += 50
    sweep.end(failed_trials={VAGRAM: "elsewhere/error.txt"}, interrupted=True)
    watch.poll()
    assert watch.ended
    assert [cell.status for cell in watch.progress.cells()] == ["failed", "stopped"]
    assert "FAILED, see elsewhere/error.txt" in text_of(watch)
    assert "1:40 elapsed; trials: 1 failed, 1 stopped" in text_of(watch)


def test_failures_count_from_the_newest_epoch(sweep: Sweep, watch: SweepWatch) -> None:
    for epoch in (1, 2, 3, 4):
        sweep.epoch(VAGRAM, epoch)
        watch.poll()
        sweep.now += 5
        sweep.error(VAGRAM, epoch)
        watch.poll()
        assert watch.progress.counts()["failed"] == 0  # four in all, but never two in a row
        sweep.now += 5


def test_a_sweep_that_goes_on_is_not_counted_as_ended(sweep: Sweep) -> None:
    for epoch in range(1, EPOCHS + 1):
        sweep.epoch(VAGRAM, epoch)
    sweep.epoch(NLL, 1)
    sweep.error(NLL, 3)
    sweep.now += 50
    sweep.launch([{"started": STARTED, "wall_time_s": 40.0, "ended": "interrupted"}])
    sweep.now += 10
    watch = SweepWatch(sweep.folder, clock=lambda: sweep.now)
    watch.poll()
    assert not watch.ended
    assert watch.progress.elapsed == 40.0 + 10.0
    assert [cell.status for cell in watch.progress.cells()] == ["done", "waiting"]  # its error was in the last launch
    assert watch.progress.troubled() == []
    sweep.epoch(NLL, 1)  # the epoch of its checkpoint once more
    watch.poll()
    assert [cell.status for cell in watch.progress.cells()] == ["done", "running"]
    assert watch.progress.cells()[1].epochs_done == 1


def test_a_launch_while_one_watches_begins_anew(sweep: Sweep, watch: SweepWatch) -> None:
    sweep.epoch(VAGRAM, 1)
    watch.poll()
    before = watch.progress
    sweep.now += 50  # the process was killed; more epochs and a divided pack are asked for
    one = {"name": f"{NLL}a", "cell": 1, "seeds": [0]}, {"name": f"{NLL}b", "cell": 1, "seeds": [1]}
    trials = [{"name": VAGRAM, "cell": 0, "seeds": [0, 1]}, *one]
    sweep.launch([{"started": STARTED, "wall_time_s": 20.0, "ended": "killed"}], epochs=8, trials=trials)
    told: list[str] = []

    class View(ProgressView):
        def reported(self, name: str) -> None:
            told.append(name)

    watch.poll(View(before, Console(file=io.StringIO())))
    assert watch.progress is not before
    assert [(cell.epochs_done, cell.epochs_total) for cell in watch.progress.cells()] == [(1, 8), (0, 16)]
    assert told == []  # what is past is no news
    sweep.epoch(VAGRAM, 2)
    after = watch.progress
    watch.poll(View(after, Console(file=io.StringIO())))
    assert watch.progress is after
    assert told == [VAGRAM]


def test_a_sweep_that_says_nothing_is_noticed(sweep: Sweep) -> None:
    sweep.epoch(VAGRAM, 1)
    sweep.now += 600
    watch = SweepWatch(sweep.folder, clock=lambda: sweep.now)
    watch.poll()
    assert "nothing new for 10 min" in text_of(watch)


def test_a_log_gets_the_present_state_then_what_is_new_until_the_end(sweep: Sweep) -> None:
    sweep.epoch(VAGRAM, 1)
    steps = iter(
        [
            lambda: sweep.epoch(VAGRAM, 2),
            lambda: [sweep.epoch(VAGRAM, epoch) for epoch in (3, 4)],
            lambda: [sweep.epoch(NLL, epoch) for epoch in range(1, EPOCHS + 1)],
            sweep.end,
        ]
    )
    console = Console(file=io.StringIO(), width=120)
    watch = watch_sweep(sweep.folder, console, sleep=lambda seconds: next(steps)())
    assert watch.ended
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].strip() == "vagram, nll | 2 seeds x 450 steps"
    assert "model_loss=vagram" in lines[4] and "1/4" in lines[4]
    events = [line.split("  ", maxsplit=2)[-1].strip() for line in lines if "seeds 0-1" in line]
    assert [event[: event.index(",")] for event in events] == [
        "model_loss=vagram (seeds 0-1): epoch 2/4",
        "model_loss=vagram (seeds 0-1): done after 450 env steps",
        "model_loss=nll (seeds 0-1): done after 450 env steps",
    ]
    assert lines[-1] == "The sweep ended after 2 min."


def test_a_sweep_that_has_ended_is_shown_once(sweep: Sweep) -> None:
    for trial in (VAGRAM, NLL):
        for epoch in range(1, EPOCHS + 1):
            sweep.epoch(trial, epoch)
    sweep.end()
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    watch_sweep(sweep.folder, console, sleep=lambda seconds: pytest.fail("it waited for more"))
    assert console.file.getvalue().count("model_loss=vagram") == 1  # type: ignore[attr-defined]


def test_the_view_is_told_of_new_results_only(sweep: Sweep, watch: SweepWatch) -> None:
    told: list[str] = []

    class View(ProgressView):
        def reported(self, name: str) -> None:
            told.append(name)

    view = View(watch.progress, Console(file=io.StringIO()))
    sweep.epoch(VAGRAM, 1)
    for _ in range(3):
        watch.poll(view)
    assert told == [VAGRAM]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is not the folder of a sweep"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"cells": [], "trials": []}', "is damaged"),
    ],
)
def test_what_is_no_sweep_is_refused_in_a_sentence(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=words):
        SweepWatch(tmp_path)
