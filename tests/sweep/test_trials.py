"""What Tune's controller keeps in memory while a sweep runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from tests.sweep.conftest import result_of, small_config
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.run import trials
from vagram_ray.sweep.run.faults import Faults
from vagram_ray.sweep.run.interruption import Interruption
from vagram_ray.sweep.storage.folder import SweepStorage

EPOCHS = 300


def made_up_algorithm() -> type[tune.Trainable]:
    """Made here, so that it travels to the trials by value."""

    class MadeUp(tune.Trainable):
        def step(self) -> dict[str, Any]:
            return result_of(self.training_iteration + 1, {0: 1.0})

        @classmethod
        def default_resource_request(cls, config: Any) -> tune.PlacementGroupFactory:
            return tune.PlacementGroupFactory([{"CPU": 1}])

    return MadeUp


def test_results_that_have_arrived_are_let_go_while_their_trial_runs(
    make_plan_of: Callable[..., SweepPlan], tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    config.algo_class = made_up_algorithm()
    plan = replace(make_plan_of({"utd_ratio=1": [(0,)]}, epochs=EPOCHS), config=config)
    controllers: list[trials.SweepController] = []

    class Seen(trials.SweepController):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            controllers.append(self)

    monkeypatch.setattr(trials, "SweepController", Seen)
    most = []

    class Look(tune.Callback):
        def on_trial_result(self, *args: Any, **kwargs: Any) -> None:
            kept = controllers[0]._actor_manager._tracked_actors_to_task_futures
            most.append(sum(map(len, kept.values())))

    storage = SweepStorage(str(tmp_path), "run")
    storage.create()
    faults = Faults(storage.folder)
    trials.run_trials(plan, [plan.trials[0].name], storage, [Look()], faults, Interruption())
    assert not faults.happened
    assert len(most) == EPOCHS
    assert max(most) < EPOCHS / 2
