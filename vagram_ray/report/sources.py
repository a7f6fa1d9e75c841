"""One source of curves, however it was written: what every reader returns and every merge takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vagram_ray.report.curves import CellCurves, ExperimentFacts, SeedCurve

UNKNOWN: Any = object()
"""Returned by ``Source.lookup`` for a setting that the source does not record."""
NOT_APPLICABLE: Any = object()
"""Returned for a setting that has no meaning for the cell, such as the size of a model that it does not have."""
FINAL_SHARE_OF_STEPS = 0.1
"""Share of the planned steps, at the end, over whose values a final return is the mean where there are no epochs."""


def _unknown(cell: CellCurves, axis: str) -> Any:
    return UNKNOWN


def _own(cell: CellCurves) -> str | None:
    return None


@dataclass(frozen=True)
class Source:
    """The cells of one experiment."""

    facts: ExperimentFacts
    cells: tuple[CellCurves, ...]
    return_metric: str
    setting: Callable[[CellCurves], str | None] = _own
    """A text that two cells share when they were run in the same way, so that their seeds may be joined. None if that
    cannot be told."""
    lookup: Callable[[CellCurves, str], Any] = _unknown
    """A setting of a cell that is not one of its axes, by the axis's name, or ``UNKNOWN`` or ``NOT_APPLICABLE``."""
    named: bool = False
    """Whether the experiment's name was given on purpose, so that another source of that name is the same one."""


def final_returns_by_steps(
    returns: Mapping[int, SeedCurve], missing: Mapping[int, str], planned_env_steps: int
) -> tuple[dict[int, float], dict[int, str]]:
    """Final returns and missing seeds where a source knows steps but no epochs.

    The final return of a seed is the mean of its values in the last tenth of the planned steps, beyond
    ``0.9 * planned_env_steps`` (or at the last step). A seed without a value there is missing.

    Args:
        returns: Curve by seed.
        missing: Why a seed does not count, where that is known already.
        planned_env_steps: Steps to the end.
    """
    final: dict[int, float] = {}
    reasons = dict(missing)
    for seed, curve in returns.items():
        if seed in reasons:
            continue
        last = curve.values[
            curve.env_steps > min((1 - FINAL_SHARE_OF_STEPS) * planned_env_steps, planned_env_steps - 1)
        ]
        if len(last):
            final[seed] = float(last.mean())
        else:
            reasons[seed] = f"ends at env step {curve.env_steps[-1]:,} of {planned_env_steps:,}"
    return final, reasons
