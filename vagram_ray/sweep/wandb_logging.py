"""Weights & Biases for a sweep: one run per seed, grouped by cell, and one of the sweep, logged from the driver.

Ray's ``WandbLoggerCallback`` makes one run per trial, but a trial trains several seeds, and it starts two processes
per trial and leaves some of their files cut short. ``WandbSeedRuns`` replaces it. Calls of wandb can block (a network
that does not answer, a service process that hangs), so a background thread makes them, one after another: the sweep
never waits for W&B, and ``finish_all`` waits at the end only while W&B gets on.

``prepare_wandb`` settles the mode and the environment variables; call it before ``ray.init``.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from vagram_ray.sweep.results import SWEEP_FILE, SweepResults, read_records
from vagram_ray.sweep.wandb_mode import prepare_wandb
from vagram_ray.sweep.wandb_runs import Progress, SeedRun, flatten
from vagram_ray.sweep.wandb_sweep_run import final_return_summary, log_sweep_run, sweep_identity, sweep_summary
from vagram_ray.sweep.wandb_target import (
    INIT_TIMEOUT_S,
    RunIdentity,
    Target,
    abandon_service,
    digest,
    first_line,
    jsonable,
    note_sweep_run,
    slug,
)

__all__ = ["WandbSeedRuns", "default_cell_name", "prepare_wandb"]

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit code of runs whose trial had not ended when the sweep did (128 + SIGINT, as shells count)."""

