"""Running the same command again: what an earlier launch left, and what of it is still to be run.

What a trial has done is told by its records. A trial whose records hold all epochs is finished. Every other one runs:
its process goes on from its newest checkpoint, or begins where there is none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from vagram_ray.records.cohort import cohort_result
from vagram_ray.records.folder import SweepFolder, epoch_of_death, stopped_by, whole_epochs
from vagram_ray.records.recorded import WAYS_OUT, RecordedSweep, new_sweep_id, read_recorded
from vagram_ray.sweep.plan.growth import recorded_cells, suggested
from vagram_ray.sweep.plan.machine import git_commit, versions
from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan
from vagram_ray.sweep.resume.joining import ChangedSweepError, join_plan
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lock import DriverLock
from vagram_ray.sweep.storage.remote import fetch, has_sweep
from vagram_ray.text import format_seeds, plural


@dataclass(frozen=True)
class Reached:
    """How far earlier launches have brought a trial."""

    epochs: int = 0
    """Those that are recorded without a gap."""
    died_in: int | None = None
    """The epoch in which the last of its seeds has failed: it is at its end."""
    stopped_by: str = ""
    """The scheduler or stopper that ended it before its last epoch: it is at its end."""


@dataclass(frozen=True)
class Continuation:
    """A whole sweep, and how far it has come."""

    plan: SweepPlan
    sweep_id: str
    recorded: RecordedSweep | None = None
    """Records of earlier launches, or None for a new sweep."""
    trials: Mapping[str, Reached] = field(default_factory=dict)
    """How far trials are, by name. Those that are not named have not begun."""
    notes: tuple[str, ...] = ()
    history: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    """What each trial of a search has reported for all its seeds together, an epoch each, by name."""
    aside: Path | None = None
    """Where the sweep that is there goes (``set_aside``) before this one begins."""

    def reached(self, trial: TrialPlan) -> Reached:
        """How far a trial is."""
        return self.trials.get(trial.name, Reached())

    def epochs_done(self, trial: TrialPlan) -> int:
        """Epochs of the plan that are recorded of a trial without a gap."""
        return min(self.reached(trial).epochs, self.plan.epochs)

    @property
    def todo(self) -> tuple[TrialPlan, ...]:
        """The trials that are still to be run, in order: those that have begun, then the first seeds of all cells.

        So a sweep that is cut short compares its cells on the same seeds.
        """
        unfinished = (trial for trial in self.plan.trials if not self.is_finished(trial))
        return tuple(sorted(unfinished, key=lambda trial: (not self.epochs_done(trial), trial.seeds[0])))

    def is_finished(self, trial: TrialPlan) -> bool:
        """Whether a trial has come to its last epoch, was stopped before, or all its seeds have failed."""
        reached = self.reached(trial)
        over = reached.died_in is not None or bool(reached.stopped_by)
        return over or reached.epochs >= self.plan.epochs

    def counts(self, trials: Sequence[TrialPlan]) -> dict[str, int]:
        """How many of these trials are finished, were stopped, go on, and are new."""
        stopped = sum(bool(self.reached(trial).stopped_by) for trial in trials)
        finished = sum(map(self.is_finished, trials)) - stopped
        going_on = sum(self.epochs_done(trial) > 0 and not self.is_finished(trial) for trial in trials)
        new = len(trials) - finished - stopped - going_on
        return {"finished": finished, "stopped": stopped, "going on": going_on, "new": new}

    def seconds_left(self, trial: TrialPlan) -> float:
        """Estimated time of what is left of a trial."""
        if self.is_finished(trial):
            return 0.0
        done = self.epochs_done(trial)
        if not done:
            return trial.estimate.seconds
        return trial.estimate.seconds_between(done, self.plan.epochs)


def continue_sweep(
    plan: SweepPlan, storage: SweepStorage, lock: DriverLock | None, *, restart: bool, seeds_per_trial: int | None
) -> Continuation:
    """What is to be run of ``plan``, given what lies in the storage.

    Args:
        plan: What the command asks for, planned as if it were new.
        storage: Where the sweep lies or will lie.
        lock: Held when this returns. ``None`` only looks and changes nothing.
        restart: Whether a sweep that is there is to be set aside. That is left to ``set_aside``.
        seeds_per_trial: What the command says of the size of packs.

    Raises:
        SweepError: The sweep that is there cannot go on like this.
    """
    if restart and storage.is_remote:
        raise SweepError(f"--restart cannot set a sweep at a URI aside ({storage.uri}): give another --name.")
    if lock is not None:
        lock.hold()
    if restart:
        return _restarted(_new_sweep(plan), storage, dry=lock is None)
    with _driver_folder(storage, lock) as path:
        folder = SweepFolder(path, storage.shown)
        if not folder.is_there:
            return _new_sweep(plan)
        recorded = read_recorded(folder)
        joined = _join_or_refuse(plan, recorded, storage, seeds_per_trial)
        trials, losses = _recorded_trials(recorded, folder, mend=lock is not None)
        notes = (*losses, *_other_versions(recorded), *_other_packs(recorded, seeds_per_trial))
        continuation = Continuation(joined, recorded.sweep_id, recorded, trials, notes)
        continuation = replace(continuation, plan=joined.sharing_gpus(continuation.todo))
        return _with_history(continuation, folder)


def _new_sweep(plan: SweepPlan) -> Continuation:
    """With the first suggestions of a searcher, if there is one."""
    return Continuation(suggested(plan, plan.capacity), new_sweep_id())


def _with_history(continuation: Continuation, folder: SweepFolder) -> Continuation:
    """With what scheduler, searcher and stopper are told again, and a searcher's next suggestions."""
    plan = continuation.plan
    if plan.tuning is None:
        return continuation
    history = {
        trial.name: tuple(map(cohort_result, folder.records(trial.name)[: continuation.epochs_done(trial)]))
        for trial in plan.trials
    }
    if (samples := plan.samples) is not None:
        for trial in plan.trials:
            results = () if continuation.reached(trial).died_in is not None else history[trial.name]
            samples.known(trial.cell, results, ended=continuation.is_finished(trial))
        free = plan.capacity - len(continuation.todo)
        plan = suggested(plan, free) if free > 0 else plan
    return replace(continuation, plan=plan, history=history)


