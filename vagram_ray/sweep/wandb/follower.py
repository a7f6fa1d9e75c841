"""Follows a sweep's records and hands W&B what lies beyond the last step that it has.

Rows of trials that run, of trials that ended while W&B was away, and of earlier launches are the same to it. It keeps
nothing in memory that a new process would lack. So after any failure the process ends, and a new one goes on from the
records, the cursor and W&B (``supervisor``).

Online, a run is opened as soon as it has a row. Offline it is written when its trial, or the sweep, has ended. At the
end of the sweep, what the server has not taken and does not know is written offline too.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.results import SweepResults
from vagram_ray.records.trials import TrialRecords
from vagram_ray.sweep.wandb.cursor import NO_STEP, Cursor, Logged
from vagram_ray.sweep.wandb.mode import key_problem, server_answers
from vagram_ray.sweep.wandb.offline import Piece, mark_synced, settle, write_pieces
from vagram_ray.sweep.wandb.runs import (
    RunIdentity,
    logged_name,
    open_run,
    place_of,
    run_tags,
    seed_identity,
    step_at_server,
    sweep_identity,
)
from vagram_ray.sweep.wandb.summaries import seed_summary, sweep_summary, write_summary
from vagram_ray.sweep.wandb.trials import FollowedTrial, SeedRun
from vagram_ray.text import first_line, plural

INTERRUPTED = 130
"""Exit code of runs whose trial had not ended when the sweep did (128 + SIGINT, as shells count)."""
POLL_S = 1.0
ANSWER_WITHIN_S = 10.0
_AT_A_TIME = 32
"""Offline runs that are written before they are counted."""
_NAMED = 3
"""Refused runs that are named; all of them are counted at the end."""

Tell = Callable[..., None]
"""Sends a message to the supervisor. Without an argument it says that this process is alive."""


class ServerGoneError(Exception):
    """W&B's server does not answer, so that there is nothing to do for now."""


