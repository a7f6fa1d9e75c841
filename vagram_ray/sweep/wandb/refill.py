"""Bringing Weights & Biases up to date from a sweep's records, over all its launches.

W&B may lack rows of trials that have ended: it was off, unreachable, its process was killed, or the driver was,
before all was sent. Tune does not start such trials again, so nothing would ever log them. ``refill`` compares what
the records hold with what W&B is known to have (``wandb_ledger``) and opens the runs that are behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from vagram_ray.records.errors import SweepError
from vagram_ray.records.recorded import cell_settings
from vagram_ray.records.results import SweepResults, TrialRecords
from vagram_ray.text import plural
from vagram_ray.sweep.wandb.identity import seed_identity, sweep_identity
from vagram_ray.sweep.wandb.ledger import Logged
from vagram_ray.sweep.wandb.mode import server_answers
from vagram_ray.sweep.wandb.runs import Progress, SeedRun, recorded_rows
from vagram_ray.sweep.wandb.service import WandbWorker, abandon_service
from vagram_ray.sweep.wandb.sweep_run import final_return_summary, log_sweep_run, summary_digest, sweep_summary
from vagram_ray.sweep.wandb.target import RunIdentity, Target
from vagram_ray.sweep.wandb.text import first_line

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit code of runs whose trial had not ended when the sweep did (128 + SIGINT, as shells count)."""
UNREADABLE = (SweepError, OSError, ValueError, KeyError, TypeError, AttributeError)
"""What damaged records raise on reading; W&B then lacks what they would have added."""
REFILL_IDLE_S, REFILL_LIMIT_S = 120.0, 900.0
"""Refilling ends when no run was finished for so long, and in any case after so long."""
ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True)
class WantedRun:
    """A seed's run as the records say it should be."""

    identity: RunIdentity
    trial: TrialRecords
    seed: int
    env_steps: int
    exit_code: int
    summary: Mapping[str, float]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.identity.run_id

    def is_in(self, logged: Logged | None, *, online: bool) -> bool:
        """Whether W&B has all of it; ``online``: at its server."""
        if logged is None:
            return False
        if logged.deleted:
            return True
        if logged.exit_code is None or logged.env_steps < self.env_steps or (online and not logged.online):
            return False
        return self.exit_code == INTERRUPTED or bool(logged.exit_code) == bool(self.exit_code)


def refill(
    target: Target,
    sweep_name: str,
    sweep_id: str,
    *,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    failed: Collection[str] = (),
    say: Callable[[str], None] = logger.info,
) -> int:
    """Log what W&B lacks of a sweep's records; raises nothing, and ends after ``REFILL_LIMIT_S`` at the latest.

    Args:
        target: Where the runs go; not used by anything else.
        sweep_name: Name of the sweep, as W&B shows it.
        sweep_id: The sweep's id.
        configs: Full configurations by trial, where they are known; else those of ``sweep.json`` are taken.
        failed: Names of trials that have failed for good.
        say: Told what is being done.

    Returns:
        How many runs are still behind.
    """
    try:
        results = SweepResults.load(target.directory)
        wanted = wanted_runs(results, sweep_name, sweep_id, configs or {}, failed)
        summary = sweep_summary(results)
        own = sweep_identity(results.info, sweep_name, sweep_id)
        for trial in results.trials:
            if trial.damage:
                logger.warning("W&B gets the sound records of %s alone (%s).", trial.name, trial.damage)
    except UNREADABLE as error:
        reason = first_line(error)
        logger.warning("W&B is not brought up to date, the sweep's records cannot be read (%s).", reason)
        return 0
    try:
        task = _Refill(target, wanted, own, summary)
        if target.online and task.lacking() and not server_answers(ANSWER_WITHIN_S):
            target.online = False  # what was never online can still be written offline
        if number := task.lacking():
            say(f"W&B: handing over {plural(number, 'run')} from the records ...")
            task.run()
        return task.tell()
    except Exception as error:  # whatever the folder of runs holds, the results are there
        logger.warning("W&B is not brought up to date (%s).", first_line(error).rstrip("."))
        return len(wanted)


