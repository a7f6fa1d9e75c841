"""Scheduler and stopper of a sweep: they know trials by their names in the sweep, and who ended which is noted.

Tune gives a trial that is started again a new id, and another launch of a sweep all of them. To a scheduler a trial is
one under its name: so one that goes on is judged where it was, and what earlier launches recorded counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from vagram_ray.sweep.plan.tuning import Decisions, Tuning, name_of
from vagram_ray.sweep.run.interruption import Interruption

History = Mapping[str, Sequence[Mapping[str, float]]]
"""What trials have reported before this launch, an epoch each (``records.cohort.cohort_result``), by name."""


class StandIn:
    """A trial as far as a scheduler looks at one that has ended: an id, and a status.

    Equal for all trials of one id.
    """

    def __init__(self, trial_id: str) -> None:
        self.trial_id, self.status = trial_id, "TERMINATED"

    def __hash__(self) -> int:
        return hash(self.trial_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandIn) and other.trial_id == self.trial_id


class _Named(StandIn):
    """A trial of Tune's under its name in the sweep."""

    def __init__(self, trial: Any, name: str) -> None:
        self.trial_id, self._trial = name, trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)


class NamedTrials(FIFOScheduler):
    """Hands everything to a scheduler of Tune's, and notes which trials it stops.

    Trials are started in order, as soon as there is room: none waits for another, so that a scheduler that would hold
    one back for others (``PAUSE``) lets it go on. A trial that goes on, and that the scheduler would have stopped by
    all that earlier launches recorded, is stopped after its next epoch.

    Args:
        scheduler: Decides.
        decisions: Is told what it has stopped.
        history: Results of earlier launches, which the scheduler is told first.
        live: Names of the trials of ``history`` that go on.
    """

    def __init__(
        self, scheduler: Any, decisions: Decisions, history: History | None = None, live: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._scheduler, self._decisions = scheduler, decisions
        self._history: History = history or {}
        self._live = frozenset(live)
        self._epochs: dict[str, int] = {}
        self._over: set[str] = set()

    @property
    def metric(self) -> str:
        """The metric of the scheduler."""
        return str(self._scheduler.metric)

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Nothing is left to set."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial is known to Tune."""
        self._tell_history(tune_controller)
        if str(trial) not in self._epochs:
            self._epochs[str(trial)] = 0
            self._scheduler.on_trial_add(tune_controller, self._named(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A trial has finished an epoch. One that it had finished before a failure is no news."""
        name, epoch = str(trial), result["training_iteration"]
        if epoch <= (newest := self._epochs.get(name, 0)):
            again = is_end_again(self._decisions, name, epoch, newest)
            return str(TrialScheduler.STOP if again else TrialScheduler.CONTINUE)
        self._epochs[name] = epoch
        if not self._stops(tune_controller, self._named(trial), result):
            return str(TrialScheduler.CONTINUE)
        self._decisions.stopped[name] = name_of(self._scheduler)
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial has come to its end."""
        self._scheduler.on_trial_complete(tune_controller, self._named(trial), result)

    def debug_string(self) -> str:
        """The scheduler's own."""
        return str(self._scheduler.debug_string())

    def save(self, checkpoint_path: str) -> None:
        """Nothing: no sweep goes on from Tune's snapshots."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def __reduce__(self) -> Any:  # for Tune's snapshots
        return FIFOScheduler, ()

    def _stops(self, tune_controller: Any, trial: StandIn, result: dict[str, Any]) -> bool:
        """What the scheduler says. Of a trial that it has stopped it hears nothing more."""
        if trial.trial_id not in self._over:
            if self._scheduler.on_trial_result(tune_controller, trial, result) != TrialScheduler.STOP:
                return False
            self._over.add(trial.trial_id)
        return True

    @staticmethod
    def _named(trial: Any) -> Any:
        return _Named(trial, str(trial))

    def _tell_history(self, tune_controller: Any) -> None:
        """All trials side by side, epoch by epoch, and then the ends of those that are at theirs."""
        history, self._history = {name: results for name, results in self._history.items() if results}, {}
        for name in history:
            self._epochs[name] = len(history[name])
            self._scheduler.on_trial_add(tune_controller, StandIn(name))
        for epoch in range(max(map(len, history.values()), default=0)):
            for name, results in history.items():
                if epoch < len(results):
                    self._stops(tune_controller, StandIn(name), dict(results[epoch]))
        for name, results in history.items():
            if name not in self._live:
                self._scheduler.on_trial_complete(tune_controller, StandIn(name), dict(results[-1]))


class SweepStopper(tune.Stopper):
    """Ends a trial after its last epoch, or where the sweep's ``stop`` says so, and all when the sweep is interrupted.

    Args:
        epochs: The last epoch.
        interruption: Tells of signals.
        tuning: Has the sweep's ``stop``.
        decisions: Is told what that has stopped.
        name_of_trial: The name of a trial by Tune's id.
        history: Results of earlier launches, which a ``Stopper`` is told first.

    An epoch that is done again, after a failure or in another launch, is no news to the sweep's ``stop``.
    """

    def __init__(
        self,
        epochs: int,
        interruption: Interruption,
        tuning: Tuning | None = None,
        decisions: Decisions | None = None,
        name_of_trial: Callable[[str], str] = str,
        history: History | None = None,
    ) -> None:
        self._epochs, self._interruption = epochs, interruption
        self._stop = None if tuning is None else tuning.stop
        self._decisions, self._name_of_trial = decisions or Decisions(), name_of_trial
        self._seen: dict[str, int] = {}
        if isinstance(self._stop, tune.Stopper):
            for name, results in (history or {}).items():
                self._seen[name] = len(results)
                for result in results:
                    self._stop(name, dict(result))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether this was the trial's last epoch."""
        if result["training_iteration"] >= self._epochs:
            return True
        if self._stop is None:
            return False
        name, epoch = self._name_of_trial(trial_id), result["training_iteration"]
        if epoch <= self._seen.get(name, 0):
            return is_end_again(self._decisions, name, epoch, self._seen[name])
        self._seen[name] = epoch
        if not stops(self._stop, name, result):
            return False
        self._decisions.stopped[name] = "stop" if isinstance(self._stop, Mapping) else name_of(self._stop)
        return True

    def stop_all(self) -> bool:
        """Whether a signal has come, or the sweep's ``stop`` ends all of it."""
        if self._interruption.happened:
            return True
        if isinstance(self._stop, tune.Stopper) and self._stop.stop_all():
            self._decisions.ended_by = name_of(self._stop)
        return bool(self._decisions.ended_by)

    def __reduce__(self) -> Any:  # for Tune's snapshots, from which nothing goes on
        return SweepStopper, (self._epochs, Interruption())


def is_end_again(decisions: Decisions, name: str, epoch: int, newest: int) -> bool:
    """Whether a trial repeats the epoch at which it was stopped: it has failed while it wrote its last checkpoint."""
    return name in decisions.stopped and epoch == newest


def stops(stop: Any, name: str, result: Mapping[str, Any]) -> bool:
    """Whether a trial ends by a dictionary of numbers to reach, a function or a ``Stopper``.

    Functions and stoppers see RLlib's result, with its numbers also under flat names (``"eval/episode_return"``).
    """
    flat = {**_flat(result), **result}
    if isinstance(stop, Mapping):
        return any(key in flat and flat[key] >= value for key, value in stop.items())
    return bool(stop(name, flat))


def _flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            if prefix or key not in ("config", "seeds"):
                flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
