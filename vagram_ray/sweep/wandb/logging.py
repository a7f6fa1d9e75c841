"""Weights & Biases for a sweep: one run per seed, grouped by cell, and one of the sweep, logged from the driver.

Ray's ``WandbLoggerCallback`` makes one run per trial, but a trial trains several seeds, and it starts two processes
per trial and leaves some of their files cut short. ``WandbSeedRuns`` replaces it. A background thread makes all calls
of wandb (``wandb_service``): the sweep never waits for W&B, and ``finish_all`` waits at the end only while W&B gets on.

``prepare_wandb`` settles the mode and the environment variables; call it before ``ray.init``.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from vagram_ray.records.folder import EARLIER_RESULTS, SweepFolder
from vagram_ray.records.results import SweepResults, TrialRecords
from vagram_ray.sweep.wandb.identity import default_cell_name, seed_identity, seeds_of, sweep_identity
from vagram_ray.sweep.wandb.mode import prepare_wandb
from vagram_ray.sweep.wandb.reader import is_synced
from vagram_ray.sweep.wandb.refill import INTERRUPTED, UNREADABLE, refill
from vagram_ray.sweep.wandb.runs import Progress, SeedRun
from vagram_ray.sweep.wandb.service import WandbWorker, abandon_service
from vagram_ray.sweep.wandb.sweep_run import final_return_summary, log_sweep_run, sweep_summary
from vagram_ray.sweep.wandb.target import RETRY_AFTER_S, Target, note_sweep_run
from vagram_ray.sweep.wandb.text import first_line, flatten, sweep_digest, sweep_tag

__all__ = ["WandbSeedRuns", "default_cell_name", "prepare_wandb"]

logger = logging.getLogger(__name__)


class WandbSeedRuns(Callback):
    """Tune callback that logs every seed of every trial as a W&B run of its own.

    Logged are ``result["seeds"]["seed_<k>"]`` (flattened with ``/``), ``time/*``, ``perf/*``, ``env_steps`` and
    ``training_iteration``, at step ``env_steps``; NaN means "not measured" and is left out. A row is logged only if
    its ``env_steps`` exceeds all that W&B has, so results that a trial computes again after a restart appear once.
    A seed whose training failed (``failed`` = 1) ends as a failed run.

    A run's config is the trial's, with ``seed`` (the run's own), ``cell``, ``sweep_name``, ``sweep_id`` and ``trial``;
    its id is made of cell, seed and ``sweep_id``, so that every launch of a sweep continues the same runs. The summary
    ends with last, best and final return.

    Where ``directory`` is a sweep's folder, its records make up for rows that died with an earlier driver before W&B
    had them, ``refill`` hands over what W&B lacks in the end, and the sweep gets a run of its own
    (``wandb_sweep_run``).

    W&B never stops the sweep. Where no online run can be opened, a warning says so and the runs are written offline.
    After any other error, or where wandb does not answer, a warning says so and logging rests for ten minutes; then
    it goes on with a fresh service process, from the records.

    Args:
        project: W&B project, or ``ENTITY/PROJECT``.
        sweep_name: name of the sweep; a tag of every run, beside one with its id.
        tags: further tags.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``: what ``prepare_wandb`` returned.
        directory: runs lie in ``directory/wandb``; default ``WANDB_DIR``, else the working directory.
        entity: W&B team or user, where ``project`` does not name it; default is the user's own.
        cell_of: name of the cell (the W&B group) from the trial's config; default ``default_cell_name``.
        sweep_id: id of the sweep, the same in all its launches; without one, a launch's runs are its own.

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(
        self,
        project: str,
        sweep_name: str,
        tags: Sequence[str] = (),
        mode: str = "offline",
        directory: str | Path | None = None,
        entity: str | None = None,
        cell_of: Callable[[dict[str, Any]], str] | None = None,
        sweep_id: str | None = None,
    ) -> None:
        if mode not in ("online", "offline", "disabled"):
            raise ValueError(f"W&B mode {mode!r} must be online, offline or disabled: prepare_wandb() settles it.")
        owner, _, self.project = project.rpartition("/")
        self.entity, self.sweep_name, self.mode = owner or entity, sweep_name, mode
        self.sweep_id = sweep_id or secrets.token_hex(8)
        named = [tag[:64] for tag in (sweep_name, *tags) if tag]  # W&B refuses longer ones
        self.tags = tuple(dict.fromkeys([*named, sweep_tag(self.sweep_id)]))
        self.directory = Path(directory or os.environ.get("WANDB_DIR") or ".").expanduser().resolve()
        self.cell_of = cell_of or default_cell_name
        self._start()

    def _start(self) -> None:
        self._configs: dict[str, dict[str, Any]] = {}
        self._failed: set[str] = set()
        self._told: set[str] = set()
        self._ending = False
        self._connect()

    def _connect(self) -> None:
        self._runs: dict[str, list[SeedRun]] = {}  # of trials that have started and not ended, by trial id
        self._progress: dict[str, Progress] = {}
        self._read: dict[str, tuple[Mapping[str, Any], ...]] = {}
        self._target = self._new_target()
        self._worker = WandbWorker(self._warn_off)
        self._worker.off = self.mode == "disabled"
        self._off_since = math.inf

    def _new_target(self) -> Target:
        return Target(self.project, self.entity, self.directory, self.tags, self.mode)

    # Tune pickles its callbacks along with a sweep's state. Nothing goes on from that: W&B and the records do.

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    # Tune's hooks: each only hands work to the background thread.

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the runs of the trial's seeds; after a restart they are open already."""
        self._guard(self._open_trial, trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Log one row per seed."""
        self._guard(self._log_result, trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Finish the trial's runs."""
        self._guard(self._close_trial, str(trial), 0, str(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Finish the trial's runs as failed. Before a retry Tune calls ``on_trial_recover`` instead: runs stay open."""
        self._failed.add(str(trial))
        self._guard(self._close_trial, str(trial), 1)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Finish what is still open, and log the sweep's own run."""
        self._ending = True
        self._close_all(INTERRUPTED)
        if trials and SweepFolder(self.directory).is_there:
            self._worker.submit(self._write_sweep_run)
        self.finish_all()

    # For the runner of the sweep.

    def finish_all(self, timeout_s: float = 60.0, exit_code: int = INTERRUPTED) -> None:
        """Finish every open run and wait as long as W&B gets on with it; may be repeated.

        Given up when nothing that is queued was done for ``timeout_s`` (and 15 s more to let go of a W&B that hangs).
        Runs that are still open belong to trials that were interrupted: ``exit_code`` marks them.
        """
        self._ending = True
        self._close_all(exit_code)
        self._worker.settle(timeout_s)

    def refill(self, failed: Collection[str] = (), say: Callable[[str], None] = logger.info) -> int:
        """Hand over what W&B lacks of the sweep's records, those of earlier launches too (``wandb_refill``).

        Also after logging was switched off: once more, with a fresh service process. Costs nothing worth mentioning
        when nothing is lacking, never raises, and ends after 15 minutes at the latest.

        Args:
            failed: Names of trials that have failed for good, beside those that Tune has told of.
            say: Told what is being done, if there is something to do.

        Returns:
            How many runs still lack something; a warning has said so.
        """
        self.finish_all()
        if self.mode == "disabled" or not SweepFolder(self.directory).is_there:
            return 0
        lacking = refill(
            self._new_target(),
            self.sweep_name,
            self.sweep_id,
            configs=self._configs,
            failed={*failed, *self._failed},
            say=say,
        )
        abandon_service()  # in order, now; what wandb does at the interpreter's exit can fail with a traceback
        return lacking

    def offline_runs(self) -> list[Path]:
        """Folders of this sweep's offline runs that W&B does not have, oldest first: what ``wandb sync`` takes."""
        folders = (self.directory / "wandb").glob(f"offline-run-*-{sweep_digest(self.sweep_id)}-*")
        return sorted(folder for folder in folders if any(folder.glob("*.wandb")) and not is_synced(folder))

    # In the driver's thread.

    def _guard(self, function: Callable[..., None], *args: Any) -> None:
        if not self._worker.works() and not self._connect_again():
            return
        try:
            function(*args)
        except Exception as error:  # whatever a config or a result holds, the sweep goes on
            self._worker.switch_off(first_line(error))

    def _connect_again(self) -> bool:
        """With a fresh service process and runs that are opened anew, some time after W&B has failed."""
        if self._ending or time.monotonic() - self._off_since < RETRY_AFTER_S:
            return False
        self._connect()
        self._worker.submit(abandon_service)
        return True

    def _open_trial(self, trial: Any) -> None:
        if str(trial) in self._runs:
            return
        config = trial.config.to_dict() if hasattr(trial.config, "to_dict") else dict(trial.config)
        cell, name = self.cell_of(config), str(trial)
        self._configs[name] = config
        self._runs[str(trial)] = []
        for seed in seeds_of(config):
            identity = seed_identity(
                config, cell, seed, sweep_id=self.sweep_id, sweep_name=self.sweep_name, trial=name
            )  # fmt: skip
            run, progress = SeedRun(identity, seed), Progress()
            self._runs[str(trial)].append(run)
            self._progress[run.run_id] = progress
            self._worker.submit(self._open_run, run, progress, name)
        self._worker.submit(self._read.clear)

    def _log_result(self, trial: Any, result: Mapping[str, Any]) -> None:
        if "env_steps" not in result or "seeds" not in result:
            return
        self._open_trial(trial)
        env_steps = int(result["env_steps"])
        shared = flatten({"time": result.get("time", {}), "perf": result.get("perf", {})})
        shared |= flatten({key: result[key] for key in ("env_steps", "training_iteration") if key in result})
        for run in self._runs[str(trial)]:
            own = result["seeds"].get(f"seed_{run.seed}")
            if own is not None:
                progress = self._progress[run.run_id]
                if result.get(EARLIER_RESULTS):  # what the records lacked until now
                    self._worker.submit(self._catch_up, run, progress, str(trial))
                self._worker.submit(run.log, progress, env_steps, {**flatten(own), **shared})
        if result.get(EARLIER_RESULTS):
            self._worker.submit(self._read.clear)

    def _close_trial(self, trial_id: str, exit_code: int, trial_name: str = "") -> None:
        for run in self._runs.pop(trial_id, []):
            self._worker.submit(self._finish_run, run, exit_code, trial_name)
        self._worker.submit(self._read.clear)

    def _close_all(self, exit_code: int) -> None:
        for trial_id in list(self._runs):
            self._guard(self._close_trial, trial_id, exit_code)

    # In the background thread.

    def _open_run(self, run: SeedRun, progress: Progress, trial_name: str) -> None:
        run.open(self._target, progress, self._records(trial_name))
        note_sweep_run(self.directory, sweep_name=self.sweep_name)

    def _catch_up(self, run: SeedRun, progress: Progress, trial_name: str) -> None:
        run.catch_up(progress, self._records(trial_name))

    def _finish_run(self, run: SeedRun, exit_code: int, trial_name: str) -> None:
        summary: dict[str, float] = {}
        if trial_name and SweepFolder(self.directory).is_there:
            with contextlib.suppress(*UNREADABLE):
                trial = TrialRecords(trial_name, 0, (run.seed,), self._records(trial_name))
                summary = final_return_summary(SweepFolder(self.directory).read(), trial, run.seed)
        try:
            run.finish(self._target, self._progress[run.run_id], exit_code, summary)
        except TimeoutError:
            if self._ending:
                raise
            self._target.pause("it did not take a run's data in time")

    def _write_sweep_run(self) -> None:
        try:
            results = SweepResults.load(self.directory)
            summary = sweep_summary(results)
            identity = sweep_identity(results.info, self.sweep_name, self.sweep_id)
        except UNREADABLE as error:
            logger.warning(
                "The sweep's own W&B run is not written, its records cannot be read (%s).", first_line(error)
            )
            return
        log_sweep_run(self._target, identity, summary)

    def _records(self, trial_name: str) -> tuple[Mapping[str, Any], ...]:
        """A trial's records, read once for all its seeds; none where they are damaged."""
        if trial_name not in self._read:
            records, damage = SweepFolder(self.directory).read_records(trial_name)
            self._read[trial_name] = () if damage else records
        return self._read[trial_name]

    # In either thread.

    def _warn_off(self, reason: str) -> None:
        self._off_since = time.monotonic()
        if reason not in self._told:
            self._told.add(reason)
            what = "did not take everything" if self._ending else f"logging is off for {RETRY_AFTER_S / 60:g} minutes"
            logger.warning(
                "W&B %s (%s); what was logged so far is in %s, and the sweep's records have everything.",
                what, reason, self.directory / "wandb",
            )  # fmt: skip
