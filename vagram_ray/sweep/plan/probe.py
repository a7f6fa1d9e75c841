"""A probe of a cell: the agent itself works for a second or two, and each kind of work is timed.

Processor time is measured, so that other programs do not change it (but for caches and clock rates that they share).
With a GPU it is the clock's. One process measures all sizes and ends, so that no GPU and no memory is kept. Sizes
that were measured before come from the disk (``vagram_ray.sweep.plan.costs``).
"""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep.plan.costs import CostFiles, Costs, seeds_measured, work_key
from vagram_ray.sweep.plan.machine import Machine, processor_name
from vagram_ray.sweep.plan.workload import Workload
from vagram_ray.sweep.processes import import_path
from vagram_ray.text import plural

TOTAL_SECONDS = 20.0
"""Of the clock, after which no further size is measured."""
LAST_SECONDS = 20.0
"""Of the clock, that the start of the process and a last size may take beyond it."""
SIZE_SECONDS = 1.0
"""Of the clock, after which the rounds of a size are not repeated."""
_REPEATS = 3
_UPDATES_SECONDS = 0.1
"""Of updates, in each round."""
_WARM_UP_STEPS = 64
_MINIBATCHES = 3
"""Minibatches of a fit epoch on the smaller number of transitions."""
_FIT_EPOCHS = 3
"""Epochs of the longer fit. The other fits have one."""
_ROWS = 1280
"""Least number of stored transitions: as many as the metrics of a fit look at, and some to validate on."""
_GPU_FACTOR = 8
"""How much more a GPU is given at once, where a CPU's time is in proportion already."""

Sized = tuple[Workload, int]
"""A workload and the seeds of its cohort."""


NOT_MEASURED = "times are unknown, as nothing was measured on such a GPU: the sweep's own first epochs tell."


class Prober:
    """Gives the costs of workloads: from the disk, or measured now on this machine.

    Args:
        machine: What the sweep is planned for.
        extensions: What a trial imports first.

    Attributes:
        note: A sentence about what was not measured, or not there, empty if everything was.
    """

    def __init__(self, machine: Machine, extensions: Sequence[str] = ()) -> None:
        self._machine, self._extensions = machine, extensions
        self.note = ""

    def __call__(self, work: Sequence[Sized], on_gpu: bool = False) -> list[Costs | None]:
        """The costs of each workload on a core or on a GPU, or None where they are not known or took too long."""
        import torch

        if on_gpu and not (self._machine.local and torch.cuda.is_available()):
            self.note = NOT_MEASURED
            return [None] * len(work)
        name = self._machine.description if self._machine.local else processor_name()
        files = CostFiles(torch.cuda.get_device_name(0) if on_gpu else name)
        keys = [work_key(*each) for each in work]
        found = {key: files.read(key) for key in dict.fromkeys(keys)}
        missing = {key: each for key, each in zip(keys, work, strict=True) if found[key] is None}
        if missing:
            measured, error = _in_a_process(missing, self._extensions, "cuda" if on_gpu else "cpu")
            for key, costs in measured.items():
                files.write(key, costs)
            found |= measured
            self._note_unmeasured(len(missing) - len(measured), len(found), error)
        if not self._machine.local and not self.note:
            self.note = "times were measured on this machine, not on the cluster's."
        return [found[key] for key in keys]

    def _note_unmeasured(self, lacking: int, sizes: int, error: str) -> None:
        if not lacking:
            return
        why = f"a probe failed ({error})" if error else f"probes take {TOTAL_SECONDS:.0f} s at most"
        self.note = (
            f"the time of {lacking} of {plural(sizes, 'size')} of networks and data was not measured: {why}; a plan "
            "that is made again measures further, and the sweep's own first epochs tell."
        )


