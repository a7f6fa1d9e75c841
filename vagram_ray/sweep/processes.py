"""What can be told of the processes of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def load_psutil() -> Any:
    """The module psutil, which Ray brings along."""
    import ray  # noqa: F401, I001
    import psutil

    return psutil


def options_of(command: Sequence[str]) -> dict[str, str]:
    """The arguments ``--NAME=VALUE`` of a command line, by ``--NAME``."""
    return dict(part.split("=", 1) for part in command if part.startswith("--") and "=" in part)
