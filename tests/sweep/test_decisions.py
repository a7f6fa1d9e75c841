"""Schedulers and stoppers of Tune in a sweep: who ends which trial, and what another launch makes of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.stopper import ExperimentPlateauStopper, MaximumIterationStopper
from rich.console import Console

from tests.sweep.conftest import result_of, small_config, with_settings
from vagram_ray.ray_internals import nothing_saved
from vagram_ray.records import SweepFolder, SweepResults
from vagram_ray.records.folder import RecordWriter
from vagram_ray.records.launches import begin_launch, end_launch
from vagram_ray.records.summary import summary_csv, verdict
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.plan.tuning import Decisions, Tuning
from vagram_ray.sweep.resume import continuation as resume
from vagram_ray.sweep.resume.continuation import continue_sweep
from vagram_ray.sweep.run.callbacks import FollowTrials
from vagram_ray.sweep.run.decisions import NamedTrials, SweepStopper, stops
from vagram_ray.sweep.run.faults import Faults
from vagram_ray.sweep.run.interruption import Interruption
from vagram_ray.sweep.run.trials import TrialQueue, run_trials
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lock import DriverLock
from vagram_ray.sweep.view.progress import ProgressView, SweepProgress, end_line

METRIC = "eval/episode_return_iqm"


class Trial:
    """One of Tune's, as far as it is looked at here."""

    def __init__(self, name: str, number: str = "") -> None:
        self.name, self.trial_id, self.status = name, f"id-{name}-{number}", "RUNNING"

    def __str__(self) -> str:
        return self.name


def asha() -> Any:
    scheduler = ASHAScheduler(grace_period=1, reduction_factor=2, max_t=8)
    scheduler.set_search_properties(METRIC, "max")
    return scheduler


def result(epoch: int, value: float) -> dict[str, Any]:
    return {"training_iteration": epoch, "env_steps": 10 * epoch, "time_total_s": 2.0 * epoch, METRIC: value}


def decide(named: NamedTrials, trial: Trial, *values: float, first: int = 1) -> str:
    """The decision after the last of these results."""
    decision = ""
    for epoch, value in enumerate(values, start=first):
        decision = named.on_trial_result(None, trial, result(epoch, value))
        if decision == TrialScheduler.STOP:
            break
    return decision


def test_what_a_scheduler_stops_is_noted_under_the_trials_name() -> None:
    decisions = Decisions()
    named = NamedTrials(asha(), decisions)
    for name in "abc":
        named.on_trial_add(None, Trial(name))
    assert decide(named, Trial("a"), 10.0) == TrialScheduler.CONTINUE
    assert decide(named, Trial("b"), 20.0) == TrialScheduler.CONTINUE
    assert decide(named, Trial("c"), 5.0) == TrialScheduler.STOP
    assert decisions.stopped == {"c": "AsyncHyperBandScheduler"}


def test_a_trial_that_is_started_again_is_the_same_to_the_scheduler() -> None:
    decisions = Decisions()
    named = NamedTrials(asha(), decisions)
    for name in "ab":
        named.on_trial_add(None, Trial(name))
    decide(named, Trial("a"), 10.0)
    named.on_trial_error(None, Trial("a"))
    named.on_trial_add(None, Trial("a", "again"))
    # Were it another trial, its own first result would stop it: 4 < 10.
    assert decide(named, Trial("a", "again"), 4.0) == TrialScheduler.CONTINUE
    assert decisions.stopped == {}


@pytest.mark.parametrize("make", [asha, lambda: median()], ids=["asha", "median"])
def test_another_launch_decides_as_one_that_was_never_interrupted(make: Callable[[], Any]) -> None:
    before = {name: [value] * 4 for name, value in (("a", 10.0), ("b", 20.0), ("c", 30.0), ("d", 40.0))}

    def told(named: NamedTrials) -> NamedTrials:
        for name in before:
            named.on_trial_add(None, Trial(name))
        for epoch in range(4):
            for name, values in before.items():
                named.on_trial_result(None, Trial(name), result(epoch + 1, values[epoch]))
        for name in ("a", "b", "c"):
            named.on_trial_complete(None, Trial(name), result(4, before[name][-1]))
        return named

    history = {name: [result(epoch, value) for epoch, value in enumerate(values, 1)] for name, values in before.items()}
    for value in (5.0, 15.0, 25.0, 35.0, 45.0):
        first, second = Decisions(), Decisions()
        for named in (told(NamedTrials(make(), first)), NamedTrials(make(), second, history, live=["d"])):
            new = Trial("new", "x")
            named.on_trial_add(None, new)
            named.on_trial_add(None, Trial("d", "x"))
            decide(named, new, value, value, value, value)
            decide(named, Trial("d", "x"), 40.0, 40.0, first=4)  # repeats its newest epoch, as after a checkpoint
        assert {"new", "d"} & set(first.stopped) == set(second.stopped), value