def _in_a_process(work: dict[str, Sized], extensions: Sequence[str], device: str) -> tuple[dict[str, Costs], str]:
    """What a process of its own has measured in time, and the first error."""
    environment = os.environ | {"PYTHONPATH": import_path(), "OMP_NUM_THREADS": "1"}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [sys.executable, "-m", "vagram_ray.sweep.plan.probe"]
    from ray import cloudpickle  # it knows what travels by value

    try:
        content = cloudpickle.dumps((work, tuple(extensions), device, TOTAL_SECONDS))
        done = subprocess.run(
            command, input=content, capture_output=True, env=environment, timeout=TOTAL_SECONDS + LAST_SECONDS
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    except Exception as error:  # an environment's arguments that cannot be pickled, no memory for a process
        return {}, f"{type(error).__name__}: {error}"
    measured, first_error = {}, ""
    for line in output.decode(errors="replace").splitlines():
        try:
            answer = json.loads(line)
            if "error" in answer:
                first_error = first_error or str(answer["error"])
            else:
                measured[answer["key"]] = Costs.from_content(answer["costs"])
        except (ValueError, KeyError, TypeError):
            continue  # cut off
    return measured, first_error


def main() -> None:
    """Measure what standard input describes, a line of JSON each on standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what users' own code prints is no answer
    work, extensions, device, total_seconds = pickle.load(sys.stdin.buffer)
    start = time.monotonic()
    if extensions:
        from vagram_ray.rllib import load_extensions

        load_extensions(extensions)
    for key, (workload, num_seeds) in work.items():
        if time.monotonic() - start > total_seconds:
            break
        try:
            answer = {"key": key, "costs": asdict(probe(workload, seeds_measured(num_seeds), device))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


# -- in that process -----------------------------------------------------------------------------------------------


def probe(workload: Workload, num_seeds: int, device: str = "cpu") -> Costs:
    """Let a cohort of ``num_seeds`` seeds work, and time each kind of work.

    Epochs of three kinds follow each other: their model fits differ in the number of epochs and of transitions, so
    that they tell what a fit epoch costs, what is done once per transition, and what whatever the data. All are
    repeated while there is time, and the least counts: it is what others on the machine have disturbed least. The
    epochs before are not counted: they warm up, and native code is loaded in them.
    """
    start = time.monotonic()
    probed = _Probed(workload, num_seeds, device)
    probed.warm_up()
    rows, rounds, fits = probed.rows, [], []
    for repeat in range(_REPEATS):
        if repeat and time.monotonic() - start > SIZE_SECONDS:
            break
        kinds = ((rows, 1), (rows, _FIT_EPOCHS), (4 * rows, 1))
        rounds += (three := [probed.round(count, epochs) for count, epochs in kinds])
        fits.append([each["model_fit"] for each in three])
    costs = Costs(
        num_seeds,
        env_step_s=min(each["env"] for each in rounds) / probed.steps,
        sac_update_s=min(each["sac"] for each in rounds) / (probed.steps * probed.utd_ratio),
    )
    if not workload.settings.model_based:
        return costs
    short, long, large = (min(times) for times in zip(*fits, strict=True))
    epoch = max(0.0, long - short) / ((_FIT_EPOCHS - 1) * rows)
    once = max(0.0, (large - short) / (3 * rows) - epoch)
    return replace(
        costs,
        fit_s=max(0.0, short - rows * (epoch + once)),
        fit_row_s=once,
        fit_epoch_row_s=epoch,
        imagined_s=min(each["rollout"] for each in rounds) / probed.rollouts,
    )


class _Probed:
    """An agent at the cell's own sizes that does little of everything.

    Attributes:
        steps: Environment steps of a round.
        utd_ratio: Updates per step.
        rows: Stored transitions that make a few minibatches.
        rollouts: Of one step each, imagined in a round.
    """

    def __init__(self, workload: Workload, num_seeds: int, device: str) -> None:
        import torch

        from vagram_ray.core.allocator import keep_freed_memory
        from vagram_ray.core.mbpo import MBPOAgent
        from vagram_ray.envs import SeedVectorEnv

        assert workload.environment is not None
        keep_freed_memory()  # as a trial does
        torch.set_num_threads(1)
        self._own, spec, factor = workload.settings, workload.environment, 1 if device == "cpu" else _GPU_FACTOR
        settings = self._own
        self.steps = self.utd_ratio = 1
        wanted = math.ceil(factor * _MINIBATCHES * settings.model_batch_size / (1.0 - settings.validation_fraction))
        self.rows = max(_ROWS, wanted) if settings.model_based else _ROWS
        self._most_rollouts = min(settings.rollouts_per_step * settings.model_train_freq, factor * 4000)
        self._envs = SeedVectorEnv(spec, range(num_seeds))
        # As long as an epoch is in earnest: what execution="auto" comes to depends on it.
        in_earnest = replace(self._settings(1), epoch_length=settings.epoch_length, utd_ratio=settings.utd_ratio)
        self._agent = MBPOAgent(
            in_earnest,
            seeds=range(num_seeds),
            obs_dim=self._envs.obs_dim,
            action_dim=self._envs.action_dim,
            termination=spec.termination() if settings.needs_termination_function else None,
            device=device,
        )
        self._agent.clock = _clock(device)

    @property
    def rollouts(self) -> int:
        """Of a round: a whole number per step."""
        return self.steps * max(1, self._most_rollouts // self.steps)

    def warm_up(self) -> None:
        """Two rounds with one update each, of which the second tells how many fit into the time."""
        self.round(_WARM_UP_STEPS, 1)
        update = self.round(_WARM_UP_STEPS, 1)["sac"]
        updates = min(400, max(1, round(_UPDATES_SECONDS / max(update, 1e-9))))
        self.utd_ratio = min(self._own.utd_ratio, updates)
        self.steps = min(100, max(1, updates // self.utd_ratio))

    def round(self, rows: int, fit_epochs: int) -> dict[str, float]:
        """Seconds of each phase of an epoch with one fit of ``fit_epochs`` epochs on ``rows`` transitions."""
        self._agent.settings = self._settings(fit_epochs)
        if self._agent.env_steps:
            self._fill_buffer(rows)
        result = self._agent.train_epoch(self._envs)
        return {phase: float(result.get(f"time/{phase}_s", [0.0])[0]) for phase in PHASES}

    def _settings(self, fit_epochs: int) -> MBPOSettings:
        return replace(
            self._own,
            num_steps_sampled_before_learning_starts=_WARM_UP_STEPS,
            epoch_length=self.steps,
            model_train_freq=self.steps,
            utd_ratio=self.utd_ratio,
            rollouts_per_step=self.rollouts // self.steps,
            rollout_length=(0, 1, 1, 1),
            real_ratio=(0, 1, 0.05, 0.05),
            imagined_epochs_retained=1,
            model_max_epochs=fit_epochs,
            model_patience=2 * _FIT_EPOCHS,
            replay_capacity=8 * self.rows,
        )

    def _fill_buffer(self, rows: int) -> None:
        """Give the buffer so many transitions: its own, again and again."""
        replay = self._agent.replay
        own = replay.rows[:, :_WARM_UP_STEPS]
        whole = own.repeat(1, math.ceil(rows / own.shape[1]), 1)[:, :rows].clone()
        replay.load_state_dict({"size": rows, "num_added": rows, "next": rows, "rows": whole})


PHASES = ("env", "sac", "model_fit", "rollout")
"""Of an epoch, as the agent times them."""


def _clock(device: str) -> Callable[[], float]:
    if device == "cpu":
        return time.thread_time

    def synchronized() -> float:
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronized


if __name__ == "__main__":
    main()