@contextmanager
def _driver_folder(storage: SweepStorage, lock: DriverLock | None) -> Iterator[Path]:
    """The driver's folder with what lies at a URI, or that alone for the moment where nothing may be changed."""
    if not storage.is_remote or not has_sweep(storage):
        yield storage.folder
    elif lock is not None:
        fetch(storage, storage.folder)
        yield storage.folder
    else:
        with tempfile.TemporaryDirectory() as temporary:
            fetch(storage, Path(temporary))
            yield Path(temporary)


def _restarted(new: Continuation, storage: SweepStorage, *, dry: bool) -> Continuation:
    """A new sweep in the place of one that may be there."""
    if not SweepFolder(storage.folder).is_there:
        return new
    aside = storage.folder.with_name(f"{storage.name}-until-{datetime.now():%Y%m%d-%H%M%S}")
    note = f"the sweep that is there {'would be' if dry else 'is'} kept as {aside.name}."
    return replace(new, notes=(note,), aside=aside)


def set_aside(storage: SweepStorage, lock: DriverLock, aside: Path) -> None:
    """Give the folder of an earlier sweep another name, and begin with an empty one.

    Raises:
        SweepError: The folder cannot be renamed, or another process was quicker.
    """
    try:
        lock.move(aside)
    except OSError as error:
        raise storage.not_writable(error) from error


def _join_or_refuse(
    plan: SweepPlan, recorded: RecordedSweep, storage: SweepStorage, seeds_per_trial: int | None
) -> SweepPlan:
    try:
        if moved := list(_storage_change(recorded, storage)):
            raise ChangedSweepError(moved)
        if plan.samples is not None:
            if other := list(_other_space(plan, recorded)):
                raise ChangedSweepError(other)
            plan = recorded_cells(plan, recorded)
        return join_plan(plan, recorded, seeds_per_trial)
    except ChangedSweepError as error:
        raise SweepError(_refusal(storage, error.changes)) from error


def _other_space(plan: SweepPlan, recorded: RecordedSweep) -> Iterator[str]:
    """Whether a search has begun over other axes, or was none."""
    samples = plan.samples
    assert samples is not None
    before = tuple(recorded.cells[0].axes)
    if "search_alg" not in recorded.tuning:
        yield f"search_alg: none -> {samples.name}"
    elif set(now := samples.space.axes) != set(before):
        yield f"what is searched: {', '.join(before)} -> {', '.join(now)}"
    if samples.num_samples < len(recorded.cells):
        yield f"num_samples: {len(recorded.cells)} are there already -> {samples.num_samples}"


