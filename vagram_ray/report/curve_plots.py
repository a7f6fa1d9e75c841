"""Plots over environment steps: learning curves, any metric, the dashboard, and every seed for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vagram_ray.records.seed_statistics import MIN_SEEDS
from vagram_ray.report.curves import CellCurves, Panel
from vagram_ray.report.dashboard import LinePanel, PanelSection, panel_sections
from vagram_ray.report.drawing import BandCurve, Drawing, note, readable_metric, why_empty, with_band
from vagram_ray.report.figure_files import PanelPlot, Plot
from vagram_ray.report.figure_style import ALARM, INK, MUTED, LineStyle, cell_styles, steps_axis
from vagram_ray.report.statistics import iqm_band, mean_and_standard_error
from vagram_ray.report.text import describe_panel
from vagram_ray.text import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAND_ALPHA = 0.18
_LOG_FROM, _ONE_TICK_FROM = 5.0, 300.0
"""Ratios of the highest to the lowest value: for a logarithmic axis, and for one labelled tick per decade."""


# -- learning curves ---------------------------------------------------------------------------------------------


def mean_curves(drawing: Drawing) -> Plot:
    """Mean over seeds with its standard error, as in the paper."""
    return _curves(
        drawing,
        "learning_curves_mean",
        "Learning curves: mean",
        f"Mean {drawing.return_name} over the seeds; the band is one standard error of the mean to either side."
        + _lost_note(drawing),
        "one standard error of the mean",
        lambda cell: with_band(cell, _mean_band),
    )


def iqm_curves(drawing: Drawing) -> Plot:
    """Interquartile mean over seeds with its bootstrap interval."""
    return _curves(
        drawing,
        "learning_curves_iqm",
        "Learning curves: interquartile mean",
        f"Interquartile mean (IQM) of the {drawing.return_name} over the seeds: the mean of the middle half, which one "
        "lucky or broken seed does not move. The band is the pointwise 95 % interval of the stratified bootstrap."
        + _lost_note(drawing),
        "95 % bootstrap interval of the IQM",
        lambda cell: drawing.iqm_bands[cell.label],
    )


def metric_curves(drawing: Drawing, metric: str) -> Plot:
    """Interquartile mean of any per-seed metric."""
    panels = tuple(
        Panel(panel.title, tuple(cell.of_metric(metric) for cell in panel.cells)) for panel in drawing.panels
    )
    name = "metric_" + "".join(letter if letter.isalnum() else "_" for letter in metric)
    title = readable_metric(metric)
    caption = f"Interquartile mean of {title} ({metric}) over the seeds with its pointwise 95 % bootstrap interval. "
    caption += "A seed that broke down is left out from there on."
    return _curves(
        replace(drawing, panels=panels),
        name,
        f"{title[0].upper()}{title[1:]}",
        caption,
        "95 % bootstrap interval of the IQM",
        lambda cell: with_band(cell, iqm_band),
        title,
        share=False,
    )


def dashboard(drawing: Drawing) -> list[Plot]:
    """A plot for each section of W&B's workspace: a panel for each metric, in it a line for each cell.

    Without a metric besides the return there is none: the learning curves show all that there is.
    """
    comparison = drawing.comparison
    if not any(cell.metrics for cell in comparison.cells):
        return []
    styles = cell_styles(comparison)
    return [_section(drawing, section, styles) for section in panel_sections(comparison)]


def _section(drawing: Drawing, section: PanelSection, styles: Mapping[str, LineStyle]) -> Plot:
    cells = drawing.comparison.cells
    measured = {
        panel.metric: [cell for cell in cells if _measured(drawing, cell, panel.metric)] for panel in section.panels
    }
    there = [label for label in styles if any(cell.label == label for own in measured.values() for cell in own)]
    spread = {panel.spread for panel in section.panels}
    band = "lowest and highest trial" if spread == {"minmax"} else "one standard error of the mean"
    return Plot(
        name=section.figure,
        title=section.title,
        caption=f"Mean over the {'trials' if spread == {'minmax'} else 'seeds'} of each cell; the band is {band}."
        + (_lost_note(drawing) if drawing.comparison.return_metric in measured else ""),
        band=band,
        panels=[_dashboard_panel(drawing, panel, measured[panel.metric], styles) for panel in section.panels],
        lines=[styles[label] for label in there],
    )


def _dashboard_panel(
    drawing: Drawing, panel: LinePanel, cells: Sequence[CellCurves], styles: Mapping[str, LineStyle]
) -> PanelPlot:
    band = _mean_and_ends if panel.spread == "minmax" else _mean_band
    curves = [(cell, with_band(_measured_in(drawing, cell, panel.metric), band)) for cell in cells]

    def draw(axes: Axes) -> None:
        for cell, curve in curves:
            few = len(cell.seeds) < MIN_SEEDS and panel.spread == "stderr"
            _draw_band(axes, styles[cell.label], curve, MUTED if few else styles[cell.label].color)
        _finish_curves(axes, Panel(panel.title, tuple(cells)), "")
        if panel.share:
            axes.set_ylim(-0.02, 1.02)
        elif panel.log_y and curves:
            _log_axis(axes, np.concatenate([curve.middle for _, curve in curves]))

    last = [f"{cell.label} {format_number(curve.middle[-1])}" for cell, curve in curves]
    return PanelPlot(panel.title, draw, f"Last values: {', '.join(last)}.", panel.says)


def _log_axis(axes: Axes, values: np.ndarray) -> None:
    """A logarithmic y axis, where values are positive and far enough apart to need one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = np.nanmin(values), np.nanmax(values)
    if not 0 < _LOG_FROM * low < high:
        return
    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > _ONE_TICK_FROM * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _measured(drawing: Drawing, cell: CellCurves, metric: str) -> bool:
    return bool(_measured_in(drawing, cell, metric).returns)


