"""Which machines a cluster's autoscaler may still start, so that a sweep can be planned before any of them is there.

``ray up`` leaves the cluster's configuration on the head and starts the autoscaler with it; the path stands in the
command of the autoscaler's process. Ray's control process has a place for a configuration, too
(``ray._private.state.state.get_cluster_config``): Ray 2.60 itself writes nothing there, services that run Ray may.
KubeRay's autoscaler asks Kubernetes in a container of its own, so a process on the head cannot tell what it may start.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vagram_ray.sweep.plan.gpus import ACCELERATOR
from vagram_ray.sweep.run.processes import load_psutil, options_of

MOST_PLANNED = 1000
"""Machines that a plan counts at most; what has no limit may start so many."""
_HEAD = "node:__internal_head__"


@dataclass(frozen=True)
class NodeType:
    """Machines of one kind that an autoscaler may start."""

    name: str
    resources: Mapping[str, float]
    most: int
    """How many of them may run at the same time."""


@dataclass(frozen=True)
class Autoscaling:
    """The limits of an autoscaler."""

    types: tuple[NodeType, ...]
    most: int
    """How many machines may run at the same time beside the head."""

    def still_to_come(self, nodes: Sequence[Mapping[str, Any]]) -> list[NodeType]:
        """A type for each machine that may join these nodes (``ray.nodes()``), as many as there may be.

        Which types the autoscaler chooses follows from its queue and from what is to be had. The plan takes one of
        each in turn, types with GPUs before all others, so that every kind of GPU on which a trial may find itself
        is among them.
        """
        running = [node["Resources"] for node in nodes if node["Alive"] and _HEAD not in node["Resources"]]
        room = max(0, min(self.most, MOST_PLANNED) - len(running))
        left = self._left(running)
        chosen: list[NodeType] = []
        for with_gpus in (True, False):
            types = [each for each in self.types if bool(each.resources.get("GPU")) == with_gpus]
            while len(chosen) < room and any(left[each.name] > 0 for each in types):
                for each in types:
                    if left[each.name] > 0 and len(chosen) < room:
                        left[each.name] -= 1
                        chosen.append(each)
        return chosen

    def _left(self, running: Sequence[Mapping[str, float]]) -> dict[str, int]:
        """How many of each type may still be started; a machine is of the first type with its CPUs and GPUs."""
        left = {each.name: min(each.most, MOST_PLANNED) for each in self.types}
        for resources in running:
            alike = (each.name for each in self.types if _shape(each.resources) == _shape(resources))
            own = (name for name in alike if left[name] > 0)
            if name := next(own, None):
                left[name] -= 1
        return left


def find_autoscaling() -> Autoscaling | None:
    """What the autoscaler of the cluster that this process is connected to may start; None where it cannot be told."""
    import ray
    from ray._private.state import state

    try:
        reported = state.get_cluster_config()
        address = ray.get_runtime_context().gcs_address
    except Exception:  # through Ray's client there is neither; the plan then counts what is there
        return None
    if reported is not None and reported.node_group_configs:
        return of_reported(reported)
    path = next((path for own, path in monitors() if own == address), None)
    return None if path is None else read_config(path)


def read_config(path: Path) -> Autoscaling | None:
    """From the file with which an autoscaler was started; None if it cannot be read or has no types of machines."""
    import yaml

    try:
        config = yaml.safe_load(path.expanduser().read_text())
        return of_config(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


def of_config(config: Mapping[str, Any]) -> Autoscaling:
    """From the content of a cluster's configuration, as ``ray up`` leaves it on the head.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: It is not as Ray writes it.
    """
    head, most = config["head_node_type"], int(config.get("max_workers", 2))  # Ray's own default
    types = []
    for name, content in config["available_node_types"].items():
        limit = content.get("max_workers", 0 if name == head else most)
        amounts = {kind: float(amount) for kind, amount in (content.get("resources") or {}).items()}
        types.append(NodeType(str(name), amounts, max(0, int(limit))))
    return Autoscaling(_useful(types), most)


def of_reported(config: Any) -> Autoscaling:
    """From what Ray's control process has been told (``autoscaler_pb2.ClusterConfig``); -1 there is no limit."""
    types = [
        NodeType(group.name, dict(group.resources), MOST_PLANNED if group.max_count < 0 else group.max_count)
        for group in config.node_group_configs
    ]
    return Autoscaling(_useful(types), MOST_PLANNED)


def describe_coming(coming: Sequence[NodeType]) -> str:
    """``its autoscaler may start up to 8 more (planned as 4 gpu_l4, 4 gpu_a10g)``; empty if nothing may come."""
    if not coming:
        return ""
    counts = Counter(each.name for each in coming)
    return (
        f"its autoscaler may start up to {len(coming)} more "
        f"(planned as {', '.join(f'{count} {name}' for name, count in counts.items())})"
    )


def _useful(types: Sequence[NodeType]) -> tuple[NodeType, ...]:
    """Those that can hold a trial."""
    return tuple(each for each in types if each.most > 0 and each.resources.get("CPU", 0.0) > 0)


def _shape(resources: Mapping[str, float]) -> tuple[float, float, frozenset[str]]:
    kinds = frozenset(name for name in resources if name.startswith(ACCELERATOR))
    return float(resources.get("CPU", 0.0)), float(resources.get("GPU", 0.0)), kinds


def monitors() -> Iterator[tuple[str, Path]]:
    """Address of the control process and configuration of each autoscaler on this machine."""
    for process in load_psutil().process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if any(os.path.basename(part) == "monitor.py" for part in command[:4]):
            arguments = options_of(command)
            if {"--gcs-address", "--autoscaling-config"} <= set(arguments):
                yield arguments["--gcs-address"], Path(arguments["--autoscaling-config"])
