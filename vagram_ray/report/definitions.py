"""What a report shares with the sweep, imported when first used: those modules import PyTorch, which takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vagram_ray.sweep.results import TrialRecords


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


def format_value(value: Any) -> str:
    """A value of an axis as in labels (``sweep.cells``)."""
    from vagram_ray.sweep import cells

    return cells.format_value(value)


def canonical(values: Mapping[str, Any]) -> str:
    """A text that is equal for equal settings (``sweep.cells``)."""
    from vagram_ray.sweep import cells

    return cells.canonical(values)
