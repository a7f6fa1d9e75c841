"""Which machines a cluster's autoscaler may still start, so that a sweep can be planned before any of them is there.

``ray up`` leaves the cluster's configuration on the head and starts the autoscaler with it. The path stands in the
command of the autoscaler's process. KubeRay's autoscaler runs in a container of its own, so nothing is known of it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vagram_ray.sweep.processes import load_psutil, options_of

MOST_PLANNED = 1000
"""A plan counts at most so many machines."""
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
        """A type for each machine that may join these nodes (``ray.nodes()``).

        Nobody knows beforehand which types the autoscaler will choose. The plan takes one of each in turn, types with
        GPUs before all others, and machines that are there for the first of these.
        """
        rounds = range(min(MOST_PLANNED, max((each.most for each in self.types), default=0)))
        turns = [each for turn in rounds for each in self.types if each.most > turn]
        turns.sort(key=lambda each: not each.resources.get("GPU"))
        running = sum(node["Alive"] and _HEAD not in node["Resources"] for node in nodes)
        return turns[running : min(self.most, MOST_PLANNED)]


def find_autoscaling() -> Autoscaling | None:
    """What the autoscaler of the connected cluster may start, or None where it cannot be told."""
    import ray

    try:
        address = ray.get_runtime_context().gcs_address
    except Exception:  # through Ray's client there is none. The plan then counts what is there
        return None
    path = next((path for own, path in _autoscalers() if own == address), None)
    return None if path is None else read_config(path)


def read_config(path: Path) -> Autoscaling | None:
    """The limits in a cluster's configuration as ``ray up`` leaves it on the head, or None if it is something else."""
    import yaml

    try:
        config = yaml.safe_load(path.expanduser().read_text())
        head, most = config["head_node_type"], int(config.get("max_workers", 2))  # Ray's own default
        types = []
        for name, content in config["available_node_types"].items():
            limit = int(content.get("max_workers", 0 if name == head else most))
            amounts = {kind: float(amount) for kind, amount in (content.get("resources") or {}).items()}
            if limit > 0 and amounts.get("CPU", 0.0) > 0:  # it can hold a trial
                types.append(NodeType(str(name), amounts, limit))
        return Autoscaling(tuple(types), most)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


def describe_coming(coming: Sequence[NodeType]) -> str:
    """``its autoscaler may start up to 8 more (planned as 4 gpu_l4, 4 gpu_a10g)``, empty if nothing may come."""
    if not coming:
        return ""
    counts = Counter(each.name for each in coming)
    return (
        f"its autoscaler may start up to {len(coming)} more "
        f"(planned as {', '.join(f'{count} {name}' for name, count in counts.items())})"
    )


def _autoscalers() -> Iterator[tuple[str, Path]]:
    """Address of the control process and configuration of each autoscaler on this machine."""
    for process in load_psutil().process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if any(os.path.basename(part) == "monitor.py" for part in command[:4]):
            arguments = options_of(command)
            if {"--gcs-address", "--autoscaling-config"} <= set(arguments):
                yield arguments["--gcs-address"], Path(arguments["--autoscaling-config"])
