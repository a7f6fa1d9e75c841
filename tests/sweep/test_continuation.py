"""What a command finds in the storage, and what of it is still to be run."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.sweep.conftest import with_settings
from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.launches import begin_launch, end_launch
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.resume import continuation as module
from vagram_ray.sweep.resume.continuation import Continuation, continue_sweep, describe_new, set_aside
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lock import DriverLock
from vagram_ray.sweep.view.plan import Surroundings, render_plan

STARTED = {"started": "2026-11-22T12:00:00+00:00", "git_commit": "abc", "versions": {"torch": "2"}}


@pytest.fixture(autouse=True)
def same_software(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "git_commit", lambda: "abc")
    monkeypatch.setattr(module, "versions", lambda: {"torch": "2"})


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepStorage:
    monkeypatch.chdir(tmp_path)
    return SweepStorage("results", "run")


@pytest.fixture
def plan(make_plan_of: Callable[..., SweepPlan]) -> SweepPlan:
    """Three trials of ten epochs and 100 s each."""
    return in_x(make_plan_of({"utd_ratio=1": [(0, 1), (2,)], "utd_ratio=2": [(0, 1, 2)]}))


def in_x(plan: SweepPlan, **more: Any) -> SweepPlan:
    return with_settings(plan, *({"env": "X", "utd_ratio": int(cell.axes["utd_ratio"]), **more} for cell in plan.cells))


@pytest.fixture
def started(plan: SweepPlan, storage: SweepStorage, make_result: Callable[..., dict[str, Any]]) -> Continuation:
    """A sweep that was interrupted: one trial has come to its end, one to its fourth epoch, one has not begun."""
    with DriverLock(storage) as lock:
        new = continue_sweep(plan, storage, lock, restart=False, seeds_per_trial=None)
        begin_launch(SweepFolder(storage.folder), plan_content(plan), new.sweep_id, STARTED)
        for trial, epochs in zip(plan.trials, (10, 4, 0), strict=True):
            for epoch in range(1, epochs + 1):
                SweepFolder(storage.folder).append(trial.name, make_result(epoch, dict.fromkeys(trial.seeds, 1.0)))
        end_launch(SweepFolder(storage.folder), 50.0, "interrupted", {})
    return new


def again(plan: SweepPlan, storage: SweepStorage, *, dry: bool = False, **options: Any) -> Continuation:
    choices: dict[str, Any] = {"restart": False, "seeds_per_trial": None, **options}
    if dry:
        return continue_sweep(plan, storage, None, **choices)
    with DriverLock(storage) as lock:
        return continue_sweep(plan, storage, lock, **choices)


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(SweepError) as error:
        again(*args, **options)
    return error.value.format_message()


def names(continuation: Continuation) -> list[str]:
    return [trial.name for trial in continuation.todo]


def test_a_new_sweep_runs_everything(plan: SweepPlan, storage: SweepStorage) -> None:
    new = again(plan, storage, dry=True)
    assert new.plan is plan and new.recorded is None and len(new.sweep_id) == 16
    assert set(names(new)) == {trial.name for trial in plan.trials}
    assert not storage.folder.exists()


def test_the_first_seeds_of_all_cells_come_first(make_plan_of: Callable[..., SweepPlan], storage: SweepStorage) -> None:
    plan = in_x(make_plan_of({"utd_ratio=1": [(0,), (2,), (4,)], "utd_ratio=2": [(0,), (2,)]}))
    assert names(again(plan, storage)) == [
        *("utd_ratio=1,seeds=0", "utd_ratio=2,seeds=0"),
        *("utd_ratio=1,seeds=2", "utd_ratio=2,seeds=2", "utd_ratio=1,seeds=4"),
    ]


@pytest.mark.parametrize("dry", [True, False])
def test_what_is_finished_stays_and_the_rest_goes_on(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, dry: bool
) -> None:
    found = again(plan, storage, dry=dry)
    assert found.sweep_id == started.sweep_id
    assert names(found) == ["utd_ratio=1,seeds=2", "utd_ratio=2,seeds=0-1-2"]
    assert [found.epochs_done(trial) for trial in plan.trials] == [10, 4, 0]
    assert found.counts(plan.trials) == {"finished": 1, "stopped": 0, "going on": 1, "new": 1}
    assert [found.seconds_left(trial) for trial in plan.trials] == [0.0, 60.0, 112.0]  # with the start of its process
    assert found.notes == ()


@pytest.mark.parametrize("dry", [True, False])
def test_a_trial_whose_seeds_have_all_failed_is_not_started_again(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, make_result: Callable[..., dict[str, Any]], dry: bool
) -> None:
    SweepFolder(storage.folder).append("utd_ratio=1,seeds=2", make_result(5, {2: 1.0}, failed=(2,)))
    some = make_result(1, dict.fromkeys((0, 1, 2), 1.0), failed=(0, 2))
    SweepFolder(storage.folder).append("utd_ratio=2,seeds=0-1-2", some)
    found = again(plan, storage, dry=dry)
    assert names(found) == ["utd_ratio=2,seeds=0-1-2"]  # one of its seeds is left
    assert found.counts(plan.trials) == {"finished": 2, "stopped": 0, "going on": 1, "new": 0}
    assert found.seconds_left(plan.trials[1]) == 0.0
    assert found.notes == (
        "utd_ratio=1,seeds=2 is not started again, because all its seeds had failed in epoch 5 "
        "(--restart begins anew).",
    )
    assert names(again(replace(plan, epochs=12), storage, dry=True))[1:] == ["utd_ratio=2,seeds=0-1-2"]


def test_a_gap_in_the_records_is_run_again(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, make_result: Callable[..., dict[str, Any]]
) -> None:
    for epoch in (7, 8, 9, 10):  # the machine lost what was written of epochs 5 and 6
        SweepFolder(storage.folder).append("utd_ratio=1,seeds=2", make_result(epoch, {2: 1.0}))
    found = again(plan, storage)
    assert found.epochs_done(plan.trials[1]) == 4
    assert names(found)[0] == "utd_ratio=1,seeds=2"  # before those that have not begun


def test_with_more_epochs_every_trial_goes_on(plan: SweepPlan, storage: SweepStorage, started: Continuation) -> None:
    more = replace(plan, epochs=12)
    assert len(names(again(more, storage))) == 3
    assert [again(more, storage).epochs_done(trial) for trial in plan.trials] == [10, 4, 0]


def test_damaged_records_are_set_aside_and_their_trial_runs_again(
    plan: SweepPlan, storage: SweepStorage, started: Continuation
) -> None:
    records = storage.folder / "records"
    file = records / "utd_ratio=1,seeds=0-1.jsonl"
    kept = []
    for damage in (b"\xff\xfe\n", b'{"training_iteration": "x"}\n{"training_iteration": 1}\n', b"[1, 2]\n"):
        file.write_bytes(damage)
        assert len(names(again(plan, storage, dry=True))) == 3
        assert file.read_bytes() == damage  # looking changes nothing
        found = again(plan, storage)
        assert "utd_ratio=1,seeds=0-1" in names(found)
        assert "records of utd_ratio=1,seeds=0-1 were damaged" in found.notes[0]
        assert SweepFolder(storage.folder).records("utd_ratio=1,seeds=0-1") == ()
        kept.append(damage)
        assert sorted(path.read_bytes() for path in records.glob("*.damaged*")) == sorted(kept)


@pytest.mark.parametrize("failed", [(), (2,)])
@pytest.mark.parametrize("damaged", [True, False])
def test_a_trial_at_its_end_is_run_again_where_its_records_lack_epochs(
    plan: SweepPlan,
    storage: SweepStorage,
    started: Continuation,
    make_result: Callable[..., dict[str, Any]],
    failed: tuple[int, ...],
    damaged: bool,
) -> None:
    folder, name = SweepFolder(storage.folder), "utd_ratio=1,seeds=2"
    folder.append(name, make_result(5, {2: 1.0}, failed=failed, **({} if failed else {"stopped_by": "ASHA"})))
    assert name not in names(again(plan, storage))
    lines = folder.records_file(name).read_text().splitlines()
    lines[1:2] = ["no record"] if damaged else []
    folder.records_file(name).write_text("\n".join(lines) + "\n")
    found = again(plan, storage)
    assert name in names(found) and found.epochs_done(plan.trials[1]) == 1
    assert ["what they lack is run again" in note for note in found.notes] == [True] * damaged


def test_other_settings_are_refused_old_and_new(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, make_plan_of: Callable[..., SweepPlan]
) -> None:
    before = (storage.folder / "sweep.json").read_bytes()
    for dry in (True, False):
        assert refusal(in_x(plan, hidden_size=32), storage, dry=dry) == (
            "The sweep in results/run was started with other settings (hidden_size: 200 -> 32): ask for those again, "
            "start anew with --restart (what is there is kept under another name) or give another --name."
        )
    fewer = in_x(make_plan_of({"utd_ratio=2": [(0, 1)]}, epochs=5))
    assert refusal(fewer, storage) == (
        "The sweep in results/run was started with other settings:\n"
        "  seeds: 0-2 -> 0-1 (seed 2 no longer asked for)\n"
        "  epochs: 10 -> 5\n"
        "  the cell utd_ratio=1 is no longer asked for\n"
        "Ask for those again, start anew with --restart (what is there is kept under another name) or give another "
        "--name."
    )
    assert (storage.folder / "sweep.json").read_bytes() == before


def test_a_sweep_whose_trials_lie_elsewhere_is_refused(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, tmp_path: Path
) -> None:
    remote = SweepStorage(f"file://{tmp_path}/bucket", "run")  # its driver's folder is the same
    assert remote.folder == storage.folder
    assert f"(--storage: this machine -> {remote.uri})" in refusal(plan, remote)


def test_another_commit_or_version_is_a_note(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "git_commit", lambda: "0123456789abcdef-dirty")
    monkeypatch.setattr(module, "versions", lambda: {"torch": "3", "ray": "1"})
    (note,) = again(plan, storage).notes
    assert "commit abc -> 0123456789-dirty, torch 2 -> 3, ray none -> 1" in note


@pytest.mark.parametrize(("per_trial", "noted"), [(None, False), (1, True), (2, True), (3, False), (8, False)])
def test_packs_of_another_size_are_a_note(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, per_trial: int | None, noted: bool
) -> None:
    notes = again(plan, storage, seeds_per_trial=per_trial).notes
    assert bool(notes) == noted
    if noted:
        assert f"--seeds-per-trial {per_trial} holds for new seeds" in notes[0]


def test_a_restart_keeps_the_old_folder(plan: SweepPlan, storage: SweepStorage, started: Continuation) -> None:
    other = in_x(plan, hidden_size=32)
    looked = again(other, storage, dry=True, restart=True)
    assert "would be kept as run-until-" in looked.notes[0]
    assert len(list(storage.folder.parent.iterdir())) == 1
    with DriverLock(storage) as lock:
        new = continue_sweep(other, storage, lock, restart=True, seeds_per_trial=None)
        assert len(list(storage.folder.parent.iterdir())) == 1 and new.aside is not None
        set_aside(storage, lock, new.aside)
        assert new.recorded is None and new.sweep_id != started.sweep_id
        (aside,) = (folder for folder in storage.folder.parent.iterdir() if folder != storage.folder)
        assert new.notes == (f"the sweep that is there is kept as {aside.name}.",)
        assert json.loads((aside / "sweep.json").read_text())["sweep_id"] == started.sweep_id
        assert len(SweepFolder(aside).records("utd_ratio=1,seeds=0-1")) == 10
        assert not any(not file.name.startswith(".") for file in storage.folder.iterdir())


def test_a_restart_of_nothing_is_a_new_sweep(plan: SweepPlan, storage: SweepStorage, tmp_path: Path) -> None:
    assert again(plan, storage, restart=True).notes == ()
    remote = SweepStorage(f"file://{tmp_path}/bucket", "run")
    assert "--restart cannot set a sweep at a URI aside" in refusal(plan, remote, restart=True)


def shown(continuation: Continuation) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(render_plan(continuation, Surroundings("results/run", "disabled", None)))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_plan_shows_what_goes_on(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, make_plan_of: Callable[..., SweepPlan]
) -> None:
    assert "so far" not in shown(started)
    text = shown(again(plan, storage))
    for part in (
        "1 finished, 1 going on",
        "1 finished, 1 going on, 1 new (since 2026-11-22 12:00 UTC, 1 launch)",
    ):
        assert part in text
    rows = [line.split()[-1] for line in text.splitlines() if line.startswith("utd_ratio=2")]
    assert rows == ["new"]
    larger = make_plan_of({f"utd_ratio={ratio}": [(0, 1, 2, 3, 4)] for ratio in (1, 2, 3)}, epochs=20)
    grown = again(in_x(larger), storage)
    assert list(describe_new(grown)) == [
        "every trial goes on from epoch 10 to epoch 20.",
        "seeds 3-4 joined.",
        "1 cell joined: utd_ratio=3.",
    ]
    assert "Going on: seeds 3-4 joined." in shown(grown)


def test_the_plan_of_a_finished_sweep_says_so(
    plan: SweepPlan, storage: SweepStorage, started: Continuation, make_result: Callable[..., dict[str, Any]]
) -> None:
    for trial in plan.trials:
        for epoch in range(1, 11):
            SweepFolder(storage.folder).append(trial.name, make_result(epoch, dict.fromkeys(trial.seeds, 1.0)))
    found = again(plan, storage)
    assert found.todo == ()
    text = shown(found)
    assert "nothing is left to run" in text
    assert "at a time" not in text
