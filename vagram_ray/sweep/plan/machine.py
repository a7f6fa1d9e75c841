"""The machine of a sweep: cores, GPUs, memory, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from vagram_ray.sweep.plan.autoscaling import Autoscaling, describe_coming, find_autoscaling
from vagram_ray.sweep.plan.shares import GIB, GpuNode, cluster_gpus, local_gpus
from vagram_ray.sweep.processes import load_psutil

_PACKAGES = ("vagram-ray", "ray", "torch", "numpy", "gymnasium", "mujoco", "wandb", "scipy")
CPUS_PER_GPU = 8
"""Of GPUs that are not there: as many as a node with one GPU often has."""


@dataclass(frozen=True)
class Machine:
    """Resources that Tune may hand out. ``memory_bytes`` is ``None`` where it cannot be told."""

    cpus: int
    gpus: int
    memory_bytes: int | None
    description: str
    local: bool = True
    gpu_nodes: tuple[GpuNode, ...] = ()
    """Where the GPUs are and what memory they have, empty where that cannot be told."""
    nodes: int = 1
    """Computers that it is made of, or may be before the sweep ends."""


def local_machine() -> Machine:
    """The computer this runs on, within the limits of its container."""
    cpus = max(1, min(_cores(), os.cpu_count() or 1))
    gpus = local_gpus()
    count = sum(node.gpus for node in gpus)
    return Machine(cpus, count, _memory(), processor_name(), gpu_nodes=gpus)


_CGROUP = Path("/sys/fs/cgroup")


def _cores() -> int:
    """Cores that this process may use, by its affinity and the container's quota of CPU time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _numbers("cpu.max") or _numbers("cpu/cpu.cfs_quota_us") + _numbers("cpu/cpu.cfs_period_us")
    if len(quota) == 2 and quota[0] > 0 and quota[1] > 0:
        cores = min(cores, int(quota[0] / quota[1]))
    return cores


def _memory() -> int:
    """Bytes of memory, at most those of the container."""
    total = int(load_psutil().virtual_memory().total)
    limits = _numbers("memory.max") or _numbers("memory/memory.limit_in_bytes")
    return min([total, *(int(limit) for limit in limits if limit > 0)])


def _numbers(name: str) -> list[float]:
    """The numbers in a file of the container's limits, or none where there is no limit or no such file."""
    try:
        return [float(word) for word in (_CGROUP / name).read_text().split()]
    except (OSError, ValueError):  # "max" among them
        return []


def cluster_machine() -> Machine:
    """The whole Ray cluster that this process is connected to, and what its autoscaler may add to it."""
    import ray

    return machine_of(ray.nodes(), find_autoscaling())


def machine_of(nodes: Sequence[Mapping[str, Any]], autoscaling: Autoscaling | None = None) -> Machine:
    """A cluster of these nodes (``ray.nodes()``) with what its autoscaler may start beside them."""
    alive = [node for node in nodes if node["Alive"]]
    coming = autoscaling.still_to_come(alive) if autoscaling is not None else []
    whole = [*alive, *({"Alive": True, "Resources": each.resources} for each in coming)]
    resources = [node["Resources"] for node in whole]
    known = all("memory" in each for each in resources)
    there = f"Ray cluster of {len(alive)} node{'s' if len(alive) != 1 else ''}"
    return Machine(
        max(1, int(sum(each.get("CPU", 0.0) for each in resources))),
        int(sum(each.get("GPU", 0.0) for each in resources)),
        int(sum(each["memory"] for each in resources)) if known and resources else None,
        "; ".join(part for part in (there, describe_coming(coming)) if part),
        local=False,
        gpu_nodes=cluster_gpus(whole),
        # Also those of whose resources the autoscaler's configuration says nothing: machines of one's own.
        nodes=max(len(whole), 1 + autoscaling.most if autoscaling is not None else 0),
    )


def assumed_machine(gpus: int, memory_gib: float) -> Machine:
    """A cluster with that many GPUs, each on a node of its own, for plans that are made before it is there."""
    node = GpuNode(int(memory_gib * GIB))
    noun = "GPU" if gpus == 1 else "GPUs"
    description = f"{gpus} {noun} of {memory_gib:g} GiB with {CPUS_PER_GPU} CPUs each (assumed)"
    return Machine(gpus * CPUS_PER_GPU, gpus, None, description, local=False, gpu_nodes=(node,) * gpus)


def processor_name() -> str:
    """The processor's model name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe_machine(machine: Machine) -> dict[str, Any]:
    """The machine as plain data for ``sweep.json``."""
    return {
        "processor": machine.description,
        "cpus": machine.cpus,
        "gpus": machine.gpus,
        "memory_gib": None if machine.memory_bytes is None else round(machine.memory_bytes / GIB, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the source tree this package runs from, with ``-dirty`` when files differ from it."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        changes = subprocess.run([*command, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode != 0:
        return None
    return commit.stdout.strip() + ("-dirty" if changes.stdout.strip() else "")
