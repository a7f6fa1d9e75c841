"""Figures of a search: return against each hyperparameter, parallel coordinates, importance, curves by rank."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vagram_ray.report.curves import CellCurves
from vagram_ray.report.drawing import note, readable_metric
from vagram_ray.report.figure_files import PanelPlot, Plot
from vagram_ray.report.figure_style import INK, MUTED, PALETTE, LineStyle, steps_axis
from vagram_ray.report.search import Scale, Search, scales
from vagram_ray.report.search_importance import Importance
from vagram_ray.report.statistics import iqm_curve
from vagram_ray.text import format_number, format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW_VALUES = 5
"""As many different values have ticks of their own."""
BEST, GOOD, OTHERS = PALETTE[1][0], PALETTE[0][0], MUTED
_LINES = (
    LineStyle("the best sample", BEST, width=2.2),
    LineStyle("best quarter", GOOD, width=1.5),
    LineStyle("the others", OTHERS, width=1.0),
)


def plots_of_search(search: Search, importance: Importance) -> list[Plot]:
    """The plots, in the order of the page."""
    plots = [_against_each(search), _parallel(search), *([_bars(importance)] if importance.values else [])]
    return [*plots, _curves(search)]


def _rank_style(search: Search) -> dict[CellCurves, LineStyle]:
    """How each sample is drawn, by its place among those that have a return."""
    good = max(2, math.ceil(len(search.measured) / 4))
    return {
        sample: _LINES[0] if place == 0 else _LINES[1] if place < good else _LINES[2]
        for place, sample in enumerate(search.measured)
    }


def _against_each(search: Search) -> Plot:
    panels = [
        PanelPlot(
            scale.name, partial(_scatter, search=search, scale=scale), f"Return of each sample against {scale.name}"
        )
        for scale in scales(search)
    ]
    return Plot(
        "return_by_hyperparameter",
        "Return against each hyperparameter",
        "A point per sample with the 95 % interval over its seeds. Hollow: stopped early, with its return then.",
        panels,
        lines=_LINES,
        share_y=True,
    )  # fmt: skip


def _scatter(axes: Axes, *, search: Search, scale: Scale) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    styles = _rank_style(search)
    for sample in reversed(search.measured):
        if scale.name not in sample.axes:
            continue
        x, own, color = scale.place(sample.axes[scale.name]), sample.statistics, styles[sample].color
        if not math.isnan(own.low):
            axes.plot([x, x], [own.low, own.high], color=color, linewidth=0.9, alpha=0.6)
        face = "none" if sample.stopped else color
        axes.plot([x], [own.iqm], "o", markersize=4.5, markeredgecolor=color, markerfacecolor=face)
    if scale.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    found = [sample.axes[scale.name] for sample in search.measured if scale.name in sample.axes]
    if scale.words:
        axes.set_xticks(range(len(scale.words)), scale.words, rotation=20 if len("".join(scale.words)) > 24 else 0)
    elif len(values := sorted(set(found))) <= FEW_VALUES:
        axes.set_xticks(values, [format_value(value) for value in values])
    axes.set_xlabel(scale.name)
    axes.set_ylabel(readable_metric(search.comparison.return_metric))


def _parallel(search: Search) -> Plot:
    draw = partial(_draw_parallel, search=search)
    return Plot(
        "parallel_coordinates",
        "Parallel coordinates",
        "A line per sample through the values of its hyperparameters to its return. Dashed: stopped early.",
        [PanelPlot("", draw, "Settings of each sample and its return")],
        lines=_LINES,
        size=(7.4, 3.0),
    )


def _draw_parallel(axes: Axes, *, search: Search) -> None:
    own, styles = scales(search), _rank_style(search)
    samples = [sample for sample in search.measured if all(scale.name in sample.axes for scale in own)]
    if not samples:
        note(axes, "no sample has a return yet")
        return
    columns = [[scale.linear(sample.axes[scale.name]) for sample in samples] for scale in own]
    columns.append([sample.statistics.iqm for sample in samples])
    table = np.array(columns)
    low, high = table.min(axis=1, keepdims=True), table.max(axis=1, keepdims=True)
    places = np.where(high > low, (table - low) / np.where(high > low, high - low, 1.0), 0.5)
    for number in reversed(range(len(samples))):
        style, dashed = styles[samples[number]], "--" if samples[number].stopped else "-"
        axes.plot(places[:, number], color=style.color, linewidth=style.width, linestyle=dashed, alpha=0.85)
    names = [scale.name for scale in own] + [readable_metric(search.comparison.return_metric)]
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks([])
    axes.set_ylim(-0.16, 1.16)
    axes.grid(visible=False)
    for column, ends in enumerate(zip(low[:, 0], high[:, 0], strict=True)):
        axes.axvline(column, color=MUTED, linewidth=0.8, zorder=0)
        for place, value, side in zip((-0.06, 1.06), ends, ("top", "bottom"), strict=True):
            text = _end_text(own[column], value) if column < len(own) else format_number(float(value))
            axes.text(column, place, text, ha="center", va=side, color=INK, fontsize=8)


def _end_text(scale: Scale, value: float) -> str:
    if scale.words:
        return scale.words[round(value)]
    return f"{10**value if scale.logarithmic else value:.3g}"


def _bars(importance: Importance) -> Plot:
    return Plot(
        "importance",
        "Importance of each hyperparameter",
        importance.note,
        [PanelPlot("", partial(_draw_bars, importance=importance), "Importance of each hyperparameter")],
        size=(7.4, 0.9 + 0.32 * len(importance.values)),
    )


def _draw_bars(axes: Axes, *, importance: Importance) -> None:
    names = list(importance.values)[::-1]
    means = [importance.values[name][0] for name in names]
    errors = [importance.values[name][1] for name in names]
    axes.barh(range(len(names)), means, xerr=errors, color=GOOD, ecolor=MUTED, height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("loss of explained variance")
    axes.set_xlim(left=min(0.0, *means))
    axes.grid(axis="y", visible=False)


def _curves(search: Search) -> Plot:
    return Plot(
        "curves_by_rank",
        "Learning curves by rank",
        "The interquartile mean over the seeds of each sample. A curve that ends early was stopped there.",
        [PanelPlot("", partial(_draw_curves, search=search), "Learning curves of all samples, the best ones in color")],
        lines=_LINES,
        size=(7.4, 3.2),
    )


def _draw_curves(axes: Axes, *, search: Search) -> None:
    styles = _rank_style(search)
    drawn = [sample for sample in search.measured if sample.returns]
    if not drawn:
        note(axes, "no sample has a return yet")
        return
    for sample in reversed(drawn):
        _draw_curve(axes, sample, styles[sample])
    steps_axis(axes)
    axes.set_ylabel(readable_metric(search.comparison.return_metric))


def _draw_curve(axes: Axes, sample: CellCurves, style: LineStyle) -> None:
    steps, values = iqm_curve(sample)
    axes.plot(steps, values, color=style.color, linewidth=style.width, alpha=0.9)
    if sample.stopped:
        axes.plot(steps[-1:], values[-1:], "x", color=style.color, markersize=4)
