"""What the benchmarks share: sides measured in turns, a table, JSON.

A *side* is what a case is measured with, say the published code's update and ours. Each side lives in a process of its
own (allocator settings are per process) with one thread; in every round each side runs a few times, one after the
other, so that a change of the machine's load meets all of them. Times are the processor's unless a side works in
several processes: waiting for a busy core does not count. On a busy machine the least time is the one to trust.

A ``Peer`` is a side that another Python interpreter runs, with libraries that are not ours (``benchmarks/peers``).
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

Operation = Callable[[], Any]
Clock = Callable[[], float]
Factory = Callable[[], Operation]
"""Prepares what is measured and returns it; runs in the side's own process."""


@dataclass(frozen=True)
class Peer:
    """A side in another interpreter: a number of runs goes to its input, a JSON list of milliseconds comes back."""

    python: str
    script: str
    arguments: tuple[str, ...] = ()

    def start(self) -> _PeerProcess:
        """The running peer, to be asked as the other sides are."""
        return _PeerProcess([self.python, self.script, *self.arguments])


class _PeerProcess:
    """A peer's process and the connection to it in one."""

    def __init__(self, command: list[str]) -> None:
        one_thread = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | one_thread
        )

    def send(self, repeats: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{repeats}\n")
        self._process.stdin.flush()

    def recv(self) -> list[float] | str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else f"it ended with status {self._process.wait()}"

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def join(self, timeout: float) -> None:
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()


@dataclass
class Samples:
    """Milliseconds of one side in one case."""

    case: str
    side: str
    milliseconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def least(self) -> float:
        """Milliseconds."""
        return min(self.milliseconds)

    def quantile(self, share: float) -> float:
        """Milliseconds that ``share`` of the samples do not exceed."""
        ordered = sorted(self.milliseconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "case": self.case,
            "side": self.side,
            "median_ms": self.median,
            "least_ms": self.least,
            "p90_ms": self.quantile(0.9),
            "samples": len(self.milliseconds),
        }


def measure(
    case: str,
    sides: Mapping[str, Factory | Peer],
    *,
    rounds: int,
    repeats: int = 3,
    warm_up: int = 5,
    clock: Clock = time.process_time,
) -> dict[str, Samples]:
    """Time the sides in turns.

    Args:
        case: What the case is called in tables.
        sides: By name.
        rounds: How often each side has its turn.
        repeats: Runs, each timed, in a turn.
        warm_up: Runs before the first turn that do not count.
        clock: In seconds; by default the processor's time of the side's process.

    Raises:
        RuntimeError: If a side fails; the message has its traceback's last line.
    """
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    workers: dict[str, tuple[Any, Any]] = {}  # process and connection
    try:
        for name, factory in sides.items():
            if isinstance(factory, Peer):
                peer = factory.start()
                workers[name] = (peer, peer)
            else:
                here, there = context.Pipe()
                process = context.Process(target=_serve, args=(factory, there, clock), daemon=True)
                process.start()
                there.close()
                workers[name] = (process, here)
            _ask(name, workers[name][1], warm_up)
        samples = {name: Samples(case, name) for name in sides}
        for _ in range(rounds):
            for name, (_, connection) in workers.items():
                samples[name].milliseconds += _ask(name, connection, repeats)
        return samples
    finally:
        for process, connection in workers.values():
            if process.is_alive():
                connection.send(0)
            process.join(timeout=10)


def _ask(name: str, connection: Any, repeats: int) -> list[float]:
    connection.send(repeats)
    answer = connection.recv()
    if isinstance(answer, str):
        raise RuntimeError(f"The side {name!r} failed: {answer}")
    return answer


def _serve(factory: Factory, connection: Connection, clock: Clock) -> None:
    """Prepare once, then run as often as asked, until asked for none."""
    operation: Operation | None = None
    while repeats := connection.recv():
        try:
            operation = operation or factory()
            connection.send([time_once(operation, clock) for _ in range(repeats)])
        except Exception as error:  # whatever it is, the parent tells
            connection.send(f"{type(error).__name__}: {error}")
            return


def time_once(operation: Operation, clock: Clock = time.perf_counter) -> float:
    """Milliseconds of one run, by default of wall time."""
    start = clock()
    operation()
    return 1e3 * (clock() - start)


# -- what people see ---------------------------------------------------------------------------------------------


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """A command line with the options that all benchmarks have."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=rounds, help="turns of each side (default %(default)s)")
    result.add_argument("--core", type=int, help="pin to this core")
    result.add_argument("--tiny", action="store_true", help="sizes and rounds that show that it runs, nothing more")
    result.add_argument("--json", metavar="FILE", help="write the numbers there")
    return result


def prepare(arguments: argparse.Namespace) -> None:
    """One thread, on the core that was asked for."""
    import torch

    torch.set_num_threads(1)
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    if arguments.tiny:
        arguments.rounds = 1


def print_table(samples: Sequence[Samples], base: str | None = None) -> None:
    """One line per case and side; with ``base``, also the least time's ratio to that side's."""
    width = max(len(sample.side) for sample in samples) + 2
    print(f"{'case':32s}{'side':{width}s}{'median':>10s}{'least':>10s}{'90 %':>10s}  ms")
    bases = {sample.case: sample.least for sample in samples if sample.side == base}
    for sample in samples:
        ratio = f"  {sample.least / bases[sample.case]:6.2f} of {base}" if sample.case in bases else ""
        times = f"{sample.median:10.3f}{sample.least:10.3f}{sample.quantile(0.9):10.3f}"
        print(f"{sample.case:32s}{sample.side:{width}s}{times}{ratio}")


def write_json(path: str | None, benchmark: str, samples: Sequence[Samples], **more: Any) -> None:
    """The numbers and what they were measured on, if there is a path."""
    if path is None:
        return
    import torch

    content = {
        "benchmark": benchmark,
        "date": datetime.date.today().isoformat(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "torch": torch.__version__,
        "results": [sample.as_dict() for sample in samples],
        **more,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
