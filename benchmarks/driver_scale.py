"""What the driver of a sweep costs as the sweep grows: its memory, its time per result and per trial, W&B's processes.

    python -m benchmarks.driver_scale [--trials 100 300 1000] [--epochs 20] [--wandb offline] [--json FILE]
    python -m benchmarks.driver_scale --real [--trials 50 100 200] ...

The whole runner of a sweep is run (Tune's controller, records, the live table, W&B, the closing tables) with trials
that report 40 made-up numbers per epoch as fast as the driver takes them. They are no processes but answer from
inside the driver, so that all time that is measured is the driver's; ``--real`` runs each in a process of Ray's.
Every size is measured in a fresh process. The exponents say how time and memory grow with the number of trials: 1 is
linear.

Measured by ``--trials 100 300 1000 --epochs 5 --wandb offline`` on 2026-11-23, a busy machine with two cores, one seed
per trial and one W&B process: making the plan (CPU s), Tune making its trials (s), a result (CPU ms), the longest pause
after that (s), closing (CPU s), memory added (MiB)::

    trials   results   plan   trials made   result   pause   closing   memory
    100        500     0.5        0.4        3.2      0.07      16       45
    300      1,500     0.6        2.4        3.2      0.42      39       69
    1,000    5,000     1.3        6.6        3.0      0.57     159      156
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.made_up_trials import SEEDS_PER_CELL, ActorsInside, make_made_up_plan

MIB = 2**20


@dataclass
class Cost:
    """What one size has cost; seconds are of wall time, unless they are called CPU."""

    trials: int
    results: int
    plan_s: float = math.nan
    """Making the plan and showing it."""
    loop_s: float = math.nan
    """From the first to the last event of the trials."""
    close_s: float = math.nan
    """From there to the tables; W&B catches up in it."""
    wandb_s: float = 0.0
    """Of that: waiting for W&B."""
    memory_before_mib: float = math.nan
    memory_mib: float = math.nan
    """The driver's largest, in the loop."""
    first_turn_s: float = math.nan
    """The turn of the loop in which Tune makes its trials."""
    longest_gap_s: float = math.nan
    """Between two later turns: so long a signal or a result waits."""
    plan_cpu_s: float = math.nan
    loop_cpu_s: float = math.nan
    close_cpu_s: float = math.nan
    """CPU time of the whole process, its threads included, which other work on the machine changes little."""
    wandb_processes: int = 0
    """The most at a time."""

    @property
    def per_result_ms(self) -> float:
        """CPU time of the loop for each result."""
        return 1000 * self.loop_cpu_s / self.results


@dataclass
class Watch:
    """Looks at the process from a thread of its own, and at the turns of the loop."""

    memory: float = 0.0
    wandb_processes: int = 0
    turns: int = 0
    first_turn_s: float = 0.0
    longest_gap: float = 0.0
    first: tuple[float, float] = (math.nan, math.nan)
    last: tuple[float, float] = (math.nan, math.nan)
    wandb_s: float = 0.0
    _ended: threading.Event = field(default_factory=threading.Event)

    def turn(self) -> None:
        """The loop begins a turn."""
        now = clocks()
        if self.turns == 0:
            self.first = now
        elif self.turns == 1:
            self.first_turn_s = now[0] - self.first[0]
        else:
            self.longest_gap = max(self.longest_gap, now[0] - self.last[0])
        self.last, self.turns = now, self.turns + 1

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look now and then within the block."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            self.memory = max(self.memory, resident_mib())
            self.wandb_processes = max(self.wandb_processes, wandb_processes())


def clocks() -> tuple[float, float]:
    """Wall time, and CPU time of this process."""
    return time.perf_counter(), time.process_time()


def resident_mib() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / MIB


def wandb_processes() -> int:
    """Living processes below this one that are W&B's."""
    import psutil

    found = 0
    for process in psutil.Process().children(recursive=True):
        try:
            found += any("wandb" in part for part in process.cmdline()[:3])
        except psutil.Error:
            continue
    return found


# -- one size --------------------------------------------------------------------------------------------------


