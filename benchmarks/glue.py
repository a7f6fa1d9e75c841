"""The glue: what RLlib, Tune and W&B add to the wall time of a trial over ``core`` alone, at laptop scale.

    python -m benchmarks.glue [--rounds 3] [--epochs 5] [--seeds 8 1] [--core 1] [--json FILE]

A trial is one cell of the laptop scale of ``tune_configs/distractors.py`` (VaGraM, 5 distractors) with all its settings
and its evaluation in every epoch. Three sides run it whole, in turns, each in a fresh process with one PyTorch thread:

- ``core``: ``MBPOAgent``, ``SeedVectorEnv`` and ``evaluate`` by hand; Ray is never imported;
- ``rllib``: ``config.build_algo()`` and ``algo.train()`` by hand;
- ``sweep``: ``python -m vagram_ray.sweep`` with W&B offline and checkpoints as by default; an epoch lasts from the
  arrival of one result in the driver to the arrival of the next.

All numbers that the sides learn (each metric of each seed in each epoch) must be equal, or the benchmark fails: so the
work was the same. Epochs are counted from the second one; the first has the warm-up. "Start" is from the command to
the beginning of the first epoch, "end" from the last result to the end of the process.

Within ``rllib`` and ``sweep`` the time outside ``core`` (the epoch without training and evaluation) is measured too;
unlike the difference between two processes it does not depend on how busy the machine is otherwise. ``--core`` pins
all processes of a side, Ray's and W&B's included, to one core.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.glue_report import Epoch, Numbers, Trial, check_equal, print_summaries, summary

SWEEP_FILE = Path(__file__).parents[1] / "tune_configs" / "distractors.py"
SCALE = "laptop"
CELL: dict[str, Any] = {"num_distractors": 5, "model_loss": "vagram"}
TINY: dict[str, Any] = {
    "num_steps_sampled_before_learning_starts": 150, "epoch_length": 4, "model_train_freq": 2, "model_max_epochs": 1,
    "rollouts_per_step": 2, "evaluation_duration": 1,
}  # fmt: skip
REPORTED = ("eval", "train", "model", "sac")
"""Sections of metrics that belong to a seed; times are not compared."""


@dataclass(frozen=True)
class Work:
    """What every side does."""

    seeds: int
    epochs: int
    changes: dict[str, Any] = field(default_factory=dict)


# -- the sides, each in a process of its own -------------------------------------------------------------------


def run_core(work: Work, settings: dict[str, Any]) -> list[Epoch]:
    """``core`` alone, from settings as plain values."""
    import torch

    from vagram_ray.core.allocator import keep_freed_memory
    from vagram_ray.core.evaluation import evaluate
    from vagram_ray.core.mbpo import MBPOAgent
    from vagram_ray.core.settings import MBPOSettings
    from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv

    torch.set_num_threads(1)
    keep_freed_memory()
    spec, seeds = EnvironmentSpec(**settings["environment"]), tuple(range(work.seeds))
    envs, evaluation_envs = SeedVectorEnv(spec, seeds), SeedVectorEnv(spec, seeds, evaluation=True)
    agent = MBPOAgent(
        MBPOSettings(**settings["agent"]),
        seeds=seeds,
        obs_dim=envs.obs_dim,
        action_dim=envs.action_dim,
        termination=spec.termination(),
        num_real_dims=envs.obs_dim - spec.num_distractors,
    )
    epochs = []
    for _ in range(work.epochs):
        began, cpu = time.monotonic(), time.process_time()
        metrics = agent.train_epoch(envs)
        trained = time.monotonic()
        episodes = evaluate(lambda obs: agent.act(obs, deterministic=True), evaluation_envs, settings["episodes"])
        ended, cpu_s = time.monotonic(), {"trial": time.process_time() - cpu}
        metrics |= {"eval/episode_return": episodes.returns.mean(axis=1)}
        metrics |= {"eval/episode_length": episodes.lengths.mean(axis=1)}
        metrics |= {"failed": agent.failed.astype(np.int64)}
        numbers = by_seed(metrics, seeds)
        epochs.append(Epoch(began, ended, trained - began, ended - trained, numbers, cpu_s=cpu_s))
    return epochs


def by_seed(metrics: dict[str, np.ndarray], seeds: Sequence[int]) -> Numbers:
    """Metrics (S,) as numbers of each seed."""
    own = {name: values for name, values in metrics.items() if name == "failed" or name.split("/")[0] in REPORTED}
    return {
        str(seed): {name: values[index].item() for name, values in own.items() if np.isfinite(values[index])}
        for index, seed in enumerate(seeds)
    }


def run_rllib(work: Work) -> list[Epoch]:
    """The algorithm by hand."""
    from ray.tune.trainable import trainable

    epochs = []
    with tempfile.TemporaryDirectory() as place:
        trainable.DEFAULT_STORAGE_PATH = place  # where RLlib logs results, else in the home directory
        algo = laptop_config(work).build_algo()
        for _ in range(work.epochs):
            began, cpu = time.monotonic(), time.process_time()
            result = algo.train()
            ended, cpu_s = time.monotonic(), {"trial": time.process_time() - cpu}
            epochs.append(epoch_of(result, began, ended, cpu_s))
        algo.stop()
    return epochs


def laptop_config(work: Work) -> Any:
    """The cell's configuration, as the sweep makes it."""
    from vagram_ray.sweep.plan.overrides import apply_overrides
    from vagram_ray.sweep.sweep_file import load_sweep_file

    sweep, overrides = load_sweep_file(SWEEP_FILE).at_scale(SCALE)
    config = apply_overrides(sweep.config, overrides, source="The override of the scale")
    return apply_overrides(config, CELL | work.changes, source="--set").training(seeds=range(work.seeds))


