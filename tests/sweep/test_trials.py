"""Which trial Tune gets next, and what becomes of trials that fail."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from rich.console import Console

import vagram_ray
from tests.sweep.conftest import result_of, small_config
from vagram_ray.records.folder import RecordWriter, SweepFolder
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.run.callbacks import FollowTrials
from vagram_ray.sweep.run.faults import PROCESS_DIED, Faults
from vagram_ray.sweep.run.interruption import Interruption
from vagram_ray.sweep.run.trials import TrialQueue, run_trials
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.view.progress import ProgressView, SweepProgress

A, B, BIG = "a=1,seeds=0", "a=2,seeds=0", "a=1,seeds=0-1-2"
OUT_OF_MEMORY = MemoryError("std::bad_alloc")


class Driven:
    """A queue with the Tune and the faults that belong to it."""

    def __init__(self, plan: SweepPlan, place: Path) -> None:
        self.faults = Faults(place, memory_kills=lambda: 0)
        self.replanned: list[tuple[str, ...]] = []
        storage = SweepStorage(str(place), "run")
        names = [trial.name for trial in plan.trials]
        self.queue = TrialQueue(plan, names, storage, self.faults, lambda plan, run: self.replanned.append(tuple(run)))
        self._ids: dict[str, str] = {}

    def next(self) -> Any:
        """The name of the trial that starts now; None or FINISHED without one."""
        number = str(len(self.queue.names))
        parameters = self.queue.suggest(number)
        if not isinstance(parameters, dict):
            return parameters
        name = self.queue.names[number]
        assert parameters["checkpoint_folder"].endswith(f"/run/{name}")
        self._ids[name] = number
        return name

    def ends(self, name: str) -> None:
        self.queue.on_trial_complete(self._ids[name])

    def fails(self, name: str, error: Exception) -> bool:
        self.queue.on_trial_complete(self._ids[name], error=True)
        again = self.queue.retry(name, self.faults.failed(name, error))
        if not again:
            self.queue.replace(name)
        return again


Drive = Callable[[dict[str, list[tuple[int, ...]]]], Driven]


@pytest.fixture
def drive(make_plan_of: Callable[..., SweepPlan], tmp_path: Path) -> Drive:
    return lambda packs: Driven(make_plan_of(packs), tmp_path)


def test_trials_come_in_order_and_finished_is_said_when_none_can_come_back(drive: Drive) -> None:
    own = drive({"a=1": [(0,)], "a=2": [(0,)]})
    assert [own.next(), own.next(), own.next()] == [A, B, None]
    own.ends(A)
    assert own.next() is None  # the other one may fail
    own.ends(B)
    assert own.next() == TrialQueue.FINISHED


def test_a_failed_trial_comes_again_at_once_and_three_times_in_a_row_are_the_end(drive: Drive) -> None:
    own = drive({"a=1": [(0,)], "a=2": [(0,)]})
    assert [own.next(), own.next()] == [A, B]
    for again in (True, True, False):
        assert own.fails(A, ValueError("x")) == again
        assert own.next() == (A if again else None)
    own.ends(B)
    assert own.next() == TrialQueue.FINISHED


def test_a_pack_is_divided_and_single_seeds_have_a_last_try_alone(drive: Drive) -> None:
    own = drive({"a=1": [(0, 1, 2)], "a=2": [(0,)]})
    assert [own.next(), own.next()] == [BIG, B]
    assert not own.fails(BIG, OUT_OF_MEMORY)
    assert own.replanned == [("a=1,seeds=0-1", "a=1,seeds=2")]
    assert [own.next(), own.next(), own.next()] == ["a=1,seeds=0-1", "a=1,seeds=2", None]
    own.ends("a=1,seeds=0-1")
    assert own.fails("a=1,seeds=2", OUT_OF_MEMORY)
    assert own.next() is None  # the other cell still runs
    own.ends(B)
    assert own.next() == "a=1,seeds=2"
    assert not own.fails("a=1,seeds=2", OUT_OF_MEMORY)
    assert own.next() == TrialQueue.FINISHED
    assert "no other trial beside it" in own.faults.reason("a=1,seeds=2")
    assert sorted(trial.seeds for trial in own.queue.plan.trials) == [(0,), (0, 1), (2,)]


def made_up_algorithm() -> type[tune.Trainable]:
    """Its process dies in the second epoch once (a=1) or always (a=2), or its seeds do (a=3); travels by value."""

    class MadeUp(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            from pathlib import Path

            folder = Path(config["checkpoint_folder"])
            folder.mkdir(parents=True, exist_ok=True)
            earlier = len(list(folder.glob("attempt-*")))
            (folder / f"attempt-{earlier}").touch()
            self.how = {"1": "exit" if earlier == 0 else "", "2": "exit", "3": "dead"}[folder.name[2]]

        def step(self) -> dict[str, Any]:
            import os

            epoch = self.training_iteration + 1
            if epoch == 2 and self.how == "exit":
                os._exit(3)
            dead = epoch == 2 and self.how == "dead"
            more = {"done": True, "all_seeds_failed": "Every seed has failed."} if dead else {}
            return result_of(epoch, {0: 1.0}, failed=(0,) if dead else (), **more)

        @classmethod
        def default_resource_request(cls, config: Any) -> tune.PlacementGroupFactory:
            return tune.PlacementGroupFactory([{"CPU": 1}])

    return MadeUp


def test_what_fails_starts_again_under_its_name_or_ends(
    make_plan_of: Callable[..., SweepPlan], tmp_path: Path, ray_session: None
) -> None:
    config = small_config()
    config.algo_class = made_up_algorithm()
    plan = replace(make_plan_of({f"a={number}": [(0,)] for number in (1, 2, 3)}, epochs=3), config=config)
    once, always, dead = (trial.name for trial in plan.trials)
    storage = SweepStorage(str(tmp_path), "run")
    storage.create()
    console = Console(file=io.StringIO(), width=500)
    view, faults = ProgressView(SweepProgress(plan), console, interval_s=0.0), Faults(storage.folder)
    queue = TrialQueue(plan, [once, always, dead], storage, faults)
    run_trials(queue, [FollowTrials(queue, faults, RecordWriter(storage.folder), view)], Interruption())

    trials, shown = view.progress.trials, console.file.getvalue()  # type: ignore[attr-defined]
    assert [trials[name].status for name in (once, always, dead)] == ["done", "failed", "done"]
    assert [len(SweepFolder(storage.folder).records(name)) for name in (once, dead)] == [3, 2]
    assert [len(list((storage.folder / name).glob("attempt-*"))) for name in (once, always, dead)] == [2, 3, 1]
    assert (faults.reason(once), faults.reason(always), faults.reason(dead)) == (PROCESS_DIED, PROCESS_DIED, "")
    assert "an error after epoch 1 (its process died); trying again" in shown
    assert "FAILED (its process died), see " in shown
    assert (storage.folder / always / "error.txt").read_text().count("Failure ") == 3
    assert f"{dead}: Every seed has failed. The same command does not start it again." in shown
    assert not list(storage.folder.glob(".tune-*"))


def test_tune_itself_shows_nothing_not_even_in_a_notebook(
    drive: Drive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(tune, "run", lambda *args, **options: asked.update(options))
    own = drive({"a=1": [(0,)]})
    config = small_config()
    own.queue.plan = replace(own.queue.plan, config=config)
    own.queue.storage.create()
    run_trials(own.queue, [], Interruption())
    assert asked["verbose"] == 0
    assert not asked["progress_reporter"].should_report([], done=True)


def test_what_is_used_of_rays_internals_stands_in_one_short_module() -> None:
    package = Path(vagram_ray.__file__).parent
    internal = re.compile(r"ray\._private|ray\.tune\.(execution|experiment|impl)\b|ray\.train\._internal")
    users = {path.name for path in package.rglob("*.py") if internal.search(path.read_text())}
    assert users <= {"ray_internals.py"}
    assert len((package / "ray_internals.py").read_text().splitlines()) <= 100
