"""Plots of final returns: the returns themselves, performance profiles, and the probability of improvement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vagram_ray.records.intervals import Interval, format_interval
from vagram_ray.records.seed_statistics import MIN_SEEDS
from vagram_ray.report.comparisons import PairComparison, compare_pairs
from vagram_ray.report.curves import CellCurves, Panel
from vagram_ray.report.drawing import Drawing, note, why_empty
from vagram_ray.report.figure_files import PanelPlot, Plot
from vagram_ray.report.figure_style import ALARM, INK, MUTED, NICE_STEPS
from vagram_ray.report.statistics import performance_profile
from vagram_ray.text import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROFILE_POINTS = 201
MAX_LINES_FOR_ALL_PAIRS = 4
"""With more methods than this only pairs with the first one are drawn. The table has all of them."""
_ROW, _LETTER = 0.3, 0.075  # inches


def final_returns(drawing: Drawing) -> Plot:
    """Every seed's final return, and the interquartile mean with its interval."""
    longest = max(len(line.label) for line in drawing.lines)
    rows = max(len(panel.cells) for panel in drawing.panels)

    def panel_plot(panel: Panel) -> PanelPlot:
        statistics = [(cell, cell.statistics.interval) for cell in panel.cells]

        def draw(axes: Axes) -> None:
            for row, (cell, iqm) in enumerate(statistics):
                _draw_returns(axes, row, cell, iqm, (drawing.style(cell).color, drawing.band_color(cell)))
            labels = [drawing.style(cell).label for cell in panel.cells]
            _finish_rows(axes, labels, rows, f"final {drawing.return_name}")
            if not any(cell.final_returns for cell in panel.cells):
                note(axes, why_empty(panel.cells))

        words = [f"{drawing.style(cell).label} {format_interval(iqm)}" for cell, iqm in statistics]
        return PanelPlot(drawing.title(panel), draw, f"IQM: {', '.join(words)}.")

    return Plot(
        name="final_returns",
        title="Final returns",
        caption="Final return of every seed (dots), with the interquartile mean (bar) and its 95 % bootstrap interval. "
        "A lost seed counts as the worst of its cell and is a cross." + drawing.few_seeds_note,
        band="95 % bootstrap interval of the IQM",
        panels=[panel_plot(panel) for panel in drawing.panels],
        share_x=drawing.same_scale,
        size=_row_size(longest, rows),
    )


def _draw_returns(axes: Axes, row: int, cell: CellCurves, iqm: Interval, colors: tuple[str, str]) -> None:
    color, band_color = colors
    values = np.sort(list(cell.final_returns.values()))
    if not len(values):
        return
    if cell.worst:
        places = row + 0.26 * (np.arange(len(cell.worst)) % 3 - 1)
        axes.plot([values[0]] * len(places), places, "x", markersize=5, color=ALARM, zorder=3)
    # Neighbors in value lie apart in height, so that dots do not hide each other.
    heights = row + 0.26 * (np.arange(len(values)) % 3 - 1)
    axes.scatter(values, heights, s=13, color=color, alpha=0.55, linewidths=0, zorder=2)
    if not math.isnan(iqm.low):
        axes.plot([iqm.low, iqm.high], [row, row], color=band_color, linewidth=2.4, solid_capstyle="butt", zorder=3)
    axes.plot([iqm.value, iqm.value], [row - 0.34, row + 0.34], color=color, linewidth=2.4, zorder=4)


def profiles(drawing: Drawing) -> Plot:
    """Share of seeds that end above each return, in every panel."""
    every = [cell for panel in drawing.panels for cell in panel.cells]
    return Plot(
        name="performance_profiles",
        title="Performance profiles",
        caption="Share of the seeds whose final return is above \N{GREEK SMALL LETTER TAU}, for every level of it: a "
        "curve that lies above another one is better at every level. The band is the pointwise 95 % interval of the "
        f"bootstrap over seeds.{drawing.few_seeds_note}",
        band="95 % bootstrap interval",
        panels=[
            _profile_panel(drawing, panel, every if drawing.same_scale else panel.cells) for panel in drawing.panels
        ],
        lines=list(dict.fromkeys(drawing.style(cell) for cell in every if cell.final_returns)),
    )