def epoch_of(result: dict[str, Any], began: float, ended: float, cpu_s: dict[str, float]) -> Epoch:
    """What a result says of an epoch."""
    from vagram_ray.records.folder import make_record

    times = result["time"]
    return Epoch(
        began, ended, times["epoch_s"], times["evaluation_s"], make_record(result)["seeds"],
        result["time_this_iter_s"], times.get("checkpoint_s", 0.0), cpu_s,
    )  # fmt: skip


def run_sweep(work: Work) -> list[Epoch]:
    """One trial through the command line of the sweep; results are noted as the first callback gets them."""
    from vagram_ray.sweep.commandline import main as sweep_command
    from vagram_ray.sweep.run.callbacks import FollowTrials

    epochs: list[Epoch] = []
    clock = TreeClock()
    own = FollowTrials.on_trial_result

    def on_trial_result(self: Any, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> Any:
        cpu_s = clock.lap(result["pid"])
        arrived = time.monotonic()
        began = epochs[-1].ended if epochs else arrived - result["time_this_iter_s"]
        epochs.append(epoch_of(result, began, arrived, cpu_s))
        return own(self, iteration, trials, trial, result, **info)

    FollowTrials.on_trial_result = on_trial_result  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as place:
        words = [str(SWEEP_FILE), "--scale", SCALE, "--storage", place, "--wandb", "offline", "--address", "local"]
        words += ["--seeds", str(work.seeds), "--seeds-per-trial", str(work.seeds), "--epochs", str(work.epochs)]
        for key, value in (CELL | work.changes).items():
            words += ["--set", f"{key}={value}"]
        try:
            sweep_command(words, prog_name="python -m vagram_ray.sweep", standalone_mode=False)
        except SystemExit as end:  # how the command ends
            assert not end.code, f"the sweep's exit status is {end.code}"
    return epochs


class TreeClock:
    """CPU time of this process and of all below it, by what they are.

    Processes are looked for at the first lap only, which belongs to no epoch that counts; W&B has started by then.
    """

    def __init__(self) -> None:
        self._processes: dict[str, list[Any]] = {}
        self._known: dict[int, float] = {}
        self._last: dict[str, float] = {}

    def lap(self, trial: int) -> dict[str, float]:
        """Seconds since the last lap; nothing at the first. ``trial`` is the id of the process that trains."""
        if not self._processes:
            import psutil

            me = psutil.Process()
            below = me.children(recursive=True)
            self._processes = {
                "trial": [process for process in below if process.pid == trial],
                "driver": [me],
                "services": [process for process in below if process.pid != trial],
            }
        spent = {what: sum(map(self._seconds, processes)) for what, processes in self._processes.items()}
        since = {what: seconds - self._last[what] for what, seconds in spent.items()} if self._last else {}
        self._last = spent
        return since

    def _seconds(self, process: Any) -> float:
        import psutil

        with contextlib.suppress(psutil.Error):  # it has ended
            times = process.cpu_times()
            self._known[process.pid] = float(times.user + times.system)
        return self._known.get(process.pid, 0.0)


SIDES: dict[str, Callable[..., list[Epoch]]] = {"core": run_core, "rllib": run_rllib, "sweep": run_sweep}


def run_side(side: str, work: Work, settings: dict[str, Any]) -> Trial:
    """A side in a process of its own.

    Raises:
        RuntimeError: It failed; the message has the last lines that it wrote.
    """
    # A short path, as Ray's sockets lie in it; some of Ray's processes write to it a moment longer than it lives.
    with tempfile.TemporaryDirectory(prefix="glue", dir="/tmp", ignore_cleanup_errors=True) as place:
        order, answer, log = Path(place) / "order.json", Path(place) / "epochs.json", Path(place) / "log"
        order.write_text(json.dumps({"side": side, "work": dataclasses.asdict(work), "settings": settings}))
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}  # of some cluster
        environment = {**inherited, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": place, "RAY_USAGE_STATS_ENABLED": "0"}
        with log.open("wb") as output:
            began = time.monotonic()
            finished = subprocess.run(
                [sys.executable, "-m", "benchmarks.glue", "--one", str(order), "--json", str(answer)],
                cwd=SWEEP_FILE.parents[1], env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            ended = time.monotonic()
        if finished.returncode != 0 or not answer.exists():
            raise RuntimeError(f"The side {side!r} failed:\n{log.read_text(errors='replace')[-3000:]}")
        return Trial(began, ended, [Epoch(**epoch) for epoch in json.loads(answer.read_text())])


def run_one(order: Path, answer: Path) -> None:
    """In the side's process: do the work, write the epochs."""
    content = json.loads(order.read_text())
    work = Work(**content["work"])
    more = (content["settings"],) if content["side"] == "core" else ()
    epochs = SIDES[content["side"]](work, *more)
    answer.write_text(json.dumps([dataclasses.asdict(epoch) for epoch in epochs]))


# -- all sides -------------------------------------------------------------------------------------------------


def measure(work: Work, sides: Sequence[str], rounds: int) -> dict[str, list[Trial]]:
    """All sides in turns; who begins changes from round to round."""
    config = laptop_config(work)
    assert config.evaluation_interval == 1, "core is evaluated in every epoch"
    environment = dataclasses.asdict(config.environment_spec())
    agent = dataclasses.asdict(config.to_settings())
    settings = {"environment": environment, "agent": agent, "episodes": config.evaluation_duration}
    trials: dict[str, list[Trial]] = {side: [] for side in sides}
    for number in range(rounds):
        for position in range(len(sides)):
            side = sides[(number + position) % len(sides)]
            trials[side].append(run_side(side, work, settings))
    check_equal(trials)
    return trials


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables, write JSON."""
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--epochs", type=int, default=5, help="of each trial, the first included (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 1], help="sizes of the cohorts")
    parser.add_argument("--sides", choices=list(SIDES), nargs="+", default=list(SIDES), help="core is always one")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one is not None:
        run_one(arguments.one, Path(arguments.json))
        return
    if arguments.epochs < 2:
        parser.error(f"--epochs {arguments.epochs}: the first epoch does not count, so give at least 2")
    timing.prepare(arguments)
    if arguments.tiny:
        arguments.epochs, arguments.seeds = 2, [2]
    samples: list[timing.Samples] = []
    summaries = {}
    for seeds in arguments.seeds:
        case = f"laptop trial, {seeds} seed{'s' if seeds > 1 else ''}"
        work = Work(seeds, arguments.epochs, TINY if arguments.tiny else {})
        trials = measure(work, list(dict.fromkeys(["core", *arguments.sides])), arguments.rounds)
        for side, runs in trials.items():
            samples.append(timing.Samples(case, side, [1e3 * run.epoch_s for run in runs]))
        summaries[case] = {side: summary(trials, side) for side in trials}
    print(f"Milliseconds per epoch, mean of epochs 2 to {arguments.epochs}; median, least and 90 % over the rounds")
    timing.print_table(samples, base="core")
    for case, found in summaries.items():
        print_summaries(case, found)
    print("\nAll sides have learned the same numbers.")
    timing.write_json(arguments.json, "glue", samples, epochs=arguments.epochs, summaries=summaries)


if __name__ == "__main__":
    main()