SEED_JOB = "seed"
"""W&B's job type of the seeds' runs."""
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""What damaged records raise on reading; W&B then lacks what they would have added, and logging goes on."""
_STUCK_AFTER_S = 3 * INIT_TIMEOUT_S
_TEARDOWN_S = 15.0


class WandbSeedRuns(Callback):
    """Tune callback that logs every seed of every trial as a W&B run of its own.

    Logged are ``result["seeds"]["seed_<k>"]`` (flattened with ``/``), ``time/*``, ``perf/*``, ``env_steps`` and
    ``training_iteration``, at step ``env_steps``; NaN means "not measured" and is left out. A row is logged only if
    its ``env_steps`` exceeds all before it, so results that a trial computes again after a restart, or a restored
    sweep does, appear once. A seed whose training failed (``failed`` = 1) ends as a failed run.

    A run's config is the trial's, with ``seed`` (the run's own), ``cell``, ``sweep_name`` and ``trial_id``; its id is
    made of cell, seed, sweep name and trial id, which ``Tuner.restore`` keeps and a new launch of the sweep does not.
    The summary ends with last, best and final return.

    Where ``directory`` is a sweep's folder, its records make up for rows that died with an earlier driver before W&B
    had them, and the sweep gets a run of its own at the end (``wandb_sweep_run``).

    W&B never stops the sweep: at the first error one warning is logged and logging ends. Where no online run can be
    opened, a warning says so and the runs are written offline (ids end in ``-offline``).

    Args:
        project: W&B project, or ``ENTITY/PROJECT``.
        sweep_name: name of the sweep; a tag of every run.
        tags: further tags.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``: what ``prepare_wandb`` returned.
        directory: runs lie in ``directory/wandb``; default ``WANDB_DIR``, else the working directory.
        entity: W&B team or user, where ``project`` does not name it; default is the user's own.
        cell_of: name of the cell (the W&B group) from the trial's config; default ``default_cell_name``.

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
    ) -> None:
        if mode not in ("online", "offline", "disabled"):
            raise ValueError(f"W&B mode {mode!r} must be online, offline or disabled: prepare_wandb() settles it.")
        owner, _, self.project = project.rpartition("/")
        self.entity, self.sweep_name, self.mode = owner or entity, sweep_name, mode
        self.tags = tuple(dict.fromkeys(tag[:64] for tag in (sweep_name, *tags) if tag))  # W&B refuses longer ones
        self.directory = Path(directory or os.environ.get("WANDB_DIR") or ".").expanduser().resolve()
        self.cell_of = cell_of or default_cell_name
        self._progress: dict[str, Progress] = {}
        self._reset_live()

    def _reset_live(self) -> None:
        self._runs: dict[str, list[SeedRun]] = {}  # of trials that have started and not ended, by trial id
        self._target = Target(self.project, self.entity, self.directory, self.tags, self.mode)
        self._worker = _Worker()
        self._off = self.mode == "disabled"
        self._service_in_doubt = False
        self._lock = threading.Lock()

    # Tune pickles the callback with the sweep, and asks for its state with every snapshot.

    def __getstate__(self) -> dict[str, Any]:
        live = ("_runs", "_target", "_worker", "_off", "_service_in_doubt", "_lock")
        state = {key: value for key, value in self.__dict__.items() if key not in live}
        return {**state, "_progress": self.get_state()["progress"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._progress = {}
        self._reset_live()
        self.set_state({"progress": state["_progress"]})

    def get_state(self) -> dict[str, Any]:
        """What each run has logged so far, as plain values."""
        return {"progress": {run_id: progress.to_dict() for run_id, progress in list(self._progress.items())}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from ``get_state`` of an earlier driver."""
        for run_id, values in state["progress"].items():
            self._progress[run_id] = Progress.from_dict(values)

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
        self._guard(self._close_trial, trial.trial_id, 0, str(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Finish the trial's runs as failed. Before a retry Tune calls ``on_trial_recover`` instead: runs stay open."""
        self._guard(self._close_trial, trial.trial_id, 1)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Finish what is still open, and log the sweep's own run."""
        self._close_all(INTERRUPTED)
        self._guard(self._log_sweep, trials)
        self.finish_all()

    # For the runner of the sweep.

    def finish_all(self, timeout_s: float = 60.0, exit_code: int = INTERRUPTED) -> None:
        """Finish every open run and wait as long as W&B gets on with it; may be repeated.

        Given up when nothing that is queued was done for ``timeout_s`` (and 15 s more to let go of a W&B that hangs).
        Runs that are still open belong to trials that were interrupted: ``exit_code`` marks them.
        """
        self._close_all(exit_code)
        if not self._off and not self._worker.drain(timeout_s):
            self._switch_off(f"it finished nothing for {timeout_s:g} s")
        if self._service_in_doubt:
            self._service_in_doubt = False
            abandon_service(_TEARDOWN_S)

    def offline_runs(self) -> list[Path]:
        """Folders of this sweep's offline runs, oldest first: what ``wandb sync`` and ``wandb beta leet`` take."""
        folders = (self.directory / "wandb").glob(f"offline-run-*-{digest(self.sweep_name, 6)}-*")
        return sorted(folder for folder in folders if any(folder.glob("*.wandb")))

    # In the driver's thread.

    def _guard(self, function: Callable[..., None], *args: Any) -> None:
        if self._off:
            return
        if self._worker.busy_for() > _STUCK_AFTER_S:
            self._switch_off(f"wandb has not answered for {_STUCK_AFTER_S:g} s")
            return
        try:
            function(*args)
        except Exception as error:  # whatever a config or a result holds, the sweep goes on
            self._switch_off(first_line(error))

    def _open_trial(self, trial: Any) -> None:
        if trial.trial_id in self._runs:
            return
        config = trial.config.to_dict() if hasattr(trial.config, "to_dict") else dict(trial.config)
        cell = self.cell_of(config)
        seeds = config.get("seeds", (0,))
        runs = [self._seed_run(trial.trial_id, config, cell, seed) for seed in _as_seeds(seeds)]
        self._runs[trial.trial_id] = runs
        for run in runs:
            progress = self._progress.setdefault(run.run_id, Progress())
            self._submit(self._open_run, run, progress, str(trial))

    def _seed_run(self, trial_id: str, config: dict[str, Any], cell: str, seed: int) -> SeedRun:
        # Readable in a folder's listing; the trial id tells apart two launches, and two cells of one name.
        group = cell[:128]
        key = digest(f"{group}|{seed}|{trial_id}", 8)
        run_id = f"{slug(group)[:48]}-seed{seed}-{digest(self.sweep_name, 6)}-{key}"
        # Not "sweep": wandb-workspaces takes a config entry of that name for W&B's own kind of sweep.
        origin = {"seed": seed, "cell": group, "sweep_name": self.sweep_name, "trial_id": trial_id}
        own = {**jsonable(config), **origin}
        return SeedRun(RunIdentity(run_id, f"{cell[:112]} seed {seed}", group, SEED_JOB, own), seed)

    def _log_result(self, trial: Any, result: Mapping[str, Any]) -> None:
        if "env_steps" not in result or "seeds" not in result:
            return
        self._open_trial(trial)
        env_steps = int(result["env_steps"])
        shared = flatten({"time": result.get("time", {}), "perf": result.get("perf", {})})
        shared |= flatten({key: result[key] for key in ("env_steps", "training_iteration") if key in result})
        for run in self._runs[trial.trial_id]:
            own = result["seeds"].get(f"seed_{run.seed}")
            if own is not None:
                self._submit(run.log, self._progress[run.run_id], env_steps, {**flatten(own), **shared})

    def _close_trial(self, trial_id: str, exit_code: int, trial_name: str = "") -> None:
        for run in self._runs.pop(trial_id, []):
            self._submit(self._finish_run, run, exit_code, trial_name)

    def _close_all(self, exit_code: int) -> None:
        for trial_id in list(self._runs):
            self._guard(self._close_trial, trial_id, exit_code)

    def _log_sweep(self, trials: list[Any]) -> None:
        if trials and (self.directory / SWEEP_FILE).is_file():
            launch = min(trial.trial_id for trial in trials)  # Tuner.restore keeps it
            self._submit(self._write_sweep_run, launch)

    def _submit(self, function: Callable[..., None], *args: Any) -> None:
        self._worker.submit(lambda: self._run_job(function, *args))

    # In the background thread.

    def _open_run(self, run: SeedRun, progress: Progress, trial_name: str) -> None:
        run.open(self._target, progress)
        note_sweep_run(self.directory, sweep_name=self.sweep_name)
        records: tuple[Mapping[str, Any], ...] = ()
        with contextlib.suppress(*_UNREADABLE):
            records = read_records(self.directory, trial_name)
        run.catch_up(progress, records)

    def _finish_run(self, run: SeedRun, exit_code: int, trial_name: str) -> None:
        summary: dict[str, float] = {}
        if trial_name:
            with contextlib.suppress(*_UNREADABLE):
                summary = final_return_summary(self.directory, trial_name, run.seed)
        run.finish(self._progress[run.run_id], exit_code, summary)

    def _write_sweep_run(self, launch: str) -> None:
        try:
            results = SweepResults.load(self.directory)
            summary, identity = sweep_summary(results), sweep_identity(results.info, self.sweep_name, launch)
        except _UNREADABLE as error:
            logger.warning(
                "The sweep's own W&B run is not written, its records cannot be read (%s).", first_line(error)
            )
            return
        log_sweep_run(self._target, identity, summary)

    def _run_job(self, function: Callable[..., None], *args: Any) -> None:
        if self._off:
            return
        try:
            function(*args)
        except BaseException as error:  # wandb also raises SystemExit
            self._switch_off(first_line(error))

    # In either thread.

    def _switch_off(self, reason: str) -> None:
        with self._lock:
            if self._off:
                return
            self._off = self._service_in_doubt = True
        logger.warning(
            "W&B logging is off for the rest of this sweep (%s); training goes on, what was logged so far is in %s.",
            reason.rstrip("."),
            self.directory / "wandb",
        )


class _Worker:
    """Runs jobs one after another in a daemon thread, which starts with the first job."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        self._last_done = -math.inf

    def submit(self, job: Callable[[], Any]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="wandb-seed-runs", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def busy_for(self) -> float:
        """Seconds that the job in progress has taken so far; 0 when there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def drain(self, timeout_s: float) -> bool:
        """Wait until all jobs submitted so far are done; False as soon as none was done for ``timeout_s``."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._jobs.put(done.set)
        begin = time.monotonic()
        while (left := max(begin, self._last_done) + timeout_s - time.monotonic()) > 0:
            if done.wait(left):
                return True
        return done.is_set()

    def _loop(self) -> None:
        while True:
            job = self._jobs.get()
            self._busy_since = time.monotonic()
            job()
            self._last_done = time.monotonic()
            self._busy_since = None


def default_cell_name(config: Mapping[str, Any]) -> str:
    """``"Hopper-v4, 10 distractors, vagram, 4 x 200"`` from environment, distractors, model loss and model size."""
    size = f"{config.get('num_layers', '?')} x {config.get('hidden_size', '?')}"
    env, distractors = jsonable(config.get("env")), config.get("num_distractors", 0)
    return f"{env}, {distractors} distractors, {config.get('model_loss', '?')}, {size}"


def _as_seeds(seeds: Any) -> list[int]:
    return [int(seed) for seed in (seeds if isinstance(seeds, list | tuple) else [seeds])]
