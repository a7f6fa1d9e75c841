"""Follows a sweep's records and logs to W&B what lies beyond the last step that W&B has.

Rows of trials that run, of trials that ended while W&B was away, and of earlier launches are the same to it. It keeps
nothing in memory that a new process would lack. So after any failure the process ends, and a new one goes on from the
records, the cursor and W&B (``supervisor``).
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.results import SweepResults
from vagram_ray.sweep.wandb.cursor import NO_STEP, Cursor, Logged, mark_synced
from vagram_ray.sweep.wandb.identity import SEED_JOB, RunIdentity, run_tags, seed_identity, sweep_identity
from vagram_ray.sweep.wandb.mode import key_problem, server_answers
from vagram_ray.sweep.wandb.orders import Orders, Reporter
from vagram_ray.sweep.wandb.runs import FollowedTrial, SeedRun
from vagram_ray.sweep.wandb.summaries import FINAL_KEYS, seed_summary, summary_digest, sweep_summary
from vagram_ray.sweep.wandb.target import Target, step_at_server
from vagram_ray.text import first_line, plural

INTERRUPTED = 130
"""Exit code of runs whose trial had not ended when the sweep did (128 + SIGINT, as shells count)."""
POLL_S = 1.0
ANSWER_WITHIN_S = 10.0
_DELETED = "previously created and deleted"


class ServerGoneError(Exception):
    """W&B's server does not answer, so that there is nothing to do for now."""


class NotOnlineError(Exception):
    """The first run of a launch cannot be opened online: the launch is logged offline."""


