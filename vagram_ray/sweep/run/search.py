"""Hands the planned trials to Tune, one after another."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from vagram_ray.sweep.plan.cells import canonical
from vagram_ray.sweep.plan.plan import SweepPlan


class PlannedTrials(Searcher):
    """A Tune searcher that suggests each planned trial's parameters once, in order.

    Tune's own grid search would cross the packs of seeds with the cells as well, but draws random search spaces
    anew for every pack; here all packs of a cell share them.
    """

    def __init__(self, parameters: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._parameters = [dict(values) for values in parameters]
        self._next = 0

    def suggest(self, trial_id: str) -> Any:
        """The next trial's parameters, or ``FINISHED``."""
        if self._next == len(self._parameters):
            return Searcher.FINISHED
        self._next += 1
        return copy.deepcopy(self._parameters[self._next - 1])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is learned from results."""

    def save(self, checkpoint_path: str) -> None:
        """Write how many trials have been handed out; Tune calls this with every snapshot of the sweep."""
        Path(checkpoint_path).write_text(json.dumps({"next": self._next}))

    def restore(self, checkpoint_path: str) -> None:
        """Continue after the trials that had been handed out."""
        self._next = int(json.loads(Path(checkpoint_path).read_text())["next"])


class TrialNamer:
    """Names a Tune trial as the plan does; used for its folder and wherever Tune mentions it."""

    def __init__(self, plan: SweepPlan) -> None:
        self._keys = tuple(plan.trials[0].parameters)
        self._names = {canonical(trial.parameters): trial.name for trial in plan.trials}

    def __call__(self, trial: Any) -> str:
        """The planned name of a trial with these parameters."""
        return self._names[canonical({key: trial.config[key] for key in self._keys})]
