"""GPUs, and which share of one the trials ask for, so that trials never need more memory than a GPU has.

Ray hands out shares of a GPU but knows nothing of its memory. The share is therefore the estimated memory of the
largest trial, with ``HEADROOM``, divided by the memory of the smallest GPU. Shares on one GPU add up to at most 1, and
so does the memory. PyTorch then holds each trial to its share (``vagram_ray.rllib.gpu_share``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
HEADROOM = 1.1
"""The estimate is multiplied by this before it becomes a share."""
STEPS = 20
"""Shares are multiples of 1 / 20, so at most 20 trials share a GPU."""


@dataclass(frozen=True)
class GpuNode:
    """One machine with GPUs of one kind."""

    memory_bytes: int
    """Of each GPU."""
    gpus: int = 1
    kind: str | None = None
    """Ray's name of the accelerator, with which a trial can ask for it, or None on this machine."""


def local_gpus() -> tuple[GpuNode, ...]:
    """The GPUs of this machine. The smallest speaks for all, as a trial cannot choose among those of one machine."""
    import torch

    count = torch.cuda.device_count()
    if not count:
        return ()
    memory = min(torch.cuda.get_device_properties(index).total_memory for index in range(count))
    return (GpuNode(memory, count),)


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
        found.append(GpuNode(int(ACCELERATOR_GIB[kind] * GIB), gpus, kind))
    return tuple(found)


@dataclass(frozen=True)
class GpuSharing:
    """GPUs of known memory that trials share. Where they differ, the smallest stands for all."""

    nodes: tuple[GpuNode, ...]
    share: float = 1.0
    """Of one GPU, for each trial."""

    @classmethod
    def of(cls, nodes: Sequence[GpuNode], config: MBPOConfig) -> GpuSharing | None:
        """The GPUs to which trials of this configuration may come, or None where there are none of known memory.

        Custom resources such as ``accelerator_type:H100`` keep them to a kind.
        """
        custom = config.custom_resources_for_main_process
        kinds = [name.removeprefix(ACCELERATOR) for name in custom if name.startswith(ACCELERATOR)]
        own = tuple(node for node in nodes if not kinds or node.kind in kinds)
        return cls(own) if own else None

    @property
    def memory_bytes(self) -> int:
        """Memory of the smallest GPU."""
        return min(node.memory_bytes for node in self.nodes)

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return sum(node.gpus for node in self.nodes)

    def fits(self, need: int) -> bool:
        """Whether a trial that needs so many bytes may come to any of the GPUs."""
        return need * HEADROOM <= self.memory_bytes

    def most_seeds(self, workload: Workload, num_seeds: int, epochs: int) -> int:
        """The largest cohort of at most ``num_seeds`` that fits on a GPU, or 1 if not even that does."""
        fitting = (seeds for seeds in range(num_seeds, 1, -1) if self.fits(gpu_bytes(workload, seeds, epochs)))
        return next(fitting, 1)

    def for_trials(self, need: int, num_trials: int) -> GpuSharing:
        """With the share of each of ``num_trials`` trials beside each other, of which the largest needs so many bytes.

        It is not so small that a GPU would take several trials while another has none: with as many GPUs as trials
        each has one to itself.
        """
        least = max(1, math.floor(100 / max(1, math.ceil(num_trials / self.gpus)))) / 100
        wanted = math.ceil(need * HEADROOM / self.memory_bytes * STEPS - 1e-9) / STEPS
        return replace(self, share=round(min(1.0, max(least, wanted)), 4))
