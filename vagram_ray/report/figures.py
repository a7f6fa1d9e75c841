"""All figures of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vagram_ray.commands import InputError
from vagram_ray.report import curve_plots, final_plots
from vagram_ray.report.curves import Comparison
from vagram_ray.report.drawing import Drawing
from vagram_ray.report.figure_files import Figure, Plot, save_plot
from vagram_ray.report.figure_style import line_styles
from vagram_ray.report.text import seeds_in_figures, task_lines

__all__ = ["Figure", "draw_figures"]


def draw_figures(
    comparison: Comparison,
    folder: Path,
    metrics: Sequence[str] = (),
) -> list[Figure]:
    """Draw every figure of a comparison, each as PNG and PDF in ``folder`` and as SVG panels for the page.

    Args:
        comparison: What to draw.
        folder: Where the files go. It is created.
        metrics: Further per-seed metrics, such as ``model/validation_loss``, each of which gets a figure.

    Raises:
        InputError: No cell has one of the metrics.
    """
    check_metrics(comparison, metrics)
    task = " | ".join([*task_lines(comparison), seeds_in_figures(comparison)])
    return [save_plot(plot, folder, task) for plot in plots_of(comparison, metrics)]


def check_metrics(comparison: Comparison, metrics: Sequence[str]) -> None:
    """Refuse metrics that no cell has.

    Raises:
        InputError: One sentence with the metrics that there are.
    """
    known = sorted({name for cell in comparison.cells for name in cell.metrics})
    for metric in metrics:
        if metric not in known:
            there = f"there are {', '.join(known)}" if known else "there are none besides the return"
            raise InputError(f"--metric {metric!r} is in none of the results; {there}.")


def plots_of(comparison: Comparison, metrics: Sequence[str] = ()) -> list[Plot]:
    """The plots of a comparison, in the order of the page. Arguments as of ``draw_figures``."""
    drawing = Drawing(comparison, tuple(comparison.panels()), line_styles(comparison))
    plots = [
        curve_plots.iqm_curves(drawing),
        curve_plots.mean_curves(drawing),
        final_plots.final_returns(drawing),
        final_plots.profiles(drawing),
        final_plots.improvement(drawing),
        *(curve_plots.metric_curves(drawing, metric) for metric in metrics),
        curve_plots.seed_curves(drawing),
        *curve_plots.dashboard(drawing),
    ]
    return [plot for plot in plots if plot is not None]
