"""When and where trials would run: a simulated schedule of shares of GPUs.

Trials wait in order; whenever something becomes free, each that has room starts (a smaller one may overtake), as in
Tune with Ray. Trials that share a GPU also share its arithmetic and its node's cores: where together they want more
than there is, all of them go slower by the same factor. Switching between processes costs nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vagram_ray.sweep.plan.gpus import Fleet, GpuNode

Place = tuple[int, int]
"""Node, and GPU on it."""


@dataclass(frozen=True)
class Job:
    """A trial, as far as a schedule is concerned."""

    name: str
    seconds: float
    """Wall time with a GPU and a core to itself; NaN where it is not known."""
    gpu_seconds: float
    """Of which the GPU is needed; a core is busy for the rest."""
    gpus: float
    cpus: float
    memory_bytes: int = 0
    kind: str | None = None

    def cut(self, seconds: float) -> Job:
        """The same job where only so much of it is left to be done."""
        return replace(self, seconds=seconds, gpu_seconds=self.gpu_seconds * seconds / max(self.seconds, 1e-9))


@dataclass(frozen=True)
class Run:
    """Where and when a job ran, in seconds from the start."""

    job: Job
    place: Place
    start: float
    end: float


@dataclass(frozen=True)
class Schedule:
    """All runs, in the order of their starts."""

    nodes: tuple[GpuNode, ...]
    runs: tuple[Run, ...]
    timed: bool = True
    """Whether the jobs' times are known; otherwise all are taken to be alike, and their unit means nothing."""

    @property
    def makespan(self) -> float:
        """Seconds until the last job has ended."""
        return max((run.end for run in self.runs), default=0.0)

    @property
    def num_gpus(self) -> int:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    @property
    def busy(self) -> float:
        """Share of all GPU time in which the GPUs compute."""
        return self._share_of_gpu_time(sum(run.job.gpu_seconds for run in self.runs))

    @property
    def occupied(self) -> float:
        """Share of all GPU time in which a GPU has at least one trial."""
        return self._share_of_gpu_time(sum(_covered(runs) for runs in self.by_gpu().values()))

    @property
    def memory(self) -> float:
        """Estimated memory of the trials as a share of all GPU memory, over time."""
        total = sum(node.gpus * node.memory_bytes for node in self.nodes) * self.makespan
        return sum(run.job.memory_bytes * (run.end - run.start) for run in self.runs) / total if total else 0.0

    @property
    def most_together(self) -> int:
        """Most trials on one GPU at a time."""
        return max((_most_at_once(runs) for runs in self.by_gpu().values()), default=0)

    def by_gpu(self) -> dict[Place, list[Run]]:
        """The runs of each GPU that has any."""
        gpus: dict[Place, list[Run]] = {}
        for run in self.runs:
            gpus.setdefault(run.place, []).append(run)
        return gpus

    def _share_of_gpu_time(self, seconds: float) -> float:
        whole = self.num_gpus * self.makespan
        return seconds / whole if whole else 0.0


def simulate(jobs: Sequence[Job], nodes: Sequence[GpuNode], max_concurrent: int | None = None) -> Schedule:
    """Run the jobs on the nodes; where the time of one is not known, as if all took the same.

    Raises:
        ValueError: A job has no room even on empty nodes.
    """
    timed = not any(math.isnan(job.seconds) for job in jobs)
    jobs = jobs if timed else [replace(job, seconds=1.0, gpu_seconds=0.0) for job in jobs]
    fleet = Fleet(nodes)
    order = {id(job): position for position, job in enumerate(jobs)}
    waiting = list(jobs)
    running: list[_Running] = []
    done: list[Run] = []
    clock = 0.0
    while waiting or running:
        waiting = _start(waiting, running, fleet, clock, max_concurrent)
        if not running:
            raise ValueError(f"The job {waiting[0].name} has no room: it asks for {waiting[0].gpus:g} of a GPU.")
        rates = _rates(running, nodes)
        step = min(each.left / rate for each, rate in zip(running, rates, strict=True))
        clock += step
        for each, rate in zip(running, rates, strict=True):
            each.left -= step * rate
        ended = [each for each in running if each.left <= 1e-9 * max(1.0, each.job.seconds)]
        for each in ended:
            fleet.give_back(each.place, each.job.gpus, each.job.cpus)
            done.append(Run(each.job, each.place, each.start, clock))
        running = [each for each in running if each not in ended]
    return Schedule(tuple(nodes), tuple(sorted(done, key=lambda run: (run.start, order[id(run.job)]))), timed)


@dataclass(eq=False)
class _Running:
    job: Job
    place: Place
    start: float
    left: float
    """Seconds that it would still take alone."""


def _start(
    waiting: Sequence[Job], running: list[_Running], fleet: Fleet, clock: float, max_concurrent: int | None
) -> list[Job]:
    """Start what has room; returns what goes on waiting."""
    still = []
    for job in waiting:
        place = None
        if max_concurrent is None or len(running) < max_concurrent:
            place = fleet.take(job.gpus, job.cpus, job.kind)
        if place is None:
            still.append(job)
        else:
            running.append(_Running(job, place, clock, job.seconds))
    return still


def _rates(running: Sequence[_Running], nodes: Sequence[GpuNode]) -> list[float]:
    """How fast each goes on, compared with being alone."""
    on_gpu: dict[Place, float] = {}
    on_cpus: dict[int, float] = {}
    for each in running:
        computing = each.job.gpu_seconds / each.job.seconds if each.job.seconds else 0.0
        on_gpu[each.place] = on_gpu.get(each.place, 0.0) + computing
        on_cpus[each.place[0]] = on_cpus.get(each.place[0], 0.0) + 1.0 - computing
    return [
        1.0 / max(1.0, on_gpu[each.place], on_cpus[each.place[0]] / max(1e-9, nodes[each.place[0]].cpus))
        for each in running
    ]


def _covered(runs: Sequence[Run]) -> float:
    """Seconds in which at least one of the runs goes on."""
    total, until = 0.0, 0.0
    for run in sorted(runs, key=lambda run: run.start):
        total += max(0.0, run.end - max(run.start, until))
        until = max(until, run.end)
    return total


def _most_at_once(runs: Sequence[Run]) -> int:
    events = sorted([(run.end, -1) for run in runs] + [(run.start, 1) for run in runs])  # ends before starts
    most = now = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most
