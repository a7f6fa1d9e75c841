"""Running a sweep's trials with Tune: its controller, with our own answer to failures and without its snapshots.

Tune keeps the state of an experiment in files from which ``Tuner.restore`` goes on. A sweep goes on from its own
records and the trials' own checkpoints, so those files are not written: they hold pickles, grow with every trial, and
a disk that takes no more of them would end the sweep.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import ray
from ray import tune
from ray._private.ray_logging import stdout_deduplicator
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment, Trial
from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders
from ray.tune.search import ConcurrencyLimiter, SearchGenerator

from vagram_ray.sweep.plan.plan import SweepPlan, split_pack
from vagram_ray.sweep.run.faults import STDERR_FILE, STDOUT_FILE, Faults, describe_memory
from vagram_ray.sweep.run.interruption import Interruption
from vagram_ray.sweep.run.search import PlannedTrials, TrialNamer
from vagram_ray.sweep.spec import SWEEP_MODULE
from vagram_ray.sweep.storage.folder import SweepStorage

Replanned = Callable[[SweepPlan, Collection[str]], None]

logger = logging.getLogger(__name__)
_LOOK_EVERY_S = 5.0


def run_trials(
    plan: SweepPlan,
    names: Collection[str],
    storage: SweepStorage,
    callbacks: Sequence[tune.Callback],
    faults: Faults,
    interruption: Interruption,
    replanned: Replanned = lambda plan, running: None,
    warn: Callable[[str], None] = logger.warning,
) -> SweepPlan:
    """Run trials of a plan until each has come to its end, has failed for good, or the sweep is interrupted.

    A trial that is out of memory at its start is divided into two, which run when all others are through, and so on
    down to one seed. Single seeds that were out of memory beside others have a last try, one at a time.

    Args:
        plan: The whole sweep.
        names: The trials that are to be run.
        storage: Where they keep their checkpoints.
        callbacks: Of Tune; none of their hooks may raise. ``on_experiment_end`` is called once, at the end.
        faults: Learns of every failure, and decides.
        interruption: Looked at between two events.
        replanned: Is told the whole plan and the names of the trials that run next, when a trial has been divided or
            runs once more: each round shares the GPUs anew.
        warn: Is told when no trial can run any more because Ray itself has died.

    Returns:
        The plan with the packs that were run.
    """
    _prepare_tune()
    ended: list[Trial] = []
    todo, single_file = list(names), False
    alone: list[str] = []
    while todo and not interruption.happened:
        controller = _controller(plan.only(todo), storage, callbacks, faults, single_file=single_file)
        alive = _run(controller, interruption)
        ended += controller.get_trials()
        if not alive:
            warn("Ray has no machine left to run trials on: its own process has died. The same command goes on.")
            break
        too_large = [name for name in todo if faults.too_large(name)]
        plan, todo, singles = _divided(plan, too_large)
        if single_file:
            _give_up(plan, singles, faults)
        else:
            alone += singles
        if not todo and alone:
            todo, alone, single_file = alone, [], True
            for name in todo:
                faults.forget(name)
        if todo:
            replanned(plan, todo)
    for callback in callbacks:
        callback.on_experiment_end(trials=ended)
    return plan


def _divided(plan: SweepPlan, too_large: Sequence[str]) -> tuple[SweepPlan, list[str], list[str]]:
    """The plan with these trials divided, the names of the new ones, and those that cannot be divided further."""
    before = {trial.name: trial for trial in plan.trials}
    singles = [name for name in too_large if len(before[name].seeds) == 1]
    for name in too_large:
        if name not in singles:
            plan = split_pack(plan, name)
    return plan, [trial.name for trial in plan.trials if trial.name not in before], singles


def _give_up(plan: SweepPlan, names: Sequence[str], faults: Faults) -> None:
    for trial in plan.trials:
        if trial.name in names:
            known = describe_memory(trial.estimate.memory_bytes, plan.machine.memory_bytes)
            faults.conclude(
                trial.name,
                f"The trial {trial.name} is out of memory with one seed and no other trial beside it"
                f"{f' ({known})' if known else ''}: use smaller networks, a smaller replay_capacity or fewer imagined "
                "transitions (rollouts_per_step), or a machine with more memory.",
            )


def _prepare_tune() -> None:
    if SWEEP_MODULE in sys.modules:  # classes of the sweep file travel to the trials by value
        ray.cloudpickle.register_pickle_by_value(sys.modules[SWEEP_MODULE])
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it repeats what the views and the summary say
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"
    stdout_deduplicator.skip_re = re.compile("")  # Ray's paragraphs about processes that died


def _controller(
    plan: SweepPlan, storage: SweepStorage, callbacks: Sequence[tune.Callback], faults: Faults, *, single_file: bool
) -> SweepController:
    """Tune's controller of one round, as ``tune.run`` makes it."""
    namer = TrialNamer(plan)
    algorithm: Any = plan.config.algo_class
    resolvers = create_resolvers_map()
    experiment = Experiment(
        storage.name,
        algorithm,
        config=inject_placeholders(copy.deepcopy(plan.base_parameters()), resolvers),
        num_samples=len(plan.trials),
        stop={"training_iteration": plan.epochs},
        storage_path=storage.tune_path,
        # What trials print lies beside their results, within a minute, also from other machines.
        sync_config=tune.SyncConfig(sync_artifacts=True, sync_period=60),
        log_to_file=cast(Any, (STDOUT_FILE, STDERR_FILE)),
        trial_name_creator=namer,
        trial_dirname_creator=namer,
    )
    # All trials wait in Tune's queue from the start, so that an autoscaler sees what is wanted.
    limit = 1 if single_file else plan.max_concurrent or len(plan.trials)
    searcher = PlannedTrials([trial.parameters for trial in plan.trials])
    search = SearchGenerator(ConcurrencyLimiter(searcher, max_concurrent=limit))
    controller = SweepController(
        faults,
        storage.folder,
        search_alg=search,
        placeholder_resolvers=resolvers,
        stopper=experiment.stopper,
        callbacks=list(callbacks),
        storage=experiment.storage,
    )
    search.add_configurations([experiment])
    controller.update_max_pending_trials()
    controller.setup_experiments([experiment], total_num_samples=len(plan.trials))
    return controller


