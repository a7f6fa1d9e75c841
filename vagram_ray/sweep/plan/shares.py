"""Which share of a GPU each trial asks for, so that trials together never need more memory than a GPU has.

Ray hands out shares of a GPU but knows nothing of its memory. A share is therefore what a trial's estimated memory,
with ``HEADROOM``, is of the smallest GPU that the trial may come to; shares on one GPU add up to at most 1, and with
them the memory. PyTorch then holds each trial to its share (``vagram_ray.rllib.gpu_share``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.plan.gpu_memory import gpu_memory
from vagram_ray.sweep.plan.gpus import ACCELERATOR_AMOUNT, Fleet, GpuNode
from vagram_ray.sweep.spec import SweepError
from vagram_ray.text import format_bytes, plural

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig
    from vagram_ray.sweep.plan.estimates import Workload
    from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan

HEADROOM = 1.1
"""The estimate is multiplied by this before it becomes a share."""
STEPS = 20
"""Shares are multiples of 1 / 20, so at most 20 trials share a GPU."""
LEAST_CPUS = 0.25
"""At most four trials share a core: each has a process that launches its kernels."""


@dataclass(frozen=True)
class Placement:
    """What one trial asks Ray for."""

    gpus: float
    """Share of one GPU."""
    cpus: float | None
    """None leaves the configuration's own."""
    kind: str | None
    """Accelerator that it has to come to, where smaller ones would not do."""
    memory_bytes: int
    """Estimated need of GPU memory."""
    fits: bool = True
    custom: tuple[tuple[str, float], ...] | None = None
    """All custom resources, the accelerator's among them; None leaves the configuration's own."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The keys of ``MBPOConfig`` that say so; the same keys for all trials of a sweep."""
        keys: dict[str, Any] = {"num_gpus_per_learner": self.gpus}
        if self.cpus is not None:
            keys["num_cpus_for_main_process"] = self.cpus
        if self.custom is not None:
            keys["custom_resources_for_main_process"] = dict(self.custom)
        return keys


