"""GPUs, and which share of one each trial asks for, so that trials never need more memory than a GPU has.

Ray hands out shares of a GPU but knows nothing of its memory. A share is therefore a trial's estimated memory, with
``HEADROOM``, divided by the memory of the smallest GPU that the trial may come to. Shares on one GPU add up to at most
1, and so does the memory. PyTorch then holds each trial to its share (``vagram_ray.rllib.gpu_share``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.plan.memory import gpu_bytes
from vagram_ray.sweep.plan.workload import Workload

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig

GIB = 2**30
ACCELERATOR_GIB: Mapping[str, float] = {
    "T4": 14.5, "P4": 7.5, "V100": 15.7, "P100": 15.9, "A10G": 22.0, "L4": 22.0, "L40S": 44.0, "A100": 39.0,
    "A100-40G": 39.0, "A100-80G": 79.0, "H100": 79.0, "H20": 95.0, "H200": 139.0, "B200": 178.0,
}  # fmt: skip
"""Usable memory by Ray's name of the accelerator, a little less than what it is sold as: 16 GB are 14.5 GiB on a T4
with error correction. Ray calls A100s of 40 and of 80 GB the same: the smaller counts, unless the node also has the
resource ``accelerator_type:A100-80G``. From data sheets and drivers' reports, not measured by this project."""
ACCELERATOR = "accelerator_type:"
ACCELERATOR_AMOUNT = 0.001
"""Of a node's ``accelerator_type:...``, of which it has 1: what Ray itself asks for."""
HEADROOM = 1.1
"""The estimate is multiplied by this before it becomes a share."""
STEPS = 20
"""Shares are multiples of 1 / 20, so at most 20 trials share a GPU."""
LEAST_CPUS = 0.25
"""At most four trials share a core: each has a process that launches its kernels."""


@dataclass(frozen=True)
class GpuNode:
    """One machine with GPUs of one kind."""

    memory_bytes: int
    """Of each GPU."""
    gpus: int = 1
    cpus: float = 8.0
    kind: str | None = None
    """Ray's name of the accelerator, with which a trial can ask for it, or None if there is no other kind."""

    @property
    def resource(self) -> str | None:
        """Ray's resource that only nodes of this kind have."""
        return None if self.kind is None else f"{ACCELERATOR}{self.kind}"


def local_gpus(cpus: float) -> tuple[GpuNode, ...]:
    """The GPUs of this machine. The smallest speaks for all, as a trial cannot choose among those of one machine."""
    import torch

    count = torch.cuda.device_count()
    if not count:
        return ()
    memory = min(torch.cuda.get_device_properties(index).total_memory for index in range(count))
    return (GpuNode(memory, count, cpus),)


def cluster_gpus(nodes: Iterable[Mapping[str, Any]]) -> tuple[GpuNode, ...]:
    """The GPUs of a cluster by ``ray.nodes()``, or none if the memory of any of them is not known."""
    found = []
    for node in nodes:
        resources = node["Resources"]
        gpus = int(resources.get("GPU", 0))
        if not node["Alive"] or not gpus:
            continue
        names = [name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)]
        known = [name for name in names if name in ACCELERATOR_GIB]
        if not known:
            return ()
        kind = max(known, key=lambda name: ACCELERATOR_GIB[name])
        found.append(GpuNode(int(ACCELERATOR_GIB[kind] * GIB), gpus, float(resources.get("CPU", 0.0)), kind))
    return tuple(found)