def measure(trials: int, epochs: int, wandb: str, *, real: bool) -> Cost:
    """Run a sweep of so many trials in this process."""
    import ray
    from rich.console import Console

    from vagram_ray.records import SweepResults
    from vagram_ray.records.summary import write_summary
    from vagram_ray.sweep.resume.continuation import Continuation
    from vagram_ray.sweep.run.callbacks import FollowTrials
    from vagram_ray.sweep.run.local_ray import connect_to_ray
    from vagram_ray.sweep.run.run import Source, WandbChoice, run_sweep
    from vagram_ray.sweep.storage.folder import SweepStorage
    from vagram_ray.sweep.view.plan import Surroundings, render_plan
    from vagram_ray.sweep.wandb.mode import prepare_wandb
    from vagram_ray.sweep.wandb.supervisor import Supervisor

    watch = Watch()
    own_step, own_finish = FollowTrials.on_step_end, Supervisor.finish

    def step(self: FollowTrials, *arguments: Any, **named: Any) -> None:
        watch.turn()
        own_step(self, *arguments, **named)

    def finish(self: Supervisor, *arguments: Any, **named: Any) -> int:
        begin = time.perf_counter()
        lacking = own_finish(self, *arguments, **named)
        watch.wandb_s += time.perf_counter() - begin
        return lacking

    FollowTrials.on_step_end, Supervisor.finish = step, finish  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as place, open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, force_terminal=True, width=120, height=50)
        storage = SweepStorage(place, "made-up")
        prepare_wandb(wandb, storage.folder)
        storage.create()
        cost = Cost(trials, trials * epochs)
        begin = clocks()
        plan = make_made_up_plan(trials, epochs)
        continuation = Continuation(plan, uuid.uuid4().hex)
        console.print(render_plan(continuation, Surroundings("", "")))
        cost.plan_s, cost.plan_cpu_s = (now - before for now, before in zip(clocks(), begin, strict=True))
        connect_to_ray(None, plan.machine)  # without actors Tune still asks it for folders
        if not real:
            from ray.tune.execution import tune_controller

            tune_controller.RayActorManager = ActorsInside
        cost.memory_before_mib = resident_mib()
        with watch.looking():
            run_sweep(continuation, storage, WandbChoice(wandb, "made-up"), Source(None, ""), console)
            results = SweepResults.load(storage.folder)
            write_summary(results)
            end = clocks()
        ray.shutdown()
        assert results.complete, "not every trial came to its end"
    cost.loop_s, cost.loop_cpu_s = (now - before for now, before in zip(watch.last, watch.first, strict=True))
    cost.close_s, cost.close_cpu_s = (now - before for now, before in zip(end, watch.last, strict=True))
    cost.first_turn_s = watch.first_turn_s
    cost.wandb_s, cost.wandb_processes = watch.wandb_s, watch.wandb_processes
    cost.memory_mib, cost.longest_gap_s = watch.memory, watch.longest_gap
    return cost


# -- all sizes -------------------------------------------------------------------------------------------------


def exponent(sizes: list[int], values: list[float]) -> float:
    """The slope of a straight line through the logarithms: 1 is linear growth, 2 quadratic."""
    import numpy as np

    if len(sizes) < 2 or min(values) <= 0:
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


COLUMNS: dict[str, Callable[[Cost], float]] = {
    "plan CPU (s)": lambda cost: cost.plan_cpu_s,
    "first turn (s)": lambda cost: cost.first_turn_s,
    "longest gap (s)": lambda cost: cost.longest_gap_s,
    "loop (s)": lambda cost: cost.loop_s,
    "loop CPU (s)": lambda cost: cost.loop_cpu_s,
    "a result (ms CPU)": lambda cost: cost.per_result_ms,
    "closing CPU (s)": lambda cost: cost.close_cpu_s,
    "W&B wait (s)": lambda cost: cost.wandb_s,
    "memory + (MiB)": lambda cost: cost.memory_mib - cost.memory_before_mib,
    "W&B processes": lambda cost: float(cost.wandb_processes),
}


def table(costs: list[Cost]) -> str:
    """The costs, and how each grows with the number of trials."""
    head = f"{'trials':>8} {'results':>8} " + " ".join(f"{name:>17}" for name in COLUMNS)
    lines = [head]
    for cost in costs:
        numbers = " ".join(f"{value(cost):17.2f}" for value in COLUMNS.values())
        lines.append(f"{cost.trials:8d} {cost.results:8d} {numbers}")
    sizes = [cost.trials for cost in costs]
    growth = " ".join(f"{exponent(sizes, [value(cost) for cost in costs]):17.2f}" for value in COLUMNS.values())
    return "\n".join([*lines, f"{'exponent':>17} {growth}"])


def main() -> None:
    """Measure every size in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 300, 1000], help=f"in tens ({SEEDS_PER_CELL})")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--wandb", choices=["offline", "disabled"], default="offline")
    parser.add_argument("--real", action="store_true", help="a process for every trial")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        cost = measure(arguments.trials[0], arguments.epochs, arguments.wandb, real=arguments.real)
        arguments.json.write_text(json.dumps(asdict(cost)))
        return
    costs = []
    for trials in arguments.trials:
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "cost.json"
            command = [sys.executable, "-m", "benchmarks.driver_scale", "--one", "--trials", str(trials)]
            command += ["--epochs", str(arguments.epochs), "--wandb", arguments.wandb, "--json", str(out)]
            subprocess.run([*command, *(["--real"] if arguments.real else [])], check=True)
            costs.append(Cost(**json.loads(out.read_text())))
        print(f"{trials} trials: {costs[-1].loop_s:.0f} s, {costs[-1].per_result_ms:.2f} ms CPU a result", flush=True)
    print(table(costs))
    if arguments.json:
        settings = {"epochs": arguments.epochs, "wandb": arguments.wandb, "real": arguments.real}
        arguments.json.write_text(json.dumps({**settings, "costs": [asdict(cost) for cost in costs]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
