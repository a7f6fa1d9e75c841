"""Running a sweep's trials with ``ray.tune.run``: which trial starts next, and what becomes of those that fail.

Only public parts of Tune are used. ``TrialQueue`` is the searcher that hands over the trials, ``FollowTrials``
(``callbacks``) hears of results and failures, ``SweepStopper`` ends trials. Tune starts nothing again by itself: a
trial that has failed comes back from the queue as a new trial of Tune's under the same name, and goes on from the
checkpoints in its folder. So each failure is answered at once, whatever the other trials do.

Tune's snapshots of an experiment go to a temporary folder: a sweep goes on from its records and checkpoints.

A searcher of the sweep's own (``plan.samples``) is asked where the queue is empty: the plan then grows by a cell. The
queue tells it what comes of its samples. A scheduler and a stopper see trials under their names (``decisions``).
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import ray
from ray import tune
from ray.tune.search import Searcher

from vagram_ray.rllib.results import ALL_SEEDS_FAILED
from vagram_ray.rllib.trial_output import OUTPUT_FILES
from vagram_ray.sweep.plan.growth import suggested
from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan, split_pack
from vagram_ray.sweep.plan.tuning import Decisions
from vagram_ray.sweep.run.decisions import History, NamedTrials, SweepStopper
from vagram_ray.sweep.run.faults import Faults, describe_memory
from vagram_ray.sweep.run.interruption import Interruption
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.sweep_file import modules_beside

SCRATCH = ".tune-"
"""How the folder in the sweep's begins that holds Tune's snapshots while it runs."""

Replanned = Callable[[SweepPlan, Collection[str]], None]


class TrialQueue(Searcher):
    """Hands planned trials to Tune, in order, and those that have failed once more.

    A trial that is out of memory at its start is divided into two with half its seeds, and so on down to one seed.
    Single seeds that were out of memory beside others have a last try, one at a time, when nothing else runs. Where a
    scheduler, searcher or stopper judges trials, none is divided: it would judge other seeds.

    Args:
        plan: The whole sweep.
        names: The trials that are to be run.
        storage: Where each trial has a folder.
        faults: Decides which trials are tried again.
        replanned: Is told the whole plan and the names of the trials that run next, where these have changed.
        warn: Is told what keeps a searcher from suggesting more.
    """

    def __init__(
        self,
        plan: SweepPlan,
        names: Collection[str],
        storage: SweepStorage,
        faults: Faults,
        replanned: Replanned = lambda plan, running: None,
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        super().__init__()
        self.plan, self.storage, self._faults, self._replanned = plan, storage, faults, replanned
        self._warn = warn
        self._samples = plan.samples
        planned = {trial.name: trial for trial in plan.trials}
        self._waiting = deque(planned[name] for name in names)
        self._alone: deque[TrialPlan] = deque()
        self._tried_alone: set[str] = set()
        self._running: set[str] = set()
        self.names: dict[str, str] = {}
        """Names in the plan, by Tune's id."""

    def suggest(self, trial_id: str) -> Any:
        """The next trial's parameters, or None while there may be more later, and ``FINISHED`` after the last one."""
        trial = self._next()
        if trial is None:
            return None if self._running else Searcher.FINISHED
        self._running.add(trial_id)
        self.names[trial_id] = trial.name
        parameters = copy.deepcopy(trial.parameters) | {"checkpoint_folder": self.storage.trial_folder(trial.name)}
        if trial.name in self._tried_alone:  # a whole GPU
            parameters |= self.plan.sharing_gpus([trial]).share_parameters
        return parameters

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended, well or not."""
        self._running.discard(trial_id)
        if self._samples is not None and not error:
            cell = self._planned(self.names[trial_id]).cell.index
            if result is not None:
                self._samples.reported(cell, result)
                self._samples.ended(cell, failed=ALL_SEEDS_FAILED in result)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A trial has finished an epoch, and goes on. ``result`` is flat."""
        if self._samples is not None:
            self._samples.reported(self._planned(self.names[trial_id]).cell.index, result)

    def retry(self, name: str, again: bool) -> bool:
        """A trial has failed. Returns whether it runs once more, at once or alone in the end.

        Args:
            name: The trial's.
            again: Whether ``Faults`` starts it again.
        """
        trial = self._planned(name)
        if again:
            self._waiting.append(trial)
            return True
        if self._faults.too_large(name) and len(trial.seeds) == 1 and name not in self._tried_alone:
            self._alone.append(trial)
            return True
        if self._samples is not None:
            self._samples.ended(trial.cell.index, failed=True)
        return False

    def replace(self, name: str) -> None:
        """Divide a trial that was too large, or say that it cannot be divided. Does nothing if it failed otherwise."""
        if not self._faults.too_large(name):
            return
        trial = self._planned(name)
        if len(trial.seeds) == 1 or self.plan.tuning is not None:
            self._conclude(trial)
            return
        before = {own.name for own in self.plan.trials}
        self.plan = split_pack(self.plan, name)
        halves = [own.name for own in self.plan.trials if own.name not in before]
        self._waiting.extend(map(self._planned, halves))
        self._replanned(self.plan, halves)

    @property
    def waiting(self) -> list[str]:
        """Names of the trials that are to be run, as far as they are known."""
        return [trial.name for trial in self._waiting]

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """The parameters are settled: there is nothing to search for."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: no sweep goes on from Tune's snapshots."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def _next(self) -> TrialPlan | None:
        if self._waiting:
            return self._waiting.popleft()
        if self._samples is not None and (trial := self._suggested()) is not None:
            return trial
        if not self._alone or self._running:
            return None
        trial = self._alone.popleft()
        self._tried_alone.add(trial.name)
        self._faults.forget(trial.name)
        self._replanned(self.plan.sharing_gpus([trial]), [trial.name])
        return trial

    def _suggested(self) -> TrialPlan | None:
        """The trial of a new cell, if the searcher has one now."""
        assert self._samples is not None
        try:
            grown = suggested(self.plan)
        except SweepError as error:
            self._warn(error.message)
            return None
        if self._samples.note:
            self._warn(self._samples.note)
        if len(grown.cells) == len(self.plan.cells):
            return None
        self.plan = grown
        trial = grown.trials[-1]
        self._replanned(grown, [trial.name])
        return trial

    def _planned(self, name: str) -> TrialPlan:
        return next(trial for trial in self.plan.trials if trial.name == name)

    def _conclude(self, trial: TrialPlan) -> None:
        known = describe_memory(trial.estimate.memory_bytes, self.plan.machine.memory_bytes)
        alone = " with one seed and no other trial beside it" if len(trial.seeds) == 1 else ""
        self._faults.conclude(
            trial.name,
            f"The trial {trial.name} is out of memory{alone}{f' ({known})' if known else ''}: use smaller networks, a "
            "smaller replay_capacity or fewer imagined transitions (rollouts_per_step), or a machine with more memory.",
        )


def run_trials(
    queue: TrialQueue,
    callbacks: Sequence[tune.Callback],
    interruption: Interruption,
    decisions: Decisions | None = None,
    history: History | None = None,
) -> None:
    """Run a queue's trials until each has come to its end or has failed for good, or the sweep is interrupted.

    Args:
        queue: The trials.
        callbacks: Of Tune. None of their hooks may raise, but for ``RayLostError``.
        interruption: Looked at between two events.
        decisions: Is told what a scheduler or a stopper ends.
        history: What the trials of the plan reported in earlier launches, which these are told first.

    Raises:
        RayLostError: Ray itself has died.
        TuneError: Tune cannot go on.
    """
    plan, storage, names = queue.plan, queue.storage, queue.names
    _prepare_tune(elsewhere=not plan.machine.local)
    tuning, decisions = plan.tuning, decisions or Decisions()
    scheduler = None
    if tuning is not None and tuning.scheduler is not None:
        scheduler = NamedTrials(tuning.scheduler, decisions, history, queue.waiting)
    stopper = SweepStopper(plan.epochs, interruption, tuning, decisions, lambda trial_id: names[trial_id], history)
    algorithm: Any = plan.config.algo_class

    def name_of(trial: Any) -> str:
        return names[trial.trial_id]

    for left in storage.folder.glob(f"{SCRATCH}*"):  # of drivers that were killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=storage.folder, ignore_cleanup_errors=True) as scratch:
        tune.run(
            algorithm,
            name=storage.name,
            config=plan.base_parameters(),
            search_alg=queue,
            num_samples=-1,
            max_concurrent_trials=_concurrent(plan),
            scheduler=scheduler,
            stop=stopper,
            storage_path=scratch,
            trial_name_creator=name_of,
            trial_dirname_creator=name_of,
            log_to_file=cast(Any, OUTPUT_FILES),
            callbacks=list(callbacks),
            raise_on_failed_trial=False,
            progress_reporter=_Silent(),
            verbose=0,
        )


class _Silent(tune.ProgressReporter):
    """Reports nothing. In a notebook Tune's own clears what stands below the cell."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        """Never."""
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None:
        """Nothing."""


def _concurrent(plan: SweepPlan) -> int:
    """How many trials Tune may have at a time.

    All of them by default: they wait in its queue from the start, so that an autoscaler sees what is wanted. Those of a
    search come when there is room, so that each is chosen by what the others have shown.
    """
    if plan.tuning is not None:
        return plan.max_concurrent or plan.capacity
    return plan.max_concurrent or sum(len(trial.seeds) for trial in plan.trials)


def _prepare_tune(elsewhere: bool) -> None:
    for module in modules_beside() if elsewhere else ():  # processes on other machines may not find them
        ray.cloudpickle.register_pickle_by_value(module)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it repeats what the views and the summary say
    os.environ |= {
        "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a box even where it shall print nothing
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the records hold what they would write
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are the sweep's own
        "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # no snapshots in between: a full disk would end the sweep
        "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # or Tune starts such trials again by itself
    }