def _profile_panel(drawing: Drawing, panel: Panel, in_range: Sequence[CellCurves]) -> PanelPlot:
    """The profiles of a panel's lines over the span of the final returns of ``in_range``."""
    cells = [cell for cell in panel.cells if cell.final_returns]
    scores = [score for cell in in_range for score in cell.scores.values()] or [0.0]
    span = max(scores) - min(scores) or 1.0
    taus = np.linspace(min(scores) - 0.03 * span, max(scores) + 0.03 * span, PROFILE_POINTS)
    curves = [(cell, drawing.style(cell), *performance_profile(cell, taus)) for cell in cells]

    def draw(axes: Axes) -> None:
        for cell, style, share, low, high in curves:
            axes.fill_between(taus, low, high, color=drawing.band_color(cell), alpha=0.15, linewidth=0, step="post")
            axes.step(taus, share, where="post", **style.options)
        axes.set_xlabel(f"final {drawing.return_name} \N{GREEK SMALL LETTER TAU}")
        axes.set_ylabel("share of seeds above \N{GREEK SMALL LETTER TAU}")
        axes.set_ylim(-0.02, 1.02)
        if not curves:
            note(axes, why_empty(panel.cells))

    medians = [f"{style.label} {_last_above(taus, share)}" for _, style, share, _, _ in curves]
    words = f"Half of the seeds end above: {', '.join(medians)}." if medians else "No seeds yet."
    return PanelPlot(drawing.title(panel), draw, words)


def _last_above(taus: np.ndarray, share: np.ndarray) -> str:
    return format_number(float(taus[np.flatnonzero(share >= 0.5)[-1]]))


def improvement(drawing: Drawing) -> Plot | None:
    """Probability that one method ends above another, for pairs inside each panel, or None if there is no pair."""
    by_panel: dict[str, list[PairComparison]] = {}
    for pair in _selected([pair for pair in compare_pairs(drawing.comparison) if pair.comparable]):
        by_panel.setdefault(pair.panel, []).append(pair)
    if not by_panel:
        return None
    words = {panel.title: drawing.title(panel) for panel in drawing.panels}
    longest = max(len(_pair_name(pair)) for pairs in by_panel.values() for pair in pairs)
    most = max(map(len, by_panel.values()))
    return Plot(
        name="probability_of_improvement",
        title="Probability of improvement",
        caption="Probability that the first method ends above the second (dot), on the same seed where they share "
        "seeds, with the 95 % bootstrap interval; 0.5 is a draw. Each row has the color of the method that is ahead."
        + drawing.few_seeds_note,
        band="95 % bootstrap interval",
        panels=[_improvement_panel(drawing, words.get(title, title), pairs, most) for title, pairs in by_panel.items()],
        size=_row_size(longest, most),
    )


def _improvement_panel(drawing: Drawing, title: str, pairs: Sequence[PairComparison], most: int) -> PanelPlot:
    def draw(axes: Axes) -> None:
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
        for place, pair in enumerate(pairs):
            value, low, high = pair.probability
            color = drawing.styles[pair.first_name if value >= 0.5 else pair.second_name].color
            if not math.isnan(low):
                band_color = color if pair.fewest_seeds >= MIN_SEEDS else MUTED
                axes.plot([low, high], [place, place], color=band_color, linewidth=2.4, solid_capstyle="butt")
            axes.plot(value, place, marker="o", markersize=6, color=color)
        _finish_rows(axes, list(map(_pair_name, pairs)), most, "probability")
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])

    return PanelPlot(title, draw, ", ".join(f"{_pair_name(pair)} {pair.probability.value:.2f}" for pair in pairs) + ".")


def _selected(pairs: Sequence[PairComparison]) -> list[PairComparison]:
    names = dict.fromkeys(name for pair in pairs for name in (pair.first_name, pair.second_name))
    if len(names) <= MAX_LINES_FOR_ALL_PAIRS:
        return list(pairs)
    return [pair for pair in pairs if pair.first_name == pairs[0].first_name]


def _pair_name(pair: PairComparison) -> str:
    return f"{pair.first_name} > {pair.second_name}"


# -- rows --------------------------------------------------------------------------------------------------------


def _finish_rows(axes: Axes, labels: Sequence[str], rows: int, x_label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.set_ylim(rows - 0.4, -0.6)  # the first row on top
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=NICE_STEPS))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(x_label)


def _row_size(longest: int, rows: int) -> tuple[float, float]:
    return 2.3 + _LETTER * longest, 0.84 + _ROW * rows
