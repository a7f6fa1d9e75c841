"""The studies' figures, the only module here that imports Matplotlib.

Figures are made as objects and drawn by Agg, so nothing depends on a screen or on pyplot's state. Colors are
Okabe and Ito's and perceptually uniform maps, which stay apart under the common color vision deficiencies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullFormatter

from vagram_ray.studies.changing_values import ErrorCurve
from vagram_ray.studies.pendulum_plane import Cut, LossPlane

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
STYLES: dict[str, dict[str, Any]] = {
    "itervaml": {"label": "VAML", "color": VERMILION, "linestyle": (0, (4, 1.5))},
    "mse": {"label": "MSE", "color": BLUE, "linestyle": (0, (1, 1))},
    "vagram": {"label": "VaGraM", "color": GREEN, "linestyle": "-"},
}
PARAMETERS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 8,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 150,
}
DECADES = 5
"""Powers of ten that a loss's color scale covers below its maximum."""


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in inches, in the studies' style."""
    with matplotlib.rc_context(PARAMETERS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``name.png`` and ``name.pdf``. The same figure gives the same bytes."""
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None}, dpi=200)


# -- Figure 1 ------------------------------------------------------------------------------------------------------


def draw_landscape(plane: LossPlane, folder: Path) -> None:
    """Value function and the three losses side by side: ``loss_landscape.png`` and ``.pdf``."""
    with new_figure(10.6, 2.75) as figure:
        axes = figure.subplots(1, 4, sharey=True)
        _value_panel(figure, axes[0], plane)
        _loss_panel(figure, axes[1], plane, "vaml", "VAML: $(V(s') - V(f))^2$", "value$^2$")
        _loss_panel(figure, axes[2], plane, "mse", r"MSE: $\|s' - f\|^2 / D$", "observation units$^2$")
        vagram = r"VaGraM: $D\;\Sigma_d\,(\partial_d V\,(s' - f)_d)^2$"
        _loss_panel(figure, axes[3], plane, "vagram", vagram, "value$^2$")
        axes[0].set_ylabel(r"$\dot\theta$ (rad/s)")
        save(figure, folder, "loss_landscape")


def draw_bound(plane: LossPlane, folder: Path) -> None:
    """The first-order loss, which VaGraM bounds, on plane and cuts: ``loss_bound.png`` and ``.pdf``."""
    with new_figure(10.6, 2.95) as figure:
        surface, along_theta, along_theta_dot = figure.subplots(1, 3, width_ratios=[1.0, 1.25, 1.25])
        _loss_panel(figure, surface, plane, "taylor", r"First order: $(\nabla V \cdot (s' - f))^2$", "value$^2$")
        surface.set_ylabel(r"$\dot\theta$ (rad/s)")
        _cut_panel(along_theta, plane.along_theta, plane.reference[0])
        along_theta.set_title(r"Cut through the reference along $\theta$")
        along_theta.set_ylabel("loss (value$^2$)")
        _angle_axis(along_theta, r"$\theta$ (rad)")
        along_theta_dot.sharey(along_theta)
        _cut_panel(along_theta_dot, plane.along_theta_dot, plane.reference[1])
        along_theta_dot.set_title(r"Cut through the reference along $\dot\theta$")
        along_theta_dot.set_xlabel(r"$\dot\theta$ (rad/s)")
        figure.legend(*along_theta.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
        save(figure, folder, "loss_bound")


def _value_panel(figure: Figure, axes: Axes, plane: LossPlane) -> None:
    filled = axes.contourf(plane.theta, plane.theta_dot, plane.value, levels=24, cmap="cividis")
    filled.set_rasterized(True)
    axes.contour(plane.theta, plane.theta_dot, plane.value, levels=8, colors="black", linewidths=0.4, alpha=0.6,
                 linestyles="solid")  # fmt: skip
    bar = figure.colorbar(filled, ax=axes, pad=0.02, aspect=28)
    bar.locator = matplotlib.ticker.MaxNLocator(6)
    bar.update_ticks()
    axes.set_title("Value function $V$")
    _plane_axes(axes, plane)


def _loss_panel(figure: Figure, axes: Axes, plane: LossPlane, name: str, title: str, unit: str) -> None:
    """Filled contours on a logarithmic scale, darker where the loss is larger, as in the paper."""
    loss = plane.losses[name]
    top = float(np.ceil(np.log10(loss.max()) * 3) / 3)
    levels = np.logspace(top - DECADES, top, 3 * DECADES + 1)
    shown = np.clip(loss, levels[0], levels[-1])
    filled = axes.contourf(plane.theta, plane.theta_dot, shown, levels=levels, norm=LogNorm(), cmap="viridis_r")
    filled.set_rasterized(True)
    axes.contour(plane.theta, plane.theta_dot, shown, levels=levels[1::3], colors="black", linewidths=0.4, alpha=0.6)
    bar = figure.colorbar(filled, ax=axes, pad=0.02, aspect=28, label=unit)
    bar.set_ticks([level for level in 10.0 ** np.arange(-12, 13) if levels[0] <= level <= levels[-1]])
    bar.minorticks_off()
    axes.set_title(title)
    _plane_axes(axes, plane)


def _plane_axes(axes: Axes, plane: LossPlane) -> None:
    cross: dict[str, Any] = {"markersize": 7, "zorder": 5, "clip_on": False}
    axes.plot(*plane.reference, "x", color="black", markeredgewidth=3.2, **cross)
    axes.plot(*plane.reference, "x", color="white", markeredgewidth=1.6, **cross)
    _angle_axis(axes, r"$\theta$ (rad), 0 is upright")
    axes.yaxis.set_major_locator(MultipleLocator(4))


def _angle_axis(axes: Axes, label: str) -> None:
    axes.set_xticks([-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi], ["$-\\pi$", "$-\\pi/2$", "0", "$\\pi/2$", "$\\pi$"])
    axes.set_xlabel(label)


def _cut_panel(axes: Axes, cut: Cut, reference: float) -> None:
    lines = {
        "vagram": ("VaGraM, the bound of eq. 7", GREEN, "-"),
        "taylor": ("first order", PURPLE, (0, (1, 1))),
        "vaml": ("VAML", VERMILION, (0, (4, 1.5))),
    }
    top = cut.losses["vagram"].max()
    for name, (label, color, style) in lines.items():
        # The losses are 0 at the reference, for which a logarithmic axis has no place.
        loss = np.maximum(cut.losses[name], top * 1e-9)
        axes.plot(cut.place, loss, color=color, linestyle=style, linewidth=1.5, label=label)
    axes.axvline(reference, color="0.6", linewidth=0.8, zorder=0)
    axes.set_yscale("log")
    axes.set_ylim(top * 10.0**-DECADES, top * 3)
    axes.yaxis.set_major_locator(LogLocator(numticks=9))
    axes.set_xlim(cut.place[0], cut.place[-1])


# -- Figure 2 ------------------------------------------------------------------------------------------------------

PANEL_TITLES = {"linear": "Linear model", "1x16": "One hidden layer of 16 units"}


def draw_value_error(curves: Sequence[ErrorCurve], folder: Path) -> None:
    """Held-out value error over model steps, one panel per model: ``value_error.png`` and ``.pdf``."""
    models = list(dict.fromkeys(curve.fit.model for curve in curves))
    with new_figure(4.9 * len(models), 3.2) as figure:
        panels = figure.subplots(1, len(models), squeeze=False)[0]
        for axes, model in zip(panels, models, strict=True):
            own = [curve for curve in curves if curve.fit.model == model]
            _changes(axes, own[0])
            for curve in own:
                _error_line(axes, curve)
            axes.set_title(PANEL_TITLES[model])
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{error:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(0, own[0].total_steps[-1])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:,.0f}"))
            axes.set_xlabel("model gradient steps ($V$ changes at the vertical lines)")
        panels[0].set_ylabel("held-out $(V(s') - V(f))^2$, current $V$")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, handlelength=2.6)
        save(figure, folder, "value_error")


def _changes(axes: Axes, curve: ErrorCurve) -> None:
    for position in curve.total_steps[(curve.step == 0) & (curve.value > 0)]:
        axes.axvline(position, color="0.88", linewidth=0.8, zorder=0)


def _error_line(axes: Axes, curve: ErrorCurve) -> None:
    """Mean over the seeds and, if there are several, its standard error as a band."""
    style = STYLES.get(curve.fit.loss, {"label": curve.fit.loss, "color": PURPLE})
    mean = curve.error.mean(axis=0)
    axes.plot(curve.total_steps, mean, linewidth=1.3, **style)
    if len(curve.seeds) > 1:
        error = curve.error.std(axis=0, ddof=1) / np.sqrt(len(curve.seeds))
        # A logarithmic axis has no place for mean - error <= 0. The band then ends where the axis does.
        low = np.maximum(mean - error, mean * 1e-2)
        axes.fill_between(curve.total_steps, low, mean + error, color=style["color"], alpha=0.22, linewidth=0)
