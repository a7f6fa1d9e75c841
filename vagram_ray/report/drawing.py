"""Common parts of all plots of a comparison: its panels, the style of its lines, and curves with bands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vagram_ray.records.seed_statistics import MIN_SEEDS
from vagram_ray.report.curves import CellCurves, Comparison, Panel
from vagram_ray.report.dashboard import metric_titles
from vagram_ray.report.figure_style import MUTED, LineStyle
from vagram_ray.report.statistics import iqm_band, on_common_steps
from vagram_ray.report.text import describe_panel
from vagram_ray.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Band = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""From returns (S, T) to a curve and the ends of a band around it, (T,) each."""


class BandCurve(NamedTuple):
    """A curve over environment steps with a band around it, (T,) each."""

    steps: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


def with_band(cell: CellCurves, band: Band) -> BandCurve:
    """A cell's curve and band by a statistic of its returns (S, T)."""
    steps, returns = on_common_steps(cell)
    return BandCurve(steps, *band(returns))


@dataclass(frozen=True)
class Drawing:
    """Common parts of all plots of a comparison."""

    comparison: Comparison
    panels: tuple[Panel, ...]
    styles: Mapping[str, LineStyle]

    def style(self, cell: CellCurves) -> LineStyle:
        """How a cell's line looks."""
        return self.styles[self.comparison.line_name(cell)]

    def title(self, panel: Panel) -> str:
        """The panel's title in words."""
        return describe_panel(self.comparison, *panel.cells).removeprefix("With ") or panel.title

    def band_color(self, cell: CellCurves) -> str:
        """The color of a cell's intervals: grey where the seeds are too few for one that could be trusted."""
        return self.style(cell).color if len(cell.seeds) >= MIN_SEEDS else MUTED

    @property
    def few_seeds_note(self) -> str:
        """A sentence for captions where intervals are grey."""
        few = any(len(cell.seeds) < MIN_SEEDS for cell in self.comparison.cells)
        return f" Intervals of fewer than {MIN_SEEDS} seeds are grey: they are too narrow." if few else ""

    @cached_property
    def iqm_bands(self) -> dict[str, BandCurve]:
        """The interquartile mean of every cell that has returns, with its band, by label."""
        cells = {cell.label: cell for panel in self.panels for cell in panel.cells if cell.returns}
        return {label: with_band(cell, iqm_band) for label, cell in cells.items()}

    @property
    def lines(self) -> tuple[LineStyle, ...]:
        """All lines, for the legend."""
        return tuple(self.styles.values())

    @property
    def same_scale(self) -> bool:
        """Whether returns of all panels may share an axis: not where the panels are different environments."""
        return not any(axis.partition(".")[0] == "env" for axis in self.comparison.panel_axes)

    @property
    def return_name(self) -> str:
        """The return metric as an axis label."""
        return readable_metric(self.comparison.return_metric)


def readable_metric(metric: str) -> str:
    """A metric in words: ``episode return`` for ``eval/episode_return``."""
    if metric.endswith("/episode_return"):
        return "episode return"
    return metric_titles().get(metric) or metric.replace("/", ": ").replace("_", " ")


def why_empty(cells: Sequence[CellCurves], what: str = "") -> str:
    """Why a panel has nothing to show: ``not reported yet (8 seeds)``, or that nothing measured the metric."""
    if what:
        return f"none of these cells measured it:\n{what}"
    reasons = Counter(reason for cell in cells for reason in cell.missing.values())
    if not reasons:
        return "no evaluation has been recorded"
    reason, count = reasons.most_common(1)[0]
    return f"no return yet: {plural(count, 'seed')}\n{reason}"


def note(axes: Axes, text: str) -> None:
    """A remark in the middle of a panel that has nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