def _run(controller: SweepController, interruption: Interruption) -> bool:
    """Run until the end or an interruption; False if Ray has died, for then nothing would ever happen any more."""
    alive = True
    next_look = time.monotonic() + _LOOK_EVERY_S
    try:
        while alive and not controller.is_finished() and not interruption.happened:
            controller.step()
            if time.monotonic() >= next_look:
                alive = _has_nodes()
                next_look = time.monotonic() + _LOOK_EVERY_S
    finally:
        controller.cleanup()
    return alive


def _has_nodes() -> bool:
    try:
        return any(node["Alive"] for node in ray.nodes())
    except Exception:  # it does not answer just now; if that lasts, Ray ends this process
        return True


class SweepController(TuneController):
    """Tune's controller, which asks ``Faults`` what to do when a trial fails and writes no snapshots.

    Args:
        faults: Decides.
        folder: The sweep's folder, for what trials have printed.
        **kwargs: Of Tune's controller.
    """

    def __init__(self, faults: Faults, folder: Path, **kwargs: Any) -> None:
        self._faults, self._folder = faults, folder
        self._told: dict[str, int] = {}  # length of a trial's stderr at its last failure
        super().__init__(**kwargs)

    def step(self) -> None:
        """Handle one event."""
        super().step()
        self._forget_answered()

    def checkpoint(self, force: bool = False, wait: bool = False) -> None:
        """Nothing: see above."""

    def end_experiment_callbacks(self) -> None:
        """Nothing: there may be a further round."""

    def stop_trial(self, trial: Trial) -> None:
        """A trial has come to its end."""
        self._keep_output(trial)
        super().stop_trial(trial)
        self._forget_numbers(trial)

    def _process_trial_result(self, trial: Trial, result: dict[str, Any]) -> Any:
        self._faults.progressed(str(trial), int(result["training_iteration"]))
        result.pop("config", None)  # Tune would keep statistics of every setting
        return super()._process_trial_result(trial, result)

    def _process_trial_failure(self, trial: Trial, exception: Exception) -> None:
        """Tune's own, but for who decides; nor is anything written where a full disk would end the sweep."""
        self._has_errored = True
        again = self._faults.failed(str(trial), exception, self._new_stderr(trial))
        hook = {"iteration": self._iteration, "trials": self._trials, "trial": trial}
        if trial.status == Trial.RUNNING and again:
            self._try_recover(trial, exc=cast(Any, exception))
            self._callbacks.on_trial_recover(**hook)
        elif trial.status in {Trial.RUNNING, Trial.PENDING}:
            self._scheduler_alg.on_trial_error(self, trial)
            self._search_alg.on_trial_complete(trial.trial_id, error=True)
            self._schedule_trial_stop(trial, exception=exception)
            self._callbacks.on_trial_error(**hook)
            self._forget_numbers(trial)

    def _forget_answered(self) -> None:
        """Let go of results that have arrived: Ray's manager of actors keeps each (13 KiB) until its trial ends."""
        waiting = self._actor_manager._actor_task_events.get_futures()
        kept = self._actor_manager._tracked_actors_to_task_futures
        if sum(map(len, kept.values())) > 2 * len(waiting) + 100:
            for futures in kept.values():
                futures.intersection_update(waiting)

    def _forget_numbers(self, trial: Trial) -> None:
        """Drop what Tune keeps of the results of a trial that has ended: half a megabyte for nobody."""
        data = trial.run_metadata
        data.last_result, data.metric_analysis, data.metric_n_steps = {}, {}, {}

    def _new_stderr(self, trial: Trial) -> str:
        """What a trial has written to its stderr since its last failure, if it ran on this machine."""
        self._keep_output(trial)
        path = _working_directory(trial) / STDERR_FILE
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(self._told.get(str(trial), 0))
            content = file.read()
            self._told[str(trial)] = file.tell()
            return content[-_LAST_WORDS:].decode(errors="replace")
        return ""

    def _keep_output(self, trial: Trial) -> None:
        """Copy what a trial has printed to its folder; a process that dies cannot do it itself."""
        source, target = _working_directory(trial), self._folder / str(trial)
        for name in (STDOUT_FILE, STDERR_FILE):
            with contextlib.suppress(OSError):  # it ran elsewhere, or the disk is full
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, target / name)


def _working_directory(trial: Trial) -> Path:
    """Where a trial's process works and its output goes, on the machine that it runs on."""
    return Path(cast(Any, trial.storage).trial_working_directory)


_LAST_WORDS = 20_000
"""Bytes of a trial's stderr in which the reason of its end is looked for."""
