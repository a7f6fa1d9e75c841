"""Whether all nodes of a cluster see the directory to which a sweep's results go, asked before the first trial.

Tune saves a trial's checkpoints from the machine on which the trial runs. Where the directory is not the driver's, it
finds that out at the first checkpoint, in every trial.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vagram_ray.records.recorded import CPU, GPU
from vagram_ray.sweep.plan.content import trial_resources
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage

if TYPE_CHECKING:
    from vagram_ray.sweep.plan.plan import SweepPlan

ANSWER_WITHIN_S = 30.0
"""For all nodes together: a process may have to be started on each."""
_PATIENCE_S = 3.0
_SHOWN = 3


def shared_by_all(storage: SweepStorage, plan: SweepPlan, limit_s: float = ANSWER_WITHIN_S) -> bool:
    """Whether every other node that can run trials of the plan has been asked and sees the sweep's folder.

    False where there is no other node, or one of them did not answer in time. Ray has to be connected, and the folder,
    which is a directory, to be there.

    Raises:
        SweepError: A node does not see the folder, or it cannot be written.
    """
    kinds = [CPU, GPU] if all(trial_resources(plan, trial)[GPU] for trial in plan.trials) else [CPU]
    addresses = other_nodes(kinds)
    if not addresses:
        return False
    with _token(storage) as token:
        seen = ask_nodes(list(addresses), token, limit_s)
    return all_see_folder(addresses, seen, storage)


def other_nodes(kinds: Sequence[str]) -> dict[str, str]:
    """Addresses of the living nodes with these resources, without the one that this process is on, by their id.

    Empty through Ray's client, where this process is on none.
    """
    import ray
    from ray.util.client import ray as client

    if client.is_connected():
        return {}
    here = ray.get_runtime_context().get_node_id()
    return {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here and all(node["Resources"].get(kind) for kind in kinds)
    }


def ask_nodes(nodes: Sequence[str], token: Path, limit_s: float) -> dict[str, bool]:
    """Whether each of the nodes sees the file, without those that did not answer in ``limit_s`` seconds."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(is_file_soon)
    asked = {
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(str(token)): node
        for node in nodes
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=limit_s)
    for reference in silent:
        ray.cancel(reference, force=True)
    answers = {}
    for reference in answered:
        with contextlib.suppress(Exception):  # the node has gone, or its process did not come up: it said nothing
            answers[asked[reference]] = bool(ray.get(reference))
    return answers


def all_see_folder(addresses: Mapping[str, str], seen: Mapping[str, bool], storage: SweepStorage) -> bool:
    """Whether all of these nodes have said that they see the folder.

    Raises:
        SweepError: One of them has said that it does not.
    """
    if blind := [address for node, address in addresses.items() if not seen.get(node, True)]:
        more = len(blind) - _SHOWN
        names = ", ".join(sorted(blind)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        nodes = f"the nodes {names} do" if len(blind) > 1 else f"the node {names} does"
        raise SweepError(
            f"Results go to the directory {storage.folder}, which {nodes} not see, so trials there could not save: "
            "give --storage s3://BUCKET/PATH or a directory that all nodes share."
        )
    return len(seen) == len(addresses)


def is_file_soon(token: str, patience_s: float = _PATIENCE_S) -> bool:
    """Whether the file is there, or comes within some seconds: network file systems may be a moment late."""
    until = time.monotonic() + patience_s
    while not Path(token).is_file():
        if time.monotonic() >= until:
            return False
        time.sleep(0.2)
    return True


@contextlib.contextmanager
def _token(storage: SweepStorage) -> Iterator[Path]:
    """A file in the sweep's folder that no other folder has."""
    token = storage.folder / f".shared-{secrets.token_hex(8)}"
    try:
        token.touch()
    except OSError as error:
        raise storage.not_writable(error) from error
    try:
        yield token
    finally:
        with contextlib.suppress(OSError):
            token.unlink()
