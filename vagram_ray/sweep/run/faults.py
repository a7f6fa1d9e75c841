"""Failures of trials: the cause, whether the trial starts again, and what people are told.

A trial is started again as long as it gets on: it has failed for good after ``MAX_FAILURES`` failures in a row
without a new epoch. Nodes that are taken away count less, for they say nothing about the trial. A trial that was out
of memory before its first epoch is not started again as it is: the sweep runs its seeds in smaller packs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vagram_ray.records.folder import ERROR_FILE

MAX_FAILURES = 3
MAX_LOST_NODES = 10
"""Failures in a row, without a new epoch in between, after which a trial is given up."""

STEP_LIMIT = "an environment step exceeded its time limit"
OUT_OF_MEMORY = "out of memory"
NODE_LOST = "the node that it ran on is gone"
NO_ANSWER = "its process cannot be reached: its node is gone or cut off"
PROCESS_DIED = "its process died"

_MEMORY_ERRORS = re.compile(
    r"^(?:[\w.]+\.)?(?:OutOfMemoryError|MemoryError|_ArrayMemoryError)\b"
    r"|CUDA out of memory|DefaultCPUAllocator: can't allocate memory|DefaultCPUAllocator: not enough memory"
    r"|std::bad_alloc|CUBLAS_STATUS_ALLOC_FAILED|Worker exit type: NODE_OUT_OF_MEMORY",
    re.MULTILINE,
)
_NODE_ERRORS = re.compile(r"node has died|node was terminated|node died|node failure|NODE_DIED", re.IGNORECASE)
_EXCEPTION_LINE = re.compile(r"^(?:[A-Za-z_][\w.]*)(?:Error|Exception|Interrupt|Exit|Warning)\b(?::.*)?$", re.MULTILINE)
_STEP_LIMIT_LINE = "environment step exceeded its time limit"


@dataclass(frozen=True)
class Fault:
    """One failure of a trial."""

    reason: str
    """Why, short enough to stand in a line."""
    text: str
    """All that is known."""
    out_of_memory: bool = False
    node_lost: bool = False


def diagnose(error: BaseException, stderr: str = "", *, killed_for_memory: bool = False) -> Fault:
    """Why a trial failed.

    Args:
        error: What Ray raised in its place.
        stderr: The end of what the trial wrote there, as far as it is known.
        killed_for_memory: Whether the kernel has killed a process for memory meanwhile.
    """
    text = str(error)
    silent = "ActorUnavailableError" in type(error).__name__  # what is heard first of a node that is lost
    process_died = silent or ("ActorDiedError" in type(error).__name__ and "creation task" not in text)
    if type(error).__name__ == "OutOfMemoryError" or _MEMORY_ERRORS.search(text):
        return Fault(_memory_reason(text), text, out_of_memory=True)
    if process_died and _STEP_LIMIT_LINE in stderr:
        return Fault(STEP_LIMIT, text)
    if process_died and _NODE_ERRORS.search(text):
        return Fault(NODE_LOST, text, node_lost=True)
    if process_died and killed_for_memory:
        return Fault(f"{OUT_OF_MEMORY}: the system killed its process", text, out_of_memory=True)
    if silent:
        return Fault(NO_ANSWER, text, node_lost=True)
    if process_died:
        return Fault(PROCESS_DIED, text)
    lines = _EXCEPTION_LINE.findall(text)
    return Fault(" ".join((lines[-1] if lines else text.strip().rpartition("\n")[2]).split()), text)


def _memory_reason(text: str) -> str:
    lines = [line for line in text.splitlines() if _MEMORY_ERRORS.search(line)]
    detail = " ".join(lines[-1].split()) if lines else ""
    return f"{OUT_OF_MEMORY} ({detail[:200]})" if detail else OUT_OF_MEMORY


@dataclass
class _History:
    """Of one trial."""

    best_epoch: int = 0
    failures: int = 0
    """In a row, since there was a new epoch last."""
    lost_nodes: int = 0
    total: int = 0
    last: Fault | None = None


class Faults:
    """The failures of a sweep's trials.

    Args:
        folder: The sweep's folder. What is known of a failure is appended to ``TRIAL/error.txt`` there.
        memory_kills: Counts the processes that the kernel has killed for memory on this machine.
    """

    def __init__(self, folder: Path, memory_kills: Callable[[], int] | None = None) -> None:
        self.folder = folder
        self._count_kills = memory_kills or kernel_memory_kills
        self._kills_seen = self._count_kills()
        self._histories: dict[str, _History] = {}

    @property
    def happened(self) -> bool:
        """Whether any trial has failed at any time."""
        return any(history.total for history in self._histories.values())

    def progressed(self, name: str, epoch: int) -> None:
        """A trial has reported an epoch. One that it had reported before is repeated after a restart: no progress."""
        history = self._history(name)
        if epoch > history.best_epoch:
            history.best_epoch = epoch
            history.failures = history.lost_nodes = 0

    def failed(self, name: str, error: BaseException, stderr: str = "") -> bool:
        """A trial has failed. Returns whether to start it again as it is."""
        kills = self._count_kills()
        fault = diagnose(error, stderr, killed_for_memory=kills > self._kills_seen)
        self._kills_seen = kills
        history = self._history(name)
        history.last, history.total = fault, history.total + 1
        if fault.node_lost or getattr(error, "preempted", False):
            history.lost_nodes += 1
        else:
            history.failures += 1
        when = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
        text = fault.text.rstrip()
        last = "" if text.endswith(f"\n{fault.reason}") else f"{fault.reason}\n"
        self._note(name, f"Failure {history.total} ({when})\n{text}\n{last}")
        if self.too_large(name):
            return False
        return history.failures < MAX_FAILURES and history.lost_nodes < MAX_LOST_NODES

    def too_large(self, name: str) -> bool:
        """Whether a trial was out of memory when it failed last: before its first epoch, or again and again."""
        history = self._history(name)
        at_start = history.best_epoch == 0
        return bool(history.last and history.last.out_of_memory and (at_start or history.failures >= MAX_FAILURES))

    def forget(self, name: str) -> None:
        """A trial gets another chance."""
        self._histories.pop(name, None)

    def conclude(self, name: str, sentence: str) -> None:
        """Say in one sentence why a trial cannot be run, as the last line about it."""
        history = self._history(name)
        history.last = Fault(sentence, sentence, out_of_memory=True)
        self._note(name, sentence + "\n")

    def reason(self, name: str) -> str:
        """Why a trial failed last, empty if it has not."""
        last = self._history(name).last
        return last.reason if last else ""

    def error_path(self, name: str) -> str:
        """The file that tells of a trial's failures."""
        return str(self.folder / name / ERROR_FILE)

    def _history(self, name: str) -> _History:
        return self._histories.setdefault(name, _History())

    def _note(self, name: str, text: str) -> None:
        path = self.folder / name / ERROR_FILE
        with contextlib.suppress(OSError):  # a full disk: the reason is shown all the same
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(text)


def kernel_memory_kills() -> int:
    """How many processes the kernel has killed for memory on this machine or in this container, as far as it tells."""
    kills = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(path).read_text().splitlines():
                if line.startswith("oom_kill "):
                    kills += int(line.split()[1])
    return kills


def describe_memory(needed_bytes: Any, machine_bytes: int | None) -> str:
    """``About 600 MiB were expected to be needed; the machine has 24 GiB``, as far as it is known."""
    from vagram_ray.text import format_bytes

    parts = []
    if needed_bytes:
        parts.append(f"about {format_bytes(needed_bytes)} were expected to be needed")
    if machine_bytes:
        parts.append(f"the machine has {format_bytes(machine_bytes)}")
    return ", ".join(parts)