class Follower:
    """Logs one sweep.

    Args:
        target: Where the runs go.
        orders: What the driver wants, looked at between two calls of wandb.
        reporter: Told how far it is.
    """

    def __init__(self, target: Target, orders: Orders, reporter: Reporter) -> None:
        self._target, self._orders, self._reporter = target, orders, reporter
        self._folder = SweepFolder(target.folder)
        self._online = orders.online and not orders.offline_now
        self._cursor = Cursor(target.folder, target.place)
        self._cursor.sweep_name = target.sweep_name
        self._trials: dict[str, FollowedTrial] = {}
        self._runs: dict[str, SeedRun] = {}
        self._closing: dict[str, Logged] = {}
        """What the pieces come to that are closed, but whose process has not ended."""
        self._sizes: dict[Path, int] = {}
        """Bytes that were given to their files, at least."""
        self._failed: set[str] = set()
        self._told = self._checked = self._ended = self._interrupted = False
        self._signature: tuple[int, int] | None = None

    def follow(self) -> None:
        """Log until the sweep has ended and all is handed over, or nothing more can be.

        Raises:
            ServerGoneError: W&B does not answer.
            NotOnlineError: The first run cannot be opened online.
            SweepError: The sweep cannot be read.
            Exception: Whatever wandb raises.
        """
        self._cursor.discard_broken_pieces()
        while True:
            # As it is before the records are read: a run is closed when all was read.
            self._ended, self._interrupted = self._orders.ended, self._orders.interrupted
            self._failed = set(self._orders.failed)
            self._round()
            if self._ended:
                break
            self._orders.wait(POLL_S)
        if any(trial.steps for trial in self._trials.values()):
            self._log_sweep_run()
        self._settle()
        self._conclude()

    # -- one round -----------------------------------------------------------------------------------------------

    def _round(self) -> None:
        self._reporter.beat()
        self._read_plan()
        for trial in self._trials.values():
            trial.update()
            trial.forget()
        self._say_what_waits()
        for trial in self._trials.values():
            for run in [run for run in self._runs.values() if run.trial is trial and self._is_due(run)]:
                if run.live is not None or self._open_seed(run):
                    run.log()
                    if self._exit_code(run) is not None:
                        self._close_seed(run)
            trial.forget()
        self._note_given()
        if self._closing and all(run.live is None for run in self._runs.values()):
            self._settle()

    def _read_plan(self) -> None:
        """Read ``sweep.json`` where it has changed: a trial may have been divided."""
        with contextlib.suppress(FileNotFoundError):
            status = self._folder.file.stat()
            if self._signature == (status.st_mtime_ns, status.st_size):
                return
            self._signature = (status.st_mtime_ns, status.st_size)
        self._info = self._folder.read()
        self._tags = run_tags(self._info, self._target.sweep_name)
        trials, runs = {}, {}
        for entry in self._info["trials"]:
            name = entry["name"]
            trial = self._trials.get(name) or FollowedTrial(self._folder, entry, self._info["epochs"])
            trials[name] = trial
            for seed in trial.seeds:
                identity = seed_identity(self._info, entry, seed, self._target.sweep_name)
                run = self._runs.get(identity.run_id) or SeedRun(identity, trial, seed)
                run.identity, run.trial = identity, trial
                runs[identity.run_id] = run
        self._trials, self._runs = trials, runs

    def _known(self, run_id: str) -> Logged:
        return self._closing.get(run_id) or self._cursor.get(run_id)

    def _exit_code(self, run: SeedRun) -> int | None:
        """How the run shall be closed, or None while its trial runs."""
        trial = run.trial
        if run.seed in trial.failed:
            ended = len(trial.failed) == len(trial.seeds) or trial.over
            return 1 if ended or self._ended or trial.name in self._failed else None
        if trial.over:
            return 0
        if trial.name in self._failed:
            return 1
        return INTERRUPTED if self._ended else None

    def _is_whole(self, run: SeedRun, *, online: bool) -> bool:
        """Whether W&B has all of a run as far as the records go. ``online``: at its server."""
        logged, code = self._known(run.identity.run_id), self._exit_code(run)
        if logged.deleted or run.last == NO_STEP:
            return True
        if logged.env_steps < run.last or (online and not logged.online):
            return False
        if code is None:
            return True
        return logged.exit_code is not None and (code == INTERRUPTED or bool(logged.exit_code) == bool(code))

    def _is_due(self, run: SeedRun) -> bool:
        if run.live is not None:
            return True
        if run.blocked or self._interrupted or self._is_whole(run, online=self._online):
            return False
        # What was begun online goes on there alone: its rows could not be uploaded a second time.
        return self._online or not self._known(run.identity.run_id).online

    def _say_what_waits(self) -> None:
        due = sum(run.live is None and self._is_due(run) for run in self._runs.values())
        if due and self._ended and not self._told:
            self._told = True
            self._reporter.tell(say=f"W&B: handing over {plural(due, 'run')} from the records ...")
        self._reporter.tell(left=due + sum(run.live is not None for run in self._runs.values()))

    # -- opening and closing -------------------------------------------------------------------------------------

    def _open_seed(self, run: SeedRun) -> bool:
        """Open the run, or return False where it has to wait."""
        try:
            live = self._open(run.identity)
        except (ServerGoneError, NotOnlineError):
            raise
        except Exception as error:
            if not self._online:
                raise
            run.blocked = first_line(error)
        else:
            if live is not None:
                run.live, run.step, run.num_bytes = live, self._begin(run.identity.run_id, live), 0
                run.first = run.step
                live.define_metric("env_steps")
                live.define_metric("*", step_metric="env_steps")
                return True
        return False

    def _open(self, identity: RunIdentity) -> Any:
        """wandb's run, or None for one that was deleted or cannot be written offline."""
        if self._online:
            self._check_server()
        if not self._online and self._known(identity.run_id).online and identity.job_type == SEED_JOB:
            return None
        try:
            self._reporter.beat()
            live = self._target.open(identity, self._tags, online=self._online)
            self._reporter.beat()
        except Exception as error:
            if not self._online:
                raise
            problem = first_line(error)
            if _DELETED in problem:
                self._cursor.note({identity.run_id: replace(self._cursor.get(identity.run_id), deleted=True)})
                name = f"{identity.name} ({identity.run_id})"
                warning = f"The W&B run {name} was deleted there and is not logged any more."
                self._reporter.tell(warn=warning)
                return None
            if not self._orders.reached:
                raise NotOnlineError(problem) from error
            if not server_answers(ANSWER_WITHIN_S):
                raise ServerGoneError(problem) from error
            raise
        if self._online:
            self._orders.reached = True
            self._reporter.tell(reached=True)
        return live

    def _check_server(self) -> None:
        """Before the first run: check that there is a key, and that the server answers."""
        if self._checked:
            return
        self._checked = True
        problem = key_problem()  # without a key wandb.init would prompt
        if problem is None and not server_answers(ANSWER_WITHIN_S):
            problem = f"the server does not answer within {ANSWER_WITHIN_S:g} s"
        if problem is None:
            return
        if not self._orders.reached:
            raise NotOnlineError(problem)
        if not self._ended:
            raise ServerGoneError(problem)
        self._online = False  # what was never online can still be written

    def _begin(self, run_id: str, live: Any) -> int:
        """Note that a run is open. Returns the last step that W&B has of it."""
        logged = self._known(run_id)
        if not live.offline:
            step = int(live.starting_step) - 1
            begun = replace(logged, env_steps=step, exit_code=None, online=True)
        else:
            step = logged.env_steps
            before = self._cursor.get(run_id)
            begun = replace(before, writing=(*before.writing, Path(live.sync_dir).name), exit_code=None)
        self._cursor.note({run_id: begun})
        return step

    def _close_seed(self, run: SeedRun) -> None:
        """Write the summary and close the run. A seed whose training failed closes as a failed run."""
        live, run_id, code = run.live, run.identity.run_id, self._exit_code(run)
        values = seed_summary(self._info, run.trial.read(), run.seed)
        live.summary.update(values)
        for key in FINAL_KEYS:
            if key in live.summary.keys() and key not in values:  # noqa: SIM118  # a summary is no dict
                del live.summary[key]  # of a sweep that has got more epochs since
        self._finish(live, code or 0, run.num_bytes)
        run.live = None
        logged = replace(self._known(run_id), env_steps=run.step, exit_code=code)
        if live.offline:
            self._closing[run_id] = logged
        elif run.step > run.first and (arrived := self._arrived(live.path, run.step)) < run.step:
            run.blocked = "it did not take them"
            self._cursor.note({run_id: replace(logged, env_steps=max(arrived, run.first), exit_code=None)})
        else:
            self._note_online(run_id, logged)
        self._reporter.tell(done=run.identity.name)

    def _finish(self, live: Any, code: int, num_bytes: int) -> None:
        self._reporter.beat()
        live.finish(exit_code=code)
        self._reporter.beat()
        if live.offline:
            self._sizes[Path(live.settings.sync_file)] = num_bytes

    def _arrived(self, path: str, wanted: int) -> int:
        """The last step that the server has of a run that was closed: wandb does not tell when it has refused rows."""
        for _ in range(3):
            step = step_at_server(path)
            if step >= wanted:
                break
            self._reporter.beat()
            self._orders.wait(POLL_S)
        return step

    def _note_online(self, run_id: str, logged: Logged) -> None:
        self._cursor.note({run_id: logged})
        for name in self._cursor.pieces(run_id):  # or `wandb sync` would send once more what was logged offline
            with contextlib.suppress(OSError):
                mark_synced(self._target.folder / "wandb" / name)

    def _note_given(self) -> None:
        """How far the pieces go that are being written."""
        open_runs = {run.identity.run_id: run for run in self._runs.values() if run.live is not None}
        given = {key: run.step for key, run in open_runs.items() if run.live.offline}
        self._cursor.note({key: replace(self._cursor.get(key), given=step) for key, step in given.items()})

    def _settle(self) -> None:
        """End wandb's process, after which the pieces are whole, and count them."""
        if not self._closing:
            return
        import wandb

        self._reporter.beat()
        wandb.teardown()
        self._reporter.beat()
        for file, num_bytes in self._sizes.items():
            if file.stat().st_size < num_bytes:
                raise OSError(f"{file} is cut short, as on a disk that is full")
        self._sizes.clear()
        closing, self._closing = self._closing, {}
        whole = {}
        for run_id, logged in closing.items():
            pieces = (*logged.pieces, *self._cursor.get(run_id).writing)
            whole[run_id] = replace(logged, pieces=pieces, writing=(), given=NO_STEP)
        self._cursor.note(whole)

    # -- the end -------------------------------------------------------------------------------------------------

    def _log_sweep_run(self) -> None:
        """Open (or, in a later launch, continue) the sweep's own run, write its summary and close it."""
        results = SweepResults.load(self._target.folder)
        summary = sweep_summary(results)
        identity, content = sweep_identity(results.info, self._target.sweep_name), summary_digest(summary)
        logged = self._known(identity.run_id)
        arrived = logged.exit_code is not None and logged.content == content and logged.online >= self._online
        if logged.deleted or arrived or (live := self._open(identity)) is None:
            return
        self._begin(identity.run_id, live)
        live.summary.update(summary)
        self._finish(live, 0, 0)
        closed = replace(self._known(identity.run_id), exit_code=0, content=content, online=not live.offline)
        if live.offline:
            self._closing[identity.run_id] = closed
        else:
            self._note_online(identity.run_id, closed)

    def _conclude(self) -> None:
        """Say what is still lacking, and why."""
        wanted_online = self._orders.online
        left = [run for run in self._runs.values() if not self._is_whole(run, online=wanted_online)]
        for trial in self._trials.values():
            if trial.damage:
                self._reporter.tell(warn=f"W&B gets the sound records of {trial.name} alone ({trial.damage}).")
        problem = next((run.blocked for run in left if run.blocked), "")
        if wanted_online and not self._online:
            problem = "nothing can be logged online now"
        elif not wanted_online:
            problem = "they were begun online"
        self._reporter.tell(lacking=len(left), reason=problem)