def median() -> Any:
    scheduler = MedianStoppingRule("training_iteration", grace_period=1, min_samples_required=2)
    scheduler.set_search_properties(METRIC, "max")

    class Controller:
        def get_live_trials(self) -> list[Any]:
            return []

    original = scheduler.on_trial_result
    scheduler.on_trial_result = lambda controller, trial, result: original(Controller(), trial, result)  # type: ignore
    return scheduler


def test_a_stop_is_a_number_to_reach_a_function_or_a_stopper() -> None:
    reported = result_of(3, {0: -100.0}, eval={"episode_return_iqm": -100.0})
    assert stops({METRIC: -100}, "a", reported) and stops({"env_steps": 350}, "a", reported)
    assert not stops({METRIC: -99, "env_steps": 351, "model/train_loss": 0}, "a", reported)
    assert stops(lambda name, own: name == "a" and own[METRIC] == own["eval"]["episode_return_iqm"], "a", reported)
    decisions = Decisions()
    stopper = SweepStopper(10, Interruption(), Tuning(METRIC, "max", stop={"env_steps": 350}), decisions, lambda _: "n")
    assert stopper("id", reported) and decisions.stopped == {"n": "stop"}
    assert not stopper.stop_all()


def test_a_stopper_of_the_whole_sweep_is_named_and_knows_what_earlier_launches_saw() -> None:
    plateau = ExperimentPlateauStopper("x", std=0.1, top=2, mode="max")
    decisions = Decisions()
    history = {"a": [{"x": 1.0, "training_iteration": 1}, {"x": 1.0, "training_iteration": 2}]}
    tuning = Tuning(METRIC, "max", stop=plateau)
    assert SweepStopper(9, Interruption(), tuning, decisions, str, history).stop_all()
    assert decisions.ended_by == "ExperimentPlateauStopper"


@pytest.mark.parametrize("same_launch", [True, False])
def test_epochs_that_are_done_again_are_no_news_to_a_stop(same_launch: bool) -> None:
    """A trial is killed after epoch 10, and its checkpoint is of epoch 8."""

    def stopped_at(stop: Any, *, told_before: bool) -> int:
        first = [result(epoch, 0.0) for epoch in range(1, 11)]
        history = {"a": first} if not same_launch and told_before else {}
        stopper = SweepStopper(100, Interruption(), Tuning(METRIC, "max", stop=stop), history=history)
        for own in [*(first if same_launch else []), *(result(epoch, 0.0) for epoch in range(8, 101))]:
            if stopper("a", own):
                return int(own["training_iteration"])
        raise AssertionError

    calls: list[int] = []

    def count(name: str, own: dict[str, Any]) -> bool:
        calls.append(own["training_iteration"])
        return own["training_iteration"] == 12

    assert stopped_at(MaximumIterationStopper(12), told_before=True) == 12
    assert stopped_at({"training_iteration": 12}, told_before=True) == 12
    assert stopped_at(count, told_before=True) == 12
    assert calls == list(range(1 if same_launch else 8, 13))


def test_a_trial_that_fails_in_its_last_checkpoint_ends_where_it_was_stopped() -> None:
    decisions = Decisions()
    stopper = SweepStopper(9, Interruption(), Tuning(METRIC, "max", stop=MaximumIterationStopper(3)), decisions)
    assert [stopper("a", result(epoch, 0.0)) for epoch in (1, 2, 3, 2, 3)] == [False, False, True, False, True]
    named = NamedTrials(asha(), decisions := Decisions())
    named.on_trial_add(None, Trial("a"))
    named.on_trial_add(None, Trial("b"))
    decide(named, Trial("a"), 10.0)
    assert decide(named, Trial("b"), 4.0) == decide(named, Trial("b", "again"), 4.0) == TrialScheduler.STOP


