"""One source of curves, however it was written: what every reader returns and every merge takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vagram_ray.report.curves import CellCurves, ExperimentFacts

UNKNOWN: Any = object()
"""Returned by ``Source.lookup`` for a setting that the source does not record."""
NOT_APPLICABLE: Any = object()
"""Returned for a setting that has no meaning for the cell, such as the size of a model that it does not have."""


@dataclass(frozen=True)
class Source:
    """The cells of one experiment."""

    facts: ExperimentFacts
    cells: tuple[CellCurves, ...]
    return_metric: str
    setting: Callable[[CellCurves], str | None]
    """A text that two cells share when they were run in the same way, so that their seeds may be joined. None if that
    cannot be told."""
    lookup: Callable[[CellCurves, str], Any]
    """A setting of a cell that is not one of its axes, by the axis's name, or ``UNKNOWN`` or ``NOT_APPLICABLE``."""
    named: bool = False
    """Whether the experiment's name was given on purpose, so that another source of that name is the same one."""
