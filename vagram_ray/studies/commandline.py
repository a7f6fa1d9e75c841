"""Common to the studies' commands: how a process is set up, and what is printed."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import click
import numpy as np

from vagram_ray.commands import InputError


def prepare_process() -> None:
    """One thread, which is the fastest at these sizes and gives the same numbers on every machine of a kind."""
    import torch

    from vagram_ray.core.allocator import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()


def require_matplotlib() -> None:
    """Say so before any work if there is nothing to draw with.

    Raises:
        InputError: Matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise InputError("The studies draw with Matplotlib, which is not installed: pip install matplotlib.") from error


def report_epoch(done: int, total: int, returns: np.ndarray) -> None:
    """One line on SAC's progress."""
    click.echo(f"SAC: epoch {done}/{total}, mean training return {np.mean(returns):,.0f}")


def report_end(output: Path) -> None:
    """The last line: where the results are and what they took."""
    click.echo(f"Figures and numbers: {output} ({time.process_time():,.0f} s of CPU time)")