def _measured_in(drawing: Drawing, cell: CellCurves, metric: str) -> CellCurves:
    return cell if metric == drawing.comparison.return_metric else cell.of_metric(metric)


def _mean_and_ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lowest and highest (T,) of ``values`` (S, T); where none is there, NaN."""
    mean, _ = mean_and_standard_error(values)
    low = np.where(np.isnan(values), np.inf, values).min(axis=0)
    high = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    return mean, np.where(np.isnan(mean), np.nan, low), np.where(np.isnan(mean), np.nan, high)


def _curves(
    drawing: Drawing,
    name: str,
    title: str,
    caption: str,
    band: str,
    band_of: Callable[[CellCurves], BandCurve],
    label: str = "",
    *,
    share: bool = True,
) -> Plot:
    def panel_plot(panel: Panel) -> PanelPlot:
        cells = [cell for cell in panel.cells if cell.returns]
        curves = [(drawing.style(cell), band_of(cell)) for cell in cells]

        def draw(axes: Axes) -> None:
            for cell, (style, curve) in zip(cells, curves, strict=True):
                _draw_band(axes, style, curve, drawing.band_color(cell))
            _finish_curves(axes, panel, label or drawing.return_name)
            if not curves:
                note(axes, why_empty(panel.cells, label))

        last = [f"{line.label} {format_number(c.middle[-1])} at step {c.steps[-1]:,}" for line, c in curves]
        return PanelPlot(drawing.title(panel), draw, f"Last values: {', '.join(last)}." if last else "No values yet.")

    return Plot(
        name=name,
        title=title,
        caption=caption + _baseline_note(drawing) + drawing.few_seeds_note,
        band=band,
        panels=[panel_plot(panel) for panel in drawing.panels],
        lines=_lines_in(drawing),
        share_y=share and drawing.same_scale,
    )


def _mean_band(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, error = mean_and_standard_error(returns)
    return mean, mean - error, mean + error


def _draw_band(axes: Axes, style: LineStyle, curve: BandCurve, color: str) -> None:
    axes.fill_between(curve.steps, curve.low, curve.high, color=color, alpha=_BAND_ALPHA, linewidth=0)
    marker = "o" if len(curve.steps) == 1 else ""  # one measurement is no line
    axes.plot(curve.steps, curve.middle, marker=marker, markersize=4, **style.options)


def _finish_curves(axes: Axes, panel: Panel, label: str) -> None:
    steps_axis(axes)
    axes.set_ylabel(label)
    planned = [cell.planned_env_steps for cell in panel.cells if cell.planned_env_steps]
    measured = [int(curve.env_steps[-1]) for cell in panel.cells for curve in cell.returns.values()]
    axes.set_xlim(0, max(planned + measured, default=1))


def _lines_in(drawing: Drawing) -> tuple[LineStyle, ...]:
    """The lines that some panel has values for."""
    names = {drawing.style(cell).name for panel in drawing.panels for cell in panel.cells if cell.returns}
    return tuple(line for line in drawing.lines if line.name in names)


def _lost_note(drawing: Drawing) -> str:
    if not any(cell.lost for panel in drawing.panels for cell in panel.cells):
        return ""
    return " A seed that broke down or stopped counts as the worst of its cell from there on."


def _baseline_note(drawing: Drawing) -> str:
    return " Plain SAC, without a model, is dotted." if any(line.baseline for line in _lines_in(drawing)) else ""


# -- every seed --------------------------------------------------------------------------------------------------


def seed_curves(drawing: Drawing) -> Plot:
    """Every seed of every cell for itself, behind the interquartile mean of its cell."""

    def panel_plot(cell: CellCurves) -> PanelPlot:
        def draw(axes: Axes) -> None:
            for seed, curve in cell.returns.items():
                axes.plot(curve.env_steps, curve.values, color=drawing.style(cell).color, linewidth=0.8, alpha=0.6)
                if seed in cell.missing:
                    end = (curve.env_steps[-1], curve.values[-1])
                    axes.plot(*end, marker="x", markersize=5, color=ALARM)
                    axes.annotate(f" {seed}", end, fontsize=7.5, color=ALARM)
            if cell.returns:
                average = drawing.iqm_bands[cell.label]
                axes.plot(average.steps, average.middle, color=INK, linewidth=1.8)
            _finish_curves(axes, Panel("", (cell,)), drawing.return_name)
            if not cell.returns:
                note(axes, why_empty([cell]))

        words = [f"seed {seed} ends at {format_number(value)}" for seed, value in cell.final_returns.items()]
        words += [f"seed {seed} {reason}" for seed, reason in cell.missing.items()]
        where = describe_panel(drawing.comparison, cell).removeprefix("With ")
        title = ", ".join(filter(None, [where, drawing.style(cell).label]))
        return PanelPlot(title, draw, f"{', '.join(words)}." if words else "No seeds.")

    cells = dict.fromkeys(cell for panel in drawing.panels for cell in panel.cells)  # a reference is in several panels
    return Plot(
        name="seeds",
        title="Every seed",
        caption=f"The {drawing.return_name} of every seed over its environment steps, in black the interquartile mean "
        "of the cell. A seed that did not come to its end is marked with a cross and its number.",
        panels=[panel_plot(cell) for cell in cells],
        columns=max(len(panel.cells) for panel in drawing.panels) if len(drawing.panels) > 1 else 3,
        share_y=drawing.same_scale,
    )