# -- what is left of it on disk ------------------------------------------------------------------------------------


def tuned(plan: SweepPlan, **tuning: Any) -> SweepPlan:
    plan = with_settings(plan, *({"env": "X", "a": cell.index} for cell in plan.cells))
    return replace(plan, tuning=Tuning(METRIC, "max", **tuning))


@pytest.fixture
def stopped(
    make_plan_of: Callable[..., SweepPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[SweepPlan, SweepStorage]:
    """Ten epochs: one trial did all, one was stopped after its third, one was interrupted after its fifth."""
    monkeypatch.setattr(resume, "git_commit", lambda: "abc")
    monkeypatch.setattr(resume, "versions", lambda: {"torch": "2"})
    plan = tuned(make_plan_of({f"a={number}": [(0, 1)] for number in (1, 2, 3)}), scheduler=FIFOScheduler())
    storage = SweepStorage(str(tmp_path), "run")
    with DriverLock(storage) as lock:
        new = continue_sweep(plan, storage, lock, restart=False, seeds_per_trial=None)
        details = {"started": "2026-11-22T12:00:00+00:00", "git_commit": "abc", "versions": {"torch": "2"}}
        begin_launch(SweepFolder(storage.folder), plan_content(plan), new.sweep_id, details)
        writer = RecordWriter(storage.folder)
        for trial, epochs in zip(plan.trials, (10, 3, 5), strict=True):
            for epoch in range(1, epochs + 1):
                by = {"stopped_by": "ASHA"} if epochs == 3 and epoch == 3 else {}
                writer.append(trial.name, result_of(epoch, {0: float(epoch), 1: epoch + 2.0}, **by))
        end_launch(SweepFolder(storage.folder), 5.0, "interrupted", {})
    return plan, storage


def test_a_stopped_trial_is_not_resumed_and_history_has_all(stopped: tuple[SweepPlan, SweepStorage]) -> None:
    plan, storage = stopped
    with DriverLock(storage) as lock:
        found = continue_sweep(plan, storage, lock, restart=False, seeds_per_trial=None)
    assert [trial.name for trial in found.todo] == ["a=3,seeds=0-1"]
    assert found.counts(plan.trials) == {"finished": 1, "stopped": 1, "going on": 1, "new": 0}
    assert {name: reached.stopped_by for name, reached in found.trials.items() if reached.stopped_by} == {
        "a=2,seeds=0-1": "ASHA"
    }
    assert [result[METRIC] for result in found.history["a=2,seeds=0-1"]] == [2.0, 3.0, 4.0]


def test_another_scheduler_or_more_seeds_are_refused(stopped: tuple[SweepPlan, SweepStorage]) -> None:
    plan, storage = stopped
    other = replace(tuned(plan, scheduler=asha()), seeds=(0, 1, 2))
    with DriverLock(storage) as lock, pytest.raises(Exception, match="was started with other settings") as error:
        continue_sweep(other, storage, lock, restart=False, seeds_per_trial=None)
    text = str(error.value)
    assert "scheduler: FIFOScheduler -> AsyncHyperBandScheduler" in text
    assert "seeds: 0-1 -> 0-2" in text and "2 cannot join" in text


def test_the_summary_tells_stopped_from_missing(stopped: tuple[SweepPlan, SweepStorage]) -> None:
    plan, storage = stopped
    results = SweepResults.load(storage.folder)
    done, early, cut = results.cells
    assert (done.statistics.iqm, early.statistics.iqm) == (11.0, 4.0)  # of the last tenth of ten, and of three epochs
    assert early.stopped == {0: 3, 1: 3} and not early.missing and not early.early
    assert early.notes == "stopped by ASHA after epoch 3"
    assert list(cut.missing.values()) == ["stopped after epoch 5 of 10"] * 2
    assert not results.complete and results.unfinished == 1
    SweepFolder(storage.folder).append("a=3,seeds=0-1", result_of(6, {0: 6.0, 1: 6.0}, stopped_by="ASHA"))
    results = SweepResults.load(storage.folder)
    assert results.complete and results.unfinished == 0
    assert verdict(results) == "Complete: every seed of 3 cells came to its end, 4 of 6 early, stopped by ASHA."
    assert "stopped by ASHA after epoch 6" in summary_csv(results)


def test_a_sweep_that_a_stopper_ended_is_in_order_and_may_go_on(stopped: tuple[SweepPlan, SweepStorage]) -> None:
    plan, storage = stopped
    end_launch(SweepFolder(storage.folder), 5.0, "complete", {}, "TimeoutStopper")
    results = SweepResults.load(storage.folder)
    assert results.complete and results.unfinished == 1
    assert verdict(results) == (
        "TimeoutStopper ended the sweep: 2 of 6 seeds had come to their last epoch, 4 count with what they had reached."
    )
    with DriverLock(storage) as lock:
        found = continue_sweep(plan, storage, lock, restart=False, seeds_per_trial=None)
    assert [trial.name for trial in found.todo] == ["a=3,seeds=0-1"]


def test_stopped_is_a_state_of_its_own_in_the_live_view(stopped: tuple[SweepPlan, SweepStorage]) -> None:
    plan, storage = stopped
    progress = SweepProgress(plan)
    for trial in plan.trials:
        progress.restored(trial.name, SweepFolder(storage.folder).records(trial.name))
    assert [trial.status for trial in progress.trials.values()] == ["done", "stopped", "waiting"]
    assert "stopped by ASHA after epoch 3, return 4.00" in end_line(progress, "a=2,seeds=0-1")
    assert progress.share_done() == (10 + 10 + 5) / 30
    assert not progress.troubled()


# -- with Tune -----------------------------------------------------------------------------------------------------


def made_up_algorithm() -> type[tune.Trainable]:
    """Returns what its name says in every epoch; travels by value."""

    class MadeUp(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.value = float(config["checkpoint_folder"].rpartition("/")[2].partition(",")[0].partition("=")[2])

        def save(self, checkpoint_dir: str | None = None) -> Any:
            with open(f"{self.config['checkpoint_folder']}.saved", "w") as file:
                file.write(str(self.training_iteration))
            return nothing_saved()

        def step(self) -> dict[str, Any]:
            epoch = self.training_iteration + 1
            return result_of(epoch, {0: self.value, 1: self.value}, eval={"episode_return_iqm": self.value})

        @classmethod
        def default_resource_request(cls, config: Any) -> tune.PlacementGroupFactory:
            return tune.PlacementGroupFactory([{"CPU": 1}])

    return MadeUp


def test_asha_stops_the_poor_ones_and_that_is_recorded(
    make_plan_of: Callable[..., SweepPlan], tmp_path: Path, ray_session: None
) -> None:
    config = small_config()
    config.algo_class = made_up_algorithm()
    packs = {f"a={value}": [(0, 1)] for value in (9, 8, 1, 2)}
    plan = replace(tuned(make_plan_of(packs, epochs=4), scheduler=asha()), config=config, max_concurrent=1)
    storage = SweepStorage(str(tmp_path), "run")
    storage.create()
    console = Console(file=io.StringIO(), width=500)
    view, faults, decisions = (
        ProgressView(SweepProgress(plan), console, interval_s=0.0),
        Faults(storage.folder),
        Decisions(),
    )
    queue = TrialQueue(plan, [trial.name for trial in plan.trials], storage, faults)
    follow = FollowTrials(queue, faults, RecordWriter(storage.folder), view, decisions=decisions)
    run_trials(queue, [follow], Interruption(), decisions)

    folder = SweepFolder(storage.folder)
    records = {trial.name[2]: folder.records(trial.name) for trial in plan.trials}
    assert {name: len(own) for name, own in records.items()} == {"9": 4, "8": 1, "1": 1, "2": 1}
    stoppers = {name: own[-1].get("stopped_by") for name, own in records.items()}
    assert stoppers == {"9": None} | dict.fromkeys("812", "AsyncHyperBandScheduler")
    assert [trial.status for trial in view.progress.trials.values()] == ["done", "stopped", "stopped", "stopped"]
    assert "FAILED" not in console.file.getvalue()  # type: ignore[attr-defined]
    saved = {file.name[2]: file.read_text() for file in storage.folder.glob("*.saved")}
    assert saved == dict.fromkeys("812", "1")  # the others do so by themselves