class Follower:
    """Logs one sweep.

    Args:
        folder: The sweep's.
        project: ``PROJECT`` or ``ENTITY/PROJECT``.
        tell: Tells the supervisor how far it is.
        ended: Set when no trial runs any more.
        online: Whether runs shall go to W&B's server.
    """

    def __init__(self, folder: Path, project: str, tell: Tell, ended: threading.Event, *, online: bool) -> None:
        self._folder, self._project, self._tell, self._ended = folder, project, tell, ended
        self._wanted_online = online
        self._sweep, self._cursor = SweepFolder(folder), Cursor(folder, place_of(project))
        self._trials: dict[str, FollowedTrial] = {}
        self._runs: dict[str, SeedRun] = {}
        self._refused: dict[str, str] = {}
        """Why this process does not try a run again online, by its id."""
        self._problem: str | None = None
        """Why nothing can be logged online at the end, empty if it can, None as long as nobody has asked."""
        self._over = False
        self._signature: tuple[int, int] | None = None
        self._left = 0

    def follow(self) -> None:
        """Log until the sweep has ended and all is handed over, or nothing more can be.

        Raises:
            ServerGoneError: W&B does not answer.
            SweepError: The sweep cannot be read.
            Exception: Whatever wandb raises.
        """
        settle(self._folder, self._cursor)
        while not self._over:
            self._over = self._ended.is_set()  # as it is before the records are read: a run is closed when all was read
            self._tell()
            self._read_plan()
            for trial in self._trials.values():
                trial.update()
            self._say_what_waits()
            if self._online:
                self._log_online()
            if self._over or not self._online:
                self._write_offline()
            if not self._over:
                self._ended.wait(POLL_S)
        if any(trial.steps for trial in self._trials.values()):
            self._log_sweep_run()
        self._conclude()

    @property
    def _online(self) -> bool:
        return self._wanted_online and not self._problem

    # -- what there is, and what of it is lacking ------------------------------------------------------------------

    def _read_plan(self) -> None:
        """Read ``sweep.json`` where it has changed: a trial may have been divided."""
        with contextlib.suppress(FileNotFoundError):
            status = self._sweep.file.stat()
            if self._signature == (status.st_mtime_ns, status.st_size):
                return
            self._signature = (status.st_mtime_ns, status.st_size)
        self._info = info = self._sweep.read()
        self._name = logged_name(info, self._folder)
        self._tags = run_tags(info, self._name)
        trials, runs = {}, {}
        for entry in info["trials"]:
            name = entry["name"]
            trial = self._trials.get(name) or FollowedTrial(self._sweep, entry, info["epochs"])
            trials[name] = trial
            for seed in trial.seeds:
                identity = seed_identity(info, entry, seed, self._name)
                run = self._runs.get(identity.run_id) or SeedRun(identity, trial, seed)
                run.identity, run.trial = identity, trial
                runs[identity.run_id] = run
        self._trials, self._runs = trials, runs

    def _exit_code(self, run: SeedRun) -> int | None:
        """How the run shall be closed, or None while its trial runs."""
        if not (run.trial.over or self._over):
            return None
        if run.seed in run.trial.failed:
            return 1
        if run.trial.over:
            return 0
        return 1 if run.trial.name in self._info.get("failed_trials", ()) else INTERRUPTED

    def _is_whole(self, run: SeedRun, *, online: bool) -> bool:
        """Whether W&B has all of a run as far as the records go. ``online``: at its server."""
        logged, code = self._cursor.get(run.identity.run_id), self._exit_code(run)
        closed = code is None or (logged.exit_code is not None and code in (INTERRUPTED, logged.exit_code))
        return run.last == NO_STEP or (logged.env_steps >= run.last and logged.online >= online and closed)

    def _is_due_online(self, run: SeedRun) -> bool:
        if run.live is not None:
            return run.last > run.step or self._exit_code(run) is not None
        return not self._is_whole(run, online=True) and run.identity.run_id not in self._refused

    def _is_due_offline(self, run: SeedRun) -> bool:
        """What was begun online goes on there alone: its rows could not be uploaded a second time.

        A run that was refused is still held by wandb's process: no other can be opened under its id.
        """
        run_id = run.identity.run_id
        if self._exit_code(run) is None or run_id in self._refused or self._cursor.get(run_id).online:
            return False
        return not self._is_whole(run, online=False)

    def _say_what_waits(self) -> None:
        if self._over:
            is_due = self._is_due_online if self._online else self._is_due_offline
            due = list(filter(is_due, self._runs.values()))
            self._left = len(due)
            if waiting := sum(run.live is None for run in due):
                self._tell(say=f"W&B: handing over {plural(waiting, 'run')} from the records ...")
            self._tell(left=self._left)

    def _note(self, entries: dict[str, Logged]) -> None:
        """Keep what is known of seeds' runs. The sweep's own run is out of date then."""
        own = sweep_identity(self._info, self._name).run_id
        self._cursor.note({**entries, own: replace(self._cursor.get(own), exit_code=None)})

    def _tell_done(self, count: int) -> None:
        self._left -= count
        if self._over:
            self._tell(left=self._left)

    # -- online ----------------------------------------------------------------------------------------------------

    def _log_online(self) -> None:
        due = list(filter(self._is_due_online, self._runs.values()))
        if not due or not self._is_reachable():
            return
        for trial, runs in itertools.groupby(due, key=lambda run: run.trial):
            records = trial.read()
            for run in runs:
                if run.live is None and not self._begin(run):
                    continue
                for step, row in run.rows(records, run.step):
                    run.live.log(row, step=step, commit=True)  # commit: not held back until the next one
                    run.step = step
                if self._exit_code(run) is not None:
                    self._close(run, records)

    def _is_reachable(self) -> bool:
        """Whether there are a key, without which wandb would prompt, and a server. Asked before the first run."""
        if self._problem is None:
            problem = key_problem()
            if problem is None and not server_answers(ANSWER_WITHIN_S):
                problem = f"the server does not answer within {ANSWER_WITHIN_S:g} s"
            if problem is not None and not self._over:
                raise ServerGoneError(problem)
            self._problem = problem or ""
        return not self._problem

    def _open(self, identity: RunIdentity) -> Any:
        """wandb's run, or None for one that is refused."""
        self._tell()
        try:
            return open_run(identity, self._folder, self._project, self._tags, online=True)
        except Exception as error:
            if not server_answers(ANSWER_WITHIN_S):
                raise ServerGoneError(first_line(error)) from error
            self._refused[identity.run_id] = first_line(error)
            if len(self._refused) <= _NAMED:
                self._tell(warn=f"W&B does not take the run {identity.name} ({first_line(error)}): it waits.")
            return None

    def _begin(self, run: SeedRun) -> bool:
        """Open a seed's run at the last step that W&B has of it, unless it is refused."""
        run.live = self._open(run.identity)
        if run.live is None:
            return False
        run.step = int(run.live.starting_step) - 1
        logged = self._cursor.get(run.identity.run_id)
        self._note({run.identity.run_id: replace(logged, env_steps=run.step, exit_code=None, online=True)})
        return True

    def _close(self, run: SeedRun, records: TrialRecords) -> None:
        """Write the summary and close the run."""
        live, run_id, code = run.live, run.identity.run_id, self._exit_code(run)
        values = seed_summary(self._info, records, run.seed)
        write_summary(live, values)
        self._finish(live, code or 0)
        run.live = None
        logged = replace(self._cursor.get(run_id), env_steps=min(run.step, self._arrived(live.path, run.step)))
        if logged.env_steps < run.step:
            self._refused[run_id] = "it did not take them"
            self._note({run_id: logged})
        else:
            self._note({run_id: replace(logged, exit_code=code)})
            self._mark_synced(run_id)
        self._tell_done(1)

    def _finish(self, live: Any, code: int) -> None:
        self._tell()
        live.finish(exit_code=code)
        self._tell()

    def _arrived(self, path: str, wanted: int) -> int:
        """The last step that the server has of a run that was closed: wandb does not tell when it has refused rows."""
        for _ in range(3):
            step = step_at_server(path)
            if step >= wanted:
                break
            self._tell()
            time.sleep(POLL_S)
        return step

    def _mark_synced(self, run_id: str) -> None:
        for name in self._cursor.pieces(run_id):  # or `wandb sync` would send once more what was logged offline
            with contextlib.suppress(OSError):
                mark_synced(self._folder, name)

    # -- offline ---------------------------------------------------------------------------------------------------

    def _write_offline(self) -> None:
        due = list(filter(self._is_due_offline, self._runs.values()))
        for first in range(0, len(due), _AT_A_TIME):
            runs = due[first : first + _AT_A_TIME]
            self._note(self._written(self._pieces(runs)))
            settle(self._folder, self._cursor)
            self._tell_done(len(runs))

    def _pieces(self, runs: Sequence[SeedRun]) -> Iterator[Piece]:
        for trial, own in itertools.groupby(runs, key=lambda run: run.trial):
            records = trial.read()
            for run in own:
                rows = run.rows(records, self._cursor.get(run.identity.run_id).env_steps)
                summary = seed_summary(self._info, records, run.seed)
                yield Piece(run.identity, rows, summary, self._exit_code(run) or 0)

    def _written(self, pieces: Iterator[Piece]) -> dict[str, Logged]:
        """Write pieces. Returns what is known of their runs then."""
        written = write_pieces(pieces, self._folder, self._project, self._tags, self._tell)
        return {run_id: _after(self._cursor.get(run_id), piece) for run_id, piece in written.items()}

    # -- the end ---------------------------------------------------------------------------------------------------

    def _log_sweep_run(self) -> None:
        """Write the summary of the sweep's own run, where it is out of date."""
        identity = sweep_identity(self._info, self._name)
        logged = self._cursor.get(identity.run_id)
        if logged.exit_code is not None and logged.online >= self._online:
            return
        summary = sweep_summary(SweepResults.load(self._folder))
        if self._online and self._is_reachable():
            if (live := self._open(identity)) is not None:
                write_summary(live, summary)
                self._finish(live, 0)
                self._cursor.note({identity.run_id: replace(logged, exit_code=0, online=True)})
                self._mark_synced(identity.run_id)
        elif not logged.online:
            self._cursor.note(self._written(iter([Piece(identity, (), summary, 0)])))
            settle(self._folder, self._cursor)

    def _conclude(self) -> None:
        """Say what is still lacking, and why."""
        left = [run for run in self._runs.values() if not self._is_whole(run, online=self._wanted_online)]
        for trial in self._trials.values():
            if trial.damage:
                self._tell(warn=f"W&B gets the sound records of {trial.name} alone ({trial.damage}).")
        reason = self._problem or next(iter(self._refused.values()), "")
        if not self._wanted_online:
            reason = "they were begun online"
        self._tell(lacking=max(len(left), int(bool(self._refused))), reason=reason)


def _after(before: Logged, piece: Logged) -> Logged:
    """What is known of a run with one more piece."""
    return replace(
        before,
        env_steps=max(before.env_steps, piece.env_steps),
        exit_code=piece.exit_code,
        pieces=(*before.pieces, *piece.pieces),
    )
