"""The launches of a sweep in ``sweep.json``: each run of its command, when, on what, how long, and how it ended.

What stands at the top of the file beside the plan (``command``, ``git_commit``, ``versions``, ``machine``, ``wandb``)
is of the newest launch. ``started`` is of the first. ``wall_time_s`` (summed over the launches), ``interrupted`` and
``failed_trials`` are there from the end of a launch to the begin of the next, so that readers can tell a sweep that
has ended from one that is running.
"""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.recorded import RecordedSweep

COMPLETE, INCOMPLETE, INTERRUPTED, KILLED = "complete", "incomplete", "interrupted", "killed"
"""How a launch ended."""


def begin_launch(
    folder: SweepFolder,
    content: Mapping[str, Any],
    sweep_id: str,
    details: Mapping[str, Any],
    *,
    recorded: RecordedSweep | None = None,
    storage: str | None = None,
) -> None:
    """Write ``sweep.json`` at the begin of a launch.

    Args:
        folder: The driver's folder.
        content: The whole sweep as plain data (``vagram_ray.sweep.plan.content``).
        sweep_id: The sweep's own id, the same for all its launches.
        details: What is known of this launch: command, started, commit, versions, machine, W&B.
        recorded: What earlier launches have left, if there were any.
        storage: URI of the trials' folders, if they lie elsewhere.
    """
    before = close_launches(folder, recorded.launches) if recorded else []
    launch = {**details, "host": socket.gethostname(), "pid": os.getpid()}
    started = before[0].get("started", details.get("started")) if before else details.get("started")
    identity = {"sweep_id": sweep_id, "storage": storage, **details, "started": started}
    folder.write({**content, **identity, "launches": [*before, launch]})


def end_launch(
    folder: SweepFolder, seconds: float | None, ended: str, failed: Mapping[str, str], stopped_by: str = ""
) -> None:
    """Note the end of the newest launch.

    Args:
        folder: The driver's folder.
        seconds: Wall time of this launch. ``None``: nothing was run, so the newest launch is an earlier one.
        ended: How it ended.
        failed: Error files of the trials that failed, by name.
        stopped_by: The stopper that ended the whole sweep, empty where none did.
    """

    def with_end(content: Mapping[str, Any]) -> dict[str, Any]:
        launches = list(content.get("launches", ()))
        if seconds is None:
            launches = close_launches(folder, launches)
        elif launches:
            launches[-1] = {**launches[-1], "wall_time_s": round(seconds, 1), "ended": ended}
        return {
            "launches": launches,
            "wall_time_s": total_seconds(launches, seconds or 0.0),
            "interrupted": ended == INTERRUPTED,
            "failed_trials": dict(failed),
            **({"stopped_by": stopped_by} if stopped_by else {}),
        }

    folder.update(with_end)


def close_launches(folder: SweepFolder, launches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The launches, with an end for one whose process was killed: it lasted at least until its last record."""
    closed = [dict(launch) for launch in launches]
    if closed and "ended" not in closed[-1]:
        files = [folder.file, *folder.records_files()]
        last = max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)
        seconds = max(0.0, last - started_at(closed[-1], default=last))
        closed[-1] |= {"wall_time_s": round(seconds, 1), "ended": KILLED}
    return closed


def total_seconds(launches: Sequence[Mapping[str, Any]], default: float = 0.0) -> float:
    """Wall time of all launches together, or ``default`` where there are none."""
    return round(sum(launch.get("wall_time_s") or 0.0 for launch in launches), 1) if launches else default


def going_on_command(launches: Sequence[Mapping[str, Any]]) -> str:
    """The command that goes on with a sweep: that of its newest launch, which shall not set the sweep aside."""
    command = (launches[-1].get("command") if launches else None) or ""
    if "--restart" not in command:
        return str(command)
    try:
        return shlex.join(part for part in shlex.split(command) if part != "--restart")
    except ValueError:  # not as a sweep writes it
        return command


def started_at(launch: Mapping[str, Any], default: float) -> float:
    """Begin of a launch in seconds since the epoch."""
    try:
        return datetime.fromisoformat(launch["started"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return default


def now() -> str:
    """The time as ``sweep.json`` has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
