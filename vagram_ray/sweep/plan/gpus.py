"""The GPUs of a machine or cluster: how much memory they have, and how Ray hands out shares of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
EXACT = 10_000
"""Ray counts resources in units of 1e-4; whole numbers add up exactly."""


@dataclass(frozen=True)
class GpuNode:
    """One machine with GPUs of one kind."""

    memory_bytes: int
    """Of each GPU."""
    gpus: int = 1
    cpus: float = 8.0
    kind: str | None = None
    """Ray's name of the accelerator, with which a trial can ask for it; None if there is no other kind."""

    @property
    def resource(self) -> str | None:
        """Ray's resource that only nodes of this kind have."""
        return None if self.kind is None else f"{ACCELERATOR}{self.kind}"


def local_gpus(cpus: float) -> tuple[GpuNode, ...]:
    """The GPUs of this machine; the smallest speaks for all, as a trial cannot choose among those of one machine."""
    import torch

    count = torch.cuda.device_count()
    if not count:
        return ()
    memory = min(torch.cuda.get_device_properties(index).total_memory for index in range(count))
    return (GpuNode(memory, count, cpus),)


def cluster_gpus(nodes: Iterable[Mapping[str, Any]]) -> tuple[GpuNode, ...]:
    """The GPUs of a cluster by ``ray.nodes()``; none if the memory of any of them is not known."""
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


class Fleet:
    """Which parts of the GPUs and CPUs of some nodes are taken.

    Parts are handed out as Ray 2.60 was seen to do it: among the nodes that have room, the one that has most left,
    on it the fullest GPU that has room.
    """

    def __init__(self, nodes: Sequence[GpuNode]) -> None:
        self.nodes = tuple(nodes)
        self._cpus = [_exact(node.cpus) for node in nodes]
        self._gpus = [[EXACT] * node.gpus for node in nodes]

    def take(self, share: float, cpus: float, kind: str | None = None) -> tuple[int, int] | None:
        """Node and GPU that now have ``share`` of a GPU and ``cpus`` less; None if there is no room now."""
        gpu, cpu = _exact(share), _exact(cpus)
        places = [
            index
            for index, node in enumerate(self.nodes)
            if (kind is None or node.kind == kind) and self._cpus[index] >= cpu and max(self._gpus[index]) >= gpu
        ]
        if not places:
            return None
        node = max(places, key=lambda index: self._left(index, gpu, cpu))
        free = self._gpus[node]
        device = min((index for index in range(len(free)) if free[index] >= gpu), key=lambda index: free[index])
        free[device] -= gpu
        self._cpus[node] -= cpu
        return node, device

    def give_back(self, place: tuple[int, int], share: float, cpus: float) -> None:
        """Undo ``take``."""
        node, device = place
        self._gpus[node][device] += _exact(share)
        self._cpus[node] += _exact(cpus)

    def _left(self, node: int, gpu: int, cpu: int) -> float:
        """Ray's score of a node: what would be left of each resource that is asked for, as a share of what is free."""
        gpus, cpus = sum(self._gpus[node]), self._cpus[node]
        return (gpus - gpu) / gpus + ((cpus - cpu) / cpus if cpu else 0.0)


def _exact(amount: float) -> int:
    return round(amount * EXACT)
