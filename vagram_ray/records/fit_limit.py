"""The warning about model fits that end at their limit instead of by early stopping.

A loss that is cut short is held back, and a comparison of losses is then one of limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

FIT_LIMIT_METRIC = "model/fit_limit_reached"
"""Share of an epoch's fits of one seed that ended at ``model_max_epochs``."""
TOLERATED_SHARE = 0.05
"""Share of a cell's fits that may end at the limit without a warning."""


def shares_at_limit(records: Iterable[Mapping[str, Any]]) -> list[float]:
    """The metric of every seed that has not failed and every epoch in records, or none where they lack it."""
    rows = (values for record in records for values in record["seeds"].values() if not values.get("failed"))
    return [float(values[FIT_LIMIT_METRIC]) for values in rows if FIT_LIMIT_METRIC in values]


def fit_limit_warning(cell: str, shares: Iterable[float]) -> str:
    """One sentence where more than ``TOLERATED_SHARE`` of a cell's fits so far reached the limit, else empty.

    Args:
        cell: Label of the cell.
        shares: Shares of the fits of each of its seeds and epochs. Every epoch has as many fits.
    """
    values = list(shares)
    share = float(np.mean(values)) if values else 0.0
    if share <= TOLERATED_SHARE:
        return ""
    return (
        f"{cell}: {100 * share:.0f} % of the model fits so far ended at model_max_epochs before early stopping did: "
        "raise model_max_epochs, or remove it (None)."
    )
