"""What can be told of the processes of this machine, and what those that this one starts can import."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def load_psutil() -> Any:
    """The module psutil, which Ray brings along."""
    import ray  # noqa: F401, I001
    import psutil

    return psutil


def options_of(command: Sequence[str]) -> dict[str, str]:
    """The arguments ``--NAME=VALUE`` of a command line, by ``--NAME``."""
    return dict(part.split("=", 1) for part in command if part.startswith("--") and "=" in part)


def import_path() -> str:
    """``PYTHONPATH`` for a process that imports what this one does, from the same places in the same order."""
    return os.pathsep.join(path for path in sys.path if path)


def children_of(pid: int) -> set[int]:
    """Processes that a process has started and that live, or none where the system does not tell (it is no Linux)."""
    children = set()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            children |= {int(child) for child in file.read_text().split()}
    return children
