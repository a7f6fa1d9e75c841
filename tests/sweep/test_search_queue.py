"""A searcher behind the queue of trials: the plan grows, failures are told, a sweep that goes on asks for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from tests.sweep.conftest import result_of
from tests.sweep.plan.test_samples import METRIC, Listed, Taking, lr, plan_of, result
from vagram_ray.records import SweepFolder, SweepResults
from vagram_ray.records.folder import RecordWriter
from vagram_ray.records.launches import begin_launch, end_launch
from vagram_ray.report.watch import SweepWatch
from vagram_ray.sweep.plan.content import plan_content, rewrite_plan
from vagram_ray.sweep.plan.growth import suggested
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.resume import continuation as resume
from vagram_ray.sweep.resume.continuation import Continuation, continue_sweep
from vagram_ray.sweep.run.faults import Faults
from vagram_ray.sweep.run.trials import TrialQueue
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lock import DriverLock

NAMES = [f"model_lr={value:g},seeds=0-1" for value in (1e-3, 2e-3, 3e-3, 4e-3)]
POINTS = [lr(1e-3), lr(2e-3), lr(3e-3), lr(4e-3)]


def queue_of(plan: SweepPlan, folder: Path, replanned: list[list[str]]) -> TrialQueue:
    names = [trial.name for trial in plan.trials]
    faults = Faults(folder, memory_kills=lambda: 0)
    return TrialQueue(
        plan, names, SweepStorage(str(folder), "run"), faults, lambda plan, run: replanned.append(list(run))
    )


def test_the_plan_grows_by_a_trial_when_there_is_room(tmp_path: Path) -> None:
    searcher, grown = Listed(list(POINTS)), list[list[str]]()
    queue = queue_of(suggested(plan_of(searcher, number=3), 1), tmp_path, grown)
    parameters = queue.suggest("a")
    assert parameters["model_lr"] == 1e-3 and parameters["seeds"] == (0, 1)
    assert queue.suggest("b")["model_lr"] == 2e-3
    assert grown == [[NAMES[1]]]
    queue.on_trial_result("a", result(1, 5.0))
    queue.on_trial_complete("a", result(2, 6.0))
    queue.on_trial_complete("b", error=True)
    assert queue.retry(NAMES[1], again=True)
    assert queue.suggest("c")["model_lr"] == 2e-3  # the same sample again
    queue.on_trial_complete("c", error=True)
    assert not queue.retry(NAMES[1], again=False)
    assert searcher_told(queue) == [("0", 1, 5.0), ("0", 2, 6.0), ("0", 6.0), ("1", "error")]
    assert queue.suggest("d")["model_lr"] == 3e-3
    assert queue.suggest("e") is None
    queue.on_trial_complete("d", result(1, 1.0))
    assert queue.suggest("f") == Searcher.FINISHED
    assert queue.plan.to_come == 0


def searcher_told(queue: TrialQueue) -> list[Any]:
    samples = queue.plan.tuning.samples  # type: ignore[union-attr]
    return list(samples._searcher.told)  # type: ignore[union-attr]


def test_a_searcher_that_fails_ends_the_search_with_a_warning(tmp_path: Path) -> None:
    class Failing(Listed):
        def suggest(self, trial_id: str) -> Any:
            if trial_id == "1":
                raise RuntimeError("no more memory")
            return super().suggest(trial_id)

    told: list[str] = []
    plan = suggested(plan_of(Failing(list(POINTS)), number=3), 1)
    storage = SweepStorage(str(tmp_path), "run")
    queue = TrialQueue(plan, [NAMES[0]], storage, Faults(tmp_path, memory_kills=lambda: 0), warn=told.append)
    queue.suggest("a")
    assert queue.suggest("b") is None
    assert told == ["search_alg=Failing cannot suggest anything: RuntimeError: no more memory."]
    queue.on_trial_complete("a", result(1, 1.0))
    assert queue.suggest("c") == Searcher.FINISHED


# -- going on ------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepStorage:
    """Three samples of four: one has come to its end, one was stopped, one was interrupted in the second epoch."""
    monkeypatch.setattr(resume, "git_commit", lambda: "abc")
    monkeypatch.setattr(resume, "versions", lambda: {"torch": "2"})
    storage = SweepStorage(str(tmp_path), "run")
    with DriverLock(storage) as lock:
        plan = plan_of(Taking(list(POINTS)), number=4)
        new = continue_sweep(plan, storage, lock, restart=False, seeds_per_trial=None)
        plan = new.plan
        assert [trial.name for trial in new.todo] == NAMES[:2]  # as many as run at a time
        details = {"started": "2026-11-22T12:00:00+00:00", "git_commit": "abc", "versions": {"torch": "2"}}
        begin_launch(SweepFolder(storage.folder), plan_content(plan), new.sweep_id, details)
        plan = suggested(plan, 1)
        rewrite_plan(SweepFolder(storage.folder), plan, [NAMES[2]])
        writer = RecordWriter(storage.folder)
        for name, epochs in zip(NAMES, (10, 3, 2), strict=False):
            for epoch in range(1, epochs + 1):
                by = {"stopped_by": "ASHA"} if epochs == 3 and epoch == 3 else {}
                writer.append(name, result_of(epoch, {0: float(epoch), 1: float(epoch)}, **by))
        end_launch(SweepFolder(storage.folder), 5.0, "interrupted", {})
    return storage


def again(storage: SweepStorage, searcher: Any, **options: Any) -> Continuation:
    with DriverLock(storage) as lock:
        return continue_sweep(
            plan_of(searcher, **{"number": 4, **options}), storage, lock, restart=False, seeds_per_trial=None
        )


def test_the_searcher_is_told_what_is_recorded_and_asked_for_the_rest(begun: SweepStorage, tmp_path: Path) -> None:
    searcher = Taking(list(POINTS))
    found = again(begun, searcher)
    assert [trial.name for trial in found.plan.trials] == NAMES
    assert [trial.name for trial in found.todo] == NAMES[2:]  # the one that goes on, and a new one
    queue = queue_of(found.plan, tmp_path, [])
    told = searcher_told(queue)
    assert told[:2] == [(lr(1e-3), 10.0), (lr(2e-3), 3.0)]
    assert ("2", 1, 1.0) in told and ("2", 2, 2.0) in told  # suggested again: what it had reported so far


def test_other_axes_metrics_or_fewer_samples_are_refused(begun: SweepStorage) -> None:
    for options, words in (
        ({"metric": "eval/episode_return"}, "metric: eval/episode_return_iqm -> eval/episode_return"),
        ({"number": 2}, "num_samples: 3 are there already -> 2"),
        ({"seeds": 3}, "cannot join"),
    ):
        with pytest.raises(SweepError) as error:
            again(begun, Taking(list(POINTS)), **options)
        assert words in str(error.value)
    with pytest.raises(SweepError, match="search_alg: Taking -> Listed"):
        again(begun, Listed(list(POINTS)))


def test_the_live_view_from_outside_tells_stopped_from_running(begun: SweepStorage) -> None:
    watch = SweepWatch(begun.folder)
    watch.poll()
    statuses = [trial.status for trial in watch.progress.trials.values()]
    assert statuses[:2] == ["done", "stopped"]
    assert SweepResults.load(begun.folder).best().label == "model_lr=0.001"
    assert watch.info["tuning"]["metric"] == METRIC