@dataclass(frozen=True)
class Placement:
    """Resources that one trial requests from Ray."""

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
    """All custom resources, the accelerator's among them. None leaves the configuration's own."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The keys of ``MBPOConfig`` that say so, the same keys for all trials of a sweep."""
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
        """The largest cohort of at most ``num_seeds`` that fits on a GPU, or 1 if not even that does."""
        fitting = (seeds for seeds in range(num_seeds, 1, -1) if self._fits(workload, seeds, epochs))
        return next(fitting, 1)

    def _fits(self, workload: Workload, num_seeds: int, epochs: int) -> bool:
        return gpu_bytes(workload, num_seeds, epochs) * HEADROOM <= self.largest_bytes

    def place(self, needs: Sequence[int]) -> list[Placement]:
        """The requests of trials that need so many bytes of GPU memory.

        No share is so small that a GPU would take several trials while another has none: with as many GPUs as
        trials each has one to itself.
        """
        targets = [self._target_node(need) for need in needs]
        least = self._least_share(targets)
        return [self._placement(need, target, least) for need, target in zip(needs, targets, strict=True)]

    def num_concurrent(self, placements: Iterable[Placement], cpus: float = 1.0) -> int:
        """How many of these trials run at the same time, where each starts in its turn if there is room.

        As Ray does it, a trial goes to the node with the most room, and there to the fullest GPU on which it fits.
        """
        free = [_Room(node, node.cpus, [1.0] * node.gpus) for node in self.nodes]
        count = 0
        for each in placements:
            needed = cpus if each.cpus is None else each.cpus
            open_to = [room for room in free if room.has_room_for(each, needed)]
            if open_to:
                max(open_to, key=lambda room: sum(room.gpus)).reserve(each, needed)
                count += 1
        return max(1, min(count, self.max_concurrent or count))

    def _target_node(self, need: int) -> GpuNode:
        """A node with the smallest GPU on which a trial fits, or the largest one there is if it fits on none."""
        fitting = [node for node in self.nodes if need * HEADROOM <= node.memory_bytes]
        if fitting:
            return min(fitting, key=lambda node: node.memory_bytes)
        return max(self.nodes, key=lambda node: node.memory_bytes)

    def _least_share(self, targets: Sequence[GpuNode]) -> float:
        per_gpu = 1
        for target in set(targets):
            own = [node for node in self.nodes if self._may_run_on(target, node)]
            trials = sum(other == target for other in targets)
            trials = min(trials, self.max_concurrent or trials)
            per_gpu = max(per_gpu, math.ceil(trials / sum(node.gpus for node in own)))
        return max(1, math.floor(100 / per_gpu)) / 100

    def _may_run_on(self, target: GpuNode, node: GpuNode) -> bool:
        """Whether a trial with this target node may come to another: anywhere, or where it has to go."""
        return target.memory_bytes == self._smallest_bytes or node.kind == target.kind

    @property
    def _smallest_bytes(self) -> int:
        return min(node.memory_bytes for node in self.nodes)

    def _placement(self, need: int, target: GpuNode, least: float) -> Placement:
        wanted = math.ceil(need * HEADROOM / target.memory_bytes * STEPS - 1e-9) / STEPS
        gpus = round(min(1.0, max(least, wanted)), 4)
        several = len({node.kind for node in self.nodes}) > 1
        pinned = several and target.memory_bytes > self._smallest_bytes
        own = {target.resource: ACCELERATOR_AMOUNT} if pinned and target.resource else {}
        return Placement(
            gpus=gpus,
            cpus=self._cpus(gpus, target) if self.share_cpus else None,
            kind=target.kind if pinned else None,
            memory_bytes=need,
            fits=need * HEADROOM <= target.memory_bytes,
            custom=tuple({**dict(self.custom), **own}.items()) if several else None,
        )

    def _cpus(self, gpus: float, target: GpuNode) -> float:
        """The same share of a GPU's cores as of the GPU, so that cores do not limit how many trials share it."""
        per_gpu = min(node.cpus / node.gpus for node in self.nodes if self._may_run_on(target, node))
        return max(LEAST_CPUS, min(1.0, math.floor(per_gpu * gpus * 100 + 1e-9) / 100))


@dataclass
class _Room:
    """Free resources of a node."""

    node: GpuNode
    cpus: float
    gpus: list[float]

    def has_room_for(self, trial: Placement, cpus: float) -> bool:
        """Whether a trial fits."""
        if trial.kind not in (None, self.node.kind) or self.cpus < cpus - _ROUNDING:
            return False
        return max(self.gpus) >= trial.gpus - _ROUNDING

    def reserve(self, trial: Placement, cpus: float) -> None:
        """Give the trial its share."""
        fitting = [index for index, left in enumerate(self.gpus) if left >= trial.gpus - _ROUNDING]
        self.gpus[min(fitting, key=lambda index: self.gpus[index])] -= trial.gpus
        self.cpus -= cpus


_ROUNDING = 1e-9
