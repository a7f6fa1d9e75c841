"""A cell of a sweep among the others: its final returns, and its settings as options of a command."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vagram_ray.records.seed_statistics import SeedStatistics
from vagram_ray.text import format_number


@dataclass(frozen=True)
class RankedCell:
    """A cell of a sweep with its final returns."""

    index: int
    label: str
    axes: Mapping[str, Any]
    returns: Mapping[int, float]
    """By seed, of those that have one."""
    statistics: SeedStatistics
    """Over the seeds that count."""
    epochs: int
    """The last epoch of its trials: that of the sweep, or an earlier one where a scheduler stopped one."""

    @property
    def order(self) -> float:
        """What it is ranked by: the interquartile mean, minus infinity without one."""
        return -math.inf if math.isnan(self.statistics.iqm) else self.statistics.iqm

    @property
    def set_options(self) -> str:
        """Its settings as options of the sweep's command: ``--set model_lr=0.001 --set utd_ratio=10``."""
        return " ".join(f"--set {shlex.quote(f'{axis}={_literal(value)}')}" for axis, value in self.axes.items())

    def __str__(self) -> str:
        """The cell and its interquartile mean with the 95 % interval, ``label: -144 [-177, -120]``."""
        own = self.statistics
        interval = "" if math.isnan(own.low) else f" [{format_number(own.low)}, {format_number(own.high)}]"
        return f"{self.label}: {format_number(own.iqm)}{interval}"


def _literal(value: Any) -> str:
    """A value as ``--set`` reads it: a text as it is, unless it looks like a number."""
    if not isinstance(value, str):
        return repr(value)
    return value if re.fullmatch(r"[A-Za-z][\w.+-]*", value) and value not in ("True", "False", "None") else repr(value)
