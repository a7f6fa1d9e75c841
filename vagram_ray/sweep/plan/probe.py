"""What the work of a cell costs on this machine: the agent itself works for a second or two, and each kind is timed.

Processor time is measured, so that other programs do not change it (but for caches and clock rates that they share).
One process measures all sizes and ends, so that no memory is kept. What was measured is kept in the user's cache
folder, a file for each size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from vagram_ray import __version__
from vagram_ray.core.execution import UPDATES_WORTH_COMPILING
from vagram_ray.core.private_folder import user_cache_folder, user_temporary_folder
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.files import write_atomically
from vagram_ray.sweep.plan.estimates import assumed_fit_epochs
from vagram_ray.sweep.plan.machine import Machine, processor_name
from vagram_ray.sweep.plan.workload import Costs, Workload
from vagram_ray.sweep.processes import import_path
from vagram_ray.text import plural

if TYPE_CHECKING:
    from vagram_ray.core.replay import ReplayBuffer

TOTAL_SECONDS = 20.0
"""Of the clock, after which no further size is measured."""
LAST_SECONDS = 20.0
"""Of the clock, that the start of the process and a last size may take beyond it."""
MOST_SEEDS = 4
"""Larger cohorts are measured with so many seeds. From there on each seed is taken to cost the same."""
_ROUNDS = 3
_UPDATES = 40
"""SAC updates of a round, at least."""
_WARM_UP_STEPS = 64
_ROWS = 1280
"""Least number of stored transitions: as many as the metrics of a fit look at, and some to validate on."""
_MINIBATCHES = 3
"""Minibatches of a fit epoch, at least."""
_MOST_ROLLOUTS = 4000
NOT_MEASURED = "times on GPUs are unknown beforehand: the sweep's own first epochs tell."

Sized = tuple[Workload, int]
"""A workload and the seeds of its cohort."""


def measure_costs(
    machine: Machine, extensions: Sequence[str], work: Sequence[Sized], on_gpu: bool
) -> tuple[list[Costs | None], str]:
    """The costs of workloads: from the disk, or measured now on this machine.

    Args:
        machine: What the sweep is planned for.
        extensions: What a trial imports first.
        work: Workloads with their numbers of seeds.
        on_gpu: Whether they will run on a GPU: then no cost is known.

    Returns:
        The costs of each on a core, or None where they took too long, and a sentence about what was not measured, or
        not there, empty if everything was.
    """
    if on_gpu:
        return [None] * len(work), NOT_MEASURED
    note = "" if machine.local else "times were measured on this machine, not on the cluster's."
    files = [cost_file(processor_name(), *sized) for sized in work]
    known = {file: costs for file in files if (costs := _read(file)) is not None}
    missing = {file: sized for file, sized in zip(files, work, strict=True) if file not in known}
    if missing:
        measured, error = _measure(missing, extensions)
        for file, costs in measured.items():
            with contextlib.suppress(OSError):  # a cache that cannot be written is none
                write_atomically(file, json.dumps(asdict(costs)))
        known |= measured
        if lacking := len(missing.keys() - measured.keys()):
            note = (
                f"the time of {lacking} of {plural(len(set(files)), 'size')} of networks and data was not "
                f"measured: {error or f'probes take {TOTAL_SECONDS:.0f} s at most'}; a plan that is made again "
                "measures further, and the sweep's own first epochs tell."
            )
    return [known.get(file) for file in files], note


def cost_file(machine: str, workload: Workload, num_seeds: int) -> Path:
    """Where costs are kept: by the machine, the versions, and all that decides sizes."""
    versions = [__version__, metadata.version("torch")]
    seeds, settings = min(num_seeds, MOST_SEEDS), workload.settings
    updates = seeds * settings.epoch_length * settings.utd_ratio  # what execution="auto" looks at
    content = [machine, versions, workload.sizes, seeds, updates >= UPDATES_WORTH_COMPILING]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()
    try:
        folder = user_cache_folder()
    except OSError:  # a user without a home
        folder = user_temporary_folder()
    return folder / "costs" / f"{digest[:32]}.json"


def _read(file: Path) -> Costs | None:
    try:
        costs = Costs(**json.loads(file.read_text()))
        return costs if all(0 <= value < math.inf for value in asdict(costs).values()) else None
    except (OSError, ValueError, TypeError):
        return None


def _measure(work: dict[Path, Sized], extensions: Sequence[str]) -> tuple[dict[Path, Costs], str]:
    """Let a process of its own measure, as far as it comes. Returns what it has measured, and what failed."""
    from ray import cloudpickle  # it knows what travels by value

    environment = os.environ | {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "vagram_ray.sweep.plan.probe"]
    try:
        content = cloudpickle.dumps((work, tuple(extensions), TOTAL_SECONDS))
        done = subprocess.run(
            command, input=content, capture_output=True, env=environment, timeout=TOTAL_SECONDS + LAST_SECONDS
        )
        output, problem = done.stdout, ""
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            problem = f"a probe failed ({lines[-1] if lines else f'status {done.returncode}'})"
    except subprocess.TimeoutExpired as expired:
        output, problem = expired.stdout or b"", ""
    except Exception as error:  # an environment's arguments that cannot be pickled, no memory for a process
        output, problem = b"", f"a probe failed ({type(error).__name__}: {error})"
    return dict(_printed(output)), problem


def _printed(output: bytes) -> Iterator[tuple[Path, Costs]]:
    """File and costs of the lines that a probe has printed. An environment may print there, too."""
    for line in output.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            file, costs = json.loads(line)
            yield Path(file), Costs(**costs)


def main() -> None:
    """Measure what standard input describes, and print a line for each size. The first error is raised at the end."""
    work, extensions, total_seconds = pickle.load(sys.stdin.buffer)
    start, first_error = time.monotonic(), None
    if extensions:
        from vagram_ray.rllib import load_extensions

        load_extensions(extensions)
    for file, (workload, num_seeds) in work.items():
        if time.monotonic() - start > total_seconds:
            break
        try:
            costs = probe(workload, min(num_seeds, MOST_SEEDS))
        except Exception as error:
            first_error = first_error or error
        else:
            print(json.dumps([str(file), asdict(costs)]), flush=True)
    if first_error is not None:
        raise first_error


# -- in that process -----------------------------------------------------------------------------------------------


def probe(workload: Workload, num_seeds: int) -> Costs:
    """Let a cohort of ``num_seeds`` seeds work at the cell's own sizes, a little of everything, and time each kind.

    The first epoch is not counted: it warms up, and native code is loaded in it. Of the others the least counts: it is
    what others on the machine have disturbed least.
    """
    import torch

    from vagram_ray.core.allocator import keep_freed_memory
    from vagram_ray.core.mbpo import MBPOAgent
    from vagram_ray.envs import SeedVectorEnv

    own, spec = workload.settings, workload.environment
    assert spec is not None
    keep_freed_memory()  # as a trial does
    torch.set_num_threads(1)
    settings, rows = _short_epoch(own)
    envs = SeedVectorEnv(spec, range(num_seeds))
    agent = MBPOAgent(
        # As long as an epoch is in earnest: what execution="auto" comes to depends on it.
        replace(settings, epoch_length=own.epoch_length, utd_ratio=own.utd_ratio),
        seeds=range(num_seeds),
        obs_dim=envs.obs_dim,
        action_dim=envs.action_dim,
        termination=spec.termination() if own.needs_termination_function else None,
    )
    agent.settings, agent.clock = settings, time.thread_time
    agent.train_epoch(envs)
    _fill(agent.replay, rows)
    results = [agent.train_epoch(envs) for _ in range(_ROUNDS)]
    least = {phase: min(float(each.get(f"time/{phase}_s", [0.0])[0]) for each in results) for phase in PHASES}
    steps = num_seeds * settings.epoch_length
    return Costs(
        env_step_s=least["env"] / steps,
        sac_update_s=least["sac"] / (steps * settings.utd_ratio),
        fit_row_s=least["model_fit"] / (num_seeds * rows),
        imagined_s=least["rollout"] / (steps * settings.rollouts_per_step),
    )


def _short_epoch(own: MBPOSettings) -> tuple[MBPOSettings, int]:
    """Settings of an epoch that does little of everything, and transitions that make a few minibatches."""
    utd_ratio = min(own.utd_ratio, _UPDATES)
    steps, fit_epochs = max(1, _UPDATES // utd_ratio), assumed_fit_epochs(own)
    rollouts = min(own.rollouts_per_step * own.model_train_freq, _MOST_ROLLOUTS)
    minibatches = math.ceil(_MINIBATCHES * own.model_batch_size / (1.0 - own.validation_fraction))
    rows = max(_ROWS, minibatches if own.model_based else 0)
    settings = replace(
        own,
        num_steps_sampled_before_learning_starts=_WARM_UP_STEPS,
        epoch_length=steps,
        model_train_freq=steps,
        utd_ratio=utd_ratio,
        rollouts_per_step=max(1, rollouts // steps),
        rollout_length=(0, 1, 1, 1),
        real_ratio=(0, 1, 0.05, 0.05),
        imagined_epochs_retained=1,
        model_max_epochs=fit_epochs,
        model_patience=fit_epochs,
        replay_capacity=2 * rows,
    )
    return settings, rows


def _fill(replay: ReplayBuffer, rows: int) -> None:
    """Give the buffer so many transitions: its own, again and again."""
    own = replay.rows[:, :_WARM_UP_STEPS]
    whole = own.repeat(1, math.ceil(rows / own.shape[1]), 1)[:, :rows].clone()
    replay.load_state_dict({"size": rows, "num_added": rows, "next": rows, "rows": whole})


PHASES = ("env", "sac", "model_fit", "rollout")
"""Of an epoch, as the agent times them."""


if __name__ == "__main__":
    main()
