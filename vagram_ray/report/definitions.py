"""What a report shares with the sweep. Modules that import PyTorch, which takes seconds, are imported on first use."""

from __future__ import annotations

from collections.abc import Sequence

from vagram_ray.sweep.cells import canonical, format_value
from vagram_ray.sweep.results import TrialRecords

__all__ = ["canonical", "final_return", "final_window", "format_seeds", "format_value"]


def final_return(trial: TrialRecords, seed: int, metric: str, epochs: int) -> tuple[float, str]:
    """A seed's final return and an empty text, or NaN and why it does not count (``sweep.summary``)."""
    from vagram_ray.sweep import summary

    return summary.final_return(trial, seed, metric, epochs)


def final_window(epochs: int) -> int:
    """Number of epochs, at the end, that a final return is taken from (``sweep.summary``)."""
    from vagram_ray.sweep import summary

    return summary.final_window(epochs)


def format_seeds(seeds: Sequence[int]) -> str:
    """``0-3`` or ``0,2,7`` (``sweep.plan``)."""
    from vagram_ray.sweep import plan

    return plan.format_seeds(sorted(seeds))
