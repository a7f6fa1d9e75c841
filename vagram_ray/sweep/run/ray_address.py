"""Which Ray a sweep uses: the one that is named, the cluster that this machine is a node of, or one of its own.

``ray start``, which also ``ray up`` calls on every machine, leaves the address of its cluster in a file. The file
outlives the cluster, may be another person's, and may by now be the address of a Ray that some other program has
started inside itself. So it counts only while a node of that cluster runs on this machine, started by this user with
``ray start``.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from dataclasses import dataclass
from typing import Any

from vagram_ray.ray_internals import address_of_last_start
from vagram_ray.sweep.processes import load_psutil, options_of
from vagram_ray.sweep.spec import SweepError

LOCAL = "local"
"""``--address local``: start a Ray in this process, whatever runs on this machine."""
CURRENT = "current"
"""The Ray that this process has connected to, or started, before it asked for a sweep."""
_ANSWERS_WITHIN_S = 10.0


@dataclass(frozen=True)
class RayPlace:
    """Which Ray is used."""

    address: str | None
    """None: one is started inside this process."""
    shown: str
    """For people, as a part of the plan."""


def find_ray(asked: str | None) -> RayPlace:
    """Where to run, given ``--address`` or ``RAY_ADDRESS``.

    Raises:
        SweepError: This machine is a node of a cluster that does not answer.
    """
    if asked == LOCAL:
        return RayPlace(None, "one of its own on this machine, as --address local says")
    if asked:
        return RayPlace(asked, f"the one at {asked}")
    own = "one of its own on this machine"
    address = address_of_last_start()
    if address is None:
        return RayPlace(None, own)
    if address not in own_clusters():
        return RayPlace(
            None,
            f"{own}; the cluster at {address} has ended, or is not yours: while it runs, --address {address} takes it",
        )
    if not _answers(address):
        raise SweepError(
            f"This machine is a node of the Ray cluster at {address}, which does not answer: end what is left of it "
            "with `ray stop`, or run on this machine alone with --address local."
        )
    shown = f"the cluster at {address} (this machine is a node of it; --address local starts one here)"
    return RayPlace(address, shown)


def current_ray() -> RayPlace | None:
    """The Ray that this process has started or connected to, if it has: a script's or a notebook's."""
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return RayPlace(CURRENT, "the one that this process is connected to")
    return None


def own_clusters() -> list[str]:
    """Addresses of the clusters of this user's nodes on this machine, one for each that ``ray start`` began."""
    psutil = load_psutil()
    user, addresses = psutil.Process().username(), []
    for process in psutil.process_iter(["cmdline", "username", "ppid"]):
        command = process.info["cmdline"] or []
        if command and os.path.basename(command[0]) in ("raylet", "raylet.exe") and process.info["username"] == user:
            arguments = options_of(command)
            if not _is_embedded(arguments, process.info["ppid"], psutil):
                addresses.append(arguments.get("--gcs-address", ""))
    return addresses


def _is_embedded(arguments: dict[str, str], parent: int, psutil: Any) -> bool:
    """Whether the program that began the session is still the node's parent, and is not ``ray start --block``."""
    starter = re.fullmatch(r"session_.*_([0-9]+)", arguments.get("--session-name", ""))
    if starter is None or int(starter[1]) != parent:
        return False
    with contextlib.suppress(psutil.Error):
        return "start" not in psutil.Process(parent).cmdline()
    return False


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except (OSError, ValueError):
        return False
    return True