@dataclass(frozen=True)
class GpuSharing:
    """Hands out shares of GPUs whose memory is known."""

    nodes: tuple[GpuNode, ...]
    share_cpus: bool = True
    """Whether a trial may ask for less than a whole CPU."""
    max_concurrent: int | None = None
    custom: tuple[tuple[str, float], ...] = ()
    """Custom resources that every trial asks for anyway."""

    @classmethod
    def of(cls, nodes: Sequence[GpuNode], config: MBPOConfig, max_concurrent: int | None = None) -> GpuSharing:
        """For trials of this configuration, whose own numbers of CPUs and custom resources stay."""
        plain = config.num_cpus_for_main_process == 1 and config.num_cpus_per_learner == "auto"
        return cls(tuple(nodes), plain, max_concurrent, tuple(config.custom_resources_for_main_process.items()))

    @property
    def largest_bytes(self) -> int:
        """Memory of the largest GPU."""
        return max(node.memory_bytes for node in self.nodes)

    def most_seeds(self, workload: Workload, num_seeds: int, epochs: int) -> int:
        """The largest cohort of at most ``num_seeds`` that fits on a GPU; 1 if not even that does."""
        fitting = (seeds for seeds in range(num_seeds, 1, -1) if self._fits(workload, seeds, epochs))
        return next(fitting, 1)

    def _fits(self, workload: Workload, num_seeds: int, epochs: int) -> bool:
        return gpu_memory(workload, num_seeds, epochs).total * HEADROOM <= self.largest_bytes

    def place(self, needs: Sequence[int]) -> list[Placement]:
        """The requests of trials that need so many bytes of GPU memory.

        No share is so small that a GPU would take several trials while another has none: with as many GPUs as
        trials each has one to itself.
        """
        homes = [self._home(need) for need in needs]
        least = self._least_share(homes)
        return [self._placement(need, home, least) for need, home in zip(needs, homes, strict=True)]

    def together(self, placements: Iterable[Placement], cpus: float = 1.0) -> int:
        """How many of these trials run at the same time, each started in its turn if there is room."""
        fleet = Fleet(self.nodes)
        taken = (fleet.take(each.gpus, cpus if each.cpus is None else each.cpus, each.kind) for each in placements)
        count = sum(place is not None for place in taken)
        return max(1, min(count, self.max_concurrent or count))

    def _home(self, need: int) -> GpuNode:
        """A node with the smallest GPU on which a trial fits; the largest one there is if it fits on none."""
        fitting = [node for node in self.nodes if need * HEADROOM <= node.memory_bytes]
        if fitting:
            return min(fitting, key=lambda node: node.memory_bytes)
        return max(self.nodes, key=lambda node: node.memory_bytes)

    def _least_share(self, homes: Sequence[GpuNode]) -> float:
        per_gpu = 1
        for home in set(homes):
            own = [node for node in self.nodes if self._admits(home, node)]
            trials = sum(other == home for other in homes)
            trials = min(trials, self.max_concurrent or trials)
            per_gpu = max(per_gpu, math.ceil(trials / sum(node.gpus for node in own)))
        return max(1, math.floor(100 / per_gpu)) / 100

    def _admits(self, home: GpuNode, node: GpuNode) -> bool:
        """Whether a trial with this home may come to a node: anywhere, or where it has to go."""
        return home.memory_bytes == self._smallest_bytes or node.kind == home.kind

    @property
    def _smallest_bytes(self) -> int:
        return min(node.memory_bytes for node in self.nodes)

    def _placement(self, need: int, home: GpuNode, least: float) -> Placement:
        wanted = math.ceil(need * HEADROOM / home.memory_bytes * STEPS - 1e-9) / STEPS
        gpus = round(min(1.0, max(least, wanted)), 4)
        several = len({node.kind for node in self.nodes}) > 1
        pinned = several and home.memory_bytes > self._smallest_bytes
        own = {home.resource: ACCELERATOR_AMOUNT} if pinned and home.resource else {}
        return Placement(
            gpus=gpus,
            cpus=self._cpus(gpus, home) if self.share_cpus else None,
            kind=home.kind if pinned else None,
            memory_bytes=need,
            fits=need * HEADROOM <= home.memory_bytes,
            custom=tuple({**dict(self.custom), **own}.items()) if several else None,
        )

    def _cpus(self, gpus: float, home: GpuNode) -> float:
        """The same share of a GPU's cores as of the GPU, so that cores do not limit how many trials share it."""
        per_gpu = min(node.cpus / node.gpus for node in self.nodes if self._admits(home, node))
        return max(LEAST_CPUS, min(1.0, math.floor(per_gpu * gpus * 100 + 1e-9) / 100))


def check_placement(trials: Iterable[TrialPlan], sharing: GpuSharing | None) -> None:
    """Refuse trials that need more memory than the largest GPU has.

    Raises:
        SweepError: The first of them, what it needs, what there is, and the way out.
    """
    for trial in trials:
        if sharing is None or trial.placement is None or trial.placement.fits:
            continue
        several = len(trial.seeds) > 1
        fewer = "give fewer --seeds-per-trial, " if several else ""
        raise SweepError(
            f"The trial {trial.name} ({plural(len(trial.seeds), 'seed')}) needs about "
            f"{format_bytes(trial.placement.memory_bytes * HEADROOM)} of GPU memory, and the largest GPU has "
            f"{format_bytes(sharing.largest_bytes)}: {fewer}lower replay_capacity, rollouts_per_step or "
            "hidden_size with --set, or train on CPUs with --set num_gpus_per_learner=0."
        )


def share_warnings(plan: SweepPlan) -> Iterator[str]:
    """A sentence about shares of the user's own that are less than the memory a trial may need."""
    if plan.sharing is not None or not plan.machine.gpu_nodes or not 0 < plan.resources["GPU"] < 1:
        return
    share = plan.resources["GPU"] * min(node.memory_bytes for node in plan.machine.gpu_nodes)
    most = max(plan.gpu_bytes(trial.cell.index, len(trial.seeds)) for trial in plan.trials)
    if most > share:
        yield (
            f"a trial may need {format_bytes(most)} of GPU memory, and num_gpus_per_learner="
            f"{plan.resources['GPU']:g} gives it {format_bytes(share)}; leave the setting away to have it chosen."
        )