def _storage_change(recorded: RecordedSweep, storage: SweepStorage) -> Iterator[str]:
    """Whether the folders of the trials were elsewhere. What has been moved from one URI to another is there."""
    now = storage.uri if storage.is_remote else None
    if recorded.storage != now and not (now and has_sweep(storage)):
        yield f"--storage: {recorded.storage or 'this machine'} -> {now or 'this machine'}"


def _recorded_trials(
    recorded: RecordedSweep, folder: SweepFolder, *, mend: bool
) -> tuple[dict[str, Reached], list[str]]:
    """How far each trial is, by name, and a sentence for each loss. ``mend`` sets damaged files aside."""
    trials: dict[str, Reached] = {}
    dead, damaged = list[str](), list[str]()
    for trial in recorded.trials:
        name, (records, damage) = trial.name, folder.read_records(trial.name, recorded.epochs)
        trials[name] = reached = _reached(records)
        if reached.died_in is not None:
            dead.append(
                f"{name} is not started again, because all its seeds had failed in epoch {reached.died_in} "
                "(--restart begins anew)."
            )
        if damage:
            damaged.append(
                f"the records of {name} were damaged ({damage}) and are set aside; what they lack is run again from "
                "the trial's checkpoints."
            )
            if mend:
                folder.set_aside(name, records)
    return trials, [*dead, *damaged]


def _reached(records: Sequence[Mapping[str, Any]]) -> Reached:
    """How far a trial is. One whose records lack epochs is at no end before they are run again."""
    if (whole := whole_epochs(records)) < len(records):
        return Reached(whole)
    return Reached(whole, epoch_of_death(records), stopped_by(records))


def _refusal(storage: SweepStorage, changes: Sequence[str]) -> str:
    """One sentence, or the changes as lines of their own where they are several."""
    where = f"The sweep in {storage.uri if storage.is_remote else storage.shown} was started with other settings"
    ways_out = WAYS_OUT if not storage.is_remote else "give another --name"
    if len(changes) == 1:
        return f"{where} ({changes[0]}): ask for those again, {ways_out}."
    listed = "".join(f"  {change}\n" for change in changes)
    return f"{where}:\n{listed}Ask for those again, {ways_out}."


def _other_versions(recorded: RecordedSweep) -> Iterator[str]:
    """Differences of the software from the newest launch."""
    before = recorded.launches[-1]
    changes = []
    if (commit := git_commit()) != before.get("git_commit"):
        changes.append(f"commit {_short_commit(before.get('git_commit'))} -> {_short_commit(commit)}")
    old = before.get("versions")
    old, new = old if isinstance(old, dict) else {}, versions()
    changes += [
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if changes:
        yield f"going on with other software than before ({', '.join(changes)}), which may change what comes next."


def _short_commit(commit: Any) -> str:
    text = str(commit or "unknown")
    return text[:10] + ("-dirty" if text.endswith("-dirty") else "")


def _other_packs(recorded: RecordedSweep, seeds_per_trial: int | None) -> Iterator[str]:
    """Trials keep the packs that they were started with."""
    if seeds_per_trial is None:
        return
    largest = max((len(trial.seeds) for trial in recorded.trials), default=0)
    if largest > seeds_per_trial or largest < min(seeds_per_trial, len(recorded.seeds)):
        yield (
            f"the trials that are there keep their seeds (at most {plural(largest, 'seed')} each); "
            f"--seeds-per-trial {seeds_per_trial} holds for new seeds."
        )


def describe_new(continuation: Continuation) -> Iterator[str]:
    """What joins a sweep with this launch, a sentence each."""
    recorded, plan = continuation.recorded, continuation.plan
    if recorded is None:
        return
    if plan.epochs > recorded.epochs:
        yield f"every trial goes on from epoch {recorded.epochs} to epoch {plan.epochs}."
    if seeds := [seed for seed in plan.seeds if seed not in recorded.seeds]:
        yield f"{'seeds' if len(seeds) > 1 else 'seed'} {format_seeds(seeds)} joined."
    if cells := plan.cells[len(recorded.cells) :]:
        yield f"{plural(len(cells), 'cell')} joined: {'; '.join(cell.label for cell in cells[:5])}" + (
            ", ..." if len(cells) > 5 else "."
        )