def wanted_runs(
    results: SweepResults,
    sweep_name: str,
    sweep_id: str,
    configs: Mapping[str, Mapping[str, Any]],
    failed: Collection[str],
) -> list[WantedRun]:
    """A run for every seed of which there is a record."""
    wanted = []
    for trial in results.trials:
        cell = results.labels[trial.cell]
        config = configs.get(trial.name) or {**cell_settings(results.info, trial.cell), "seeds": list(trial.seeds)}
        for seed in trial.seeds:
            steps = [env_steps for env_steps, _ in recorded_rows(trial.records, seed)]
            if steps:
                identity = seed_identity(
                    config, cell, seed, sweep_id=sweep_id, sweep_name=sweep_name, trial=trial.name
                )  # fmt: skip
                code = _exit_code(trial, seed, results.info["epochs"], trial.name in failed)
                final = final_return_summary(results.info, trial, seed)
                wanted.append(WantedRun(identity, trial, seed, max(steps), code, final))
    return wanted


def _exit_code(trial: TrialRecords, seed: int, epochs: int, failed: bool) -> int:
    if trial.failed_at(seed) is not None:
        return 1
    if trial.epochs_done >= trial.last_epoch(epochs):
        return 0
    return 1 if failed else INTERRUPTED


class _Refill:
    """One refill: what is lacking, the jobs that change it, and what is said in the end."""

    def __init__(self, target: Target, wanted: list[WantedRun], own: RunIdentity, summary: Mapping[str, Any]) -> None:
        self._target, self._wanted, self._own, self._summary = target, wanted, own, summary
        self._problem = ""

    def lacking(self) -> int:
        """Runs that are behind and can be brought up to date."""
        return sum(self._is_due(run) for run in self._wanted) + self._sweep_run_is_due()

    def run(self) -> None:
        """Bring them up to date, with a service process of its own: an earlier one may hang, or hold on to runs."""
        abandon_service()
        worker = WandbWorker(self._set_problem)
        try:
            for run in self._wanted:
                worker.submit(self._hand_over, run)
            worker.submit(self._hand_over_sweep_run)
            worker.settle(REFILL_IDLE_S, REFILL_LIMIT_S)
        except KeyboardInterrupt:
            worker.switch_off("interrupted")
            worker.settle(0.0)

    def tell(self) -> int:
        """Say what is still lacking; returns how many runs."""
        online = self._target.mode == "online"
        left = [run for run in self._wanted if not run.is_in(self._target.ledger.get(run.run_id), online=online)]
        if not left:
            return 0
        if online and not self._target.online:
            reason, way_out = "nothing can be logged online now", "run the sweep's command again"
        elif not online and not self._problem:
            reason, way_out = "they were begun online", "run the sweep's command again with --wandb online"
        else:
            reason, way_out = self._problem or "it did not take them", "run the sweep's command again"
        logger.warning(
            "W&B lacks results of %s (%s), which the sweep's records have: %s to hand them over.",
            plural(len(left), "run"), reason, way_out,
        )  # fmt: skip
        return len(left)

    def _is_due(self, run: WantedRun) -> bool:
        target = self._target
        behind = not run.is_in(target.ledger.get(run.run_id), online=target.online)
        return behind and (target.online or target.may_go_offline(run.identity))

    def _sweep_run_is_due(self) -> bool:
        logged = self._target.ledger.get(self._own.run_id)
        if logged is None or logged.exit_code is None or logged.content != summary_digest(self._summary):
            return True
        return self._target.online and not logged.online and not logged.deleted

    def _set_problem(self, reason: str) -> None:
        self._problem = reason

    # In the background thread.

    def _hand_over(self, wanted: WantedRun) -> None:
        if not self._is_due(wanted):
            return
        target = self._target
        if not target.online and wanted.is_in(on_disk := target.logged_offline(wanted.run_id), online=False):
            target.ledger.note(wanted.run_id, on_disk)
            return
        run, progress = SeedRun(wanted.identity, wanted.seed), Progress()
        run.open(target, progress, wanted.trial.records)
        run.finish(target, progress, wanted.exit_code, wanted.summary)

    def _hand_over_sweep_run(self) -> None:
        if self._sweep_run_is_due():
            log_sweep_run(self._target, self._own, self._summary)
