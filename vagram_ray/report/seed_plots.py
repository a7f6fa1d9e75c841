"""Every seed of every cell for itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vagram_ray.report.curves import CellCurves, Panel
from vagram_ray.report.drawing import BandCurve, Drawing
from vagram_ray.report.figure_files import PanelPlot, Plot
from vagram_ray.report.figure_style import ALARM, MUTED, LineStyle, format_steps
from vagram_ray.report.text import spoken
from vagram_ray.text import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TILE_GAP, _TILE_HEAD = 0.14, 0.3
CROSS = "\N{MULTIPLICATION SIGN}"


def seed_multiples(drawing: Drawing) -> Plot:
    """Every seed of every cell for itself, before the interquartile mean of its cell."""
    panels_of: dict[str, list[Panel]] = {}
    for panel in drawing.panels:
        for cell in panel.cells:
            panels_of.setdefault(cell.label, []).append(panel)
    cells = {cell.label: cell for panel in drawing.panels for cell in panel.cells}  # a reference is in several panels
    most = max(len(cell.seeds) for cell in cells.values())
    per_row = 4 if most <= 16 else 8
    limits = _value_limits(cells.values())

    def panel_plot(cell: CellCurves) -> PanelPlot:
        panels = panels_of[cell.label]
        line = drawing.comparison.line_name(cell)
        own = limits if drawing.same_scale else _value_limits(panels[0].cells)

        def draw(axes: Axes) -> None:
            _draw_tiles(axes, cell, drawing.iqm_bands.get(cell.label), drawing.style(cell), own, per_row)

        inside = line if len(drawing.panels) == 1 else f"{drawing.title(panels[0])}, {line}"
        title = inside if len(panels) == 1 else spoken(line)
        return PanelPlot(title, draw, _seed_words(cell))

    low, high = (format_number(value) for value in limits)
    scale = f"from {low} to {high}" if drawing.same_scale else "from the panel's lowest to its highest value"
    return Plot(
        name="seeds",
        title="Every seed",
        caption=f"The {drawing.return_name} of every seed over its environment steps, all on one scale, {scale}; in "
        f"grey the interquartile mean of the cell. A seed that did not come to its end is marked with {CROSS}.",
        panels=[panel_plot(cell) for cell in cells.values()],
        columns=max(len(panel.cells) for panel in drawing.panels) if len(drawing.panels) > 1 else 3,
        size=(2.9, 0.66 + 0.62 * math.ceil(most / per_row)),
        margins=(0.5, 0.1, 0.3, 0.3),
        widens=False,
    )


def _value_limits(cells: Iterable[CellCurves]) -> tuple[float, float]:
    values = [curve.values for cell in cells for curve in cell.returns.values()]
    if not values:
        return 0.0, 1.0
    joined = np.concatenate(values)
    low, high = float(joined.min()), float(joined.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _draw_tiles(
    axes: Axes,
    cell: CellCurves,
    average: BandCurve | None,
    style: LineStyle,
    limits: tuple[float, float],
    per_row: int,
) -> None:
    """Small graphs side by side in one pair of axes: a pair for every seed would take seconds to draw."""
    from matplotlib.collections import LineCollection

    last = max([cell.planned_env_steps or 0, *(int(curve.env_steps[-1]) for curve in cell.returns.values())]) or 1
    own, shared, floors = [], [], []
    for place, seed in enumerate(cell.seeds):
        row, column = divmod(place, per_row)
        corner = (column * (1 + _TILE_GAP), -row * (1 + _TILE_HEAD))
        floors.append([corner, (corner[0] + 1, corner[1])])
        if average is not None:
            shared.append(_tile_points(average.steps, average.middle, corner, last, limits))
        missing = seed in cell.missing
        axes.text(
            corner[0], corner[1] + 1.02, f"{seed} {CROSS}" if missing else str(seed),
            fontsize=7.5, color=ALARM if missing else MUTED, ha="left", va="bottom",
        )  # fmt: skip
        if seed in cell.returns:
            curve = cell.returns[seed]
            points = _tile_points(curve.env_steps, curve.values, corner, last, limits)
            own.append(points)
            if missing:
                axes.plot(*points[-1], marker="x", markersize=4, color=ALARM)
    axes.add_collection(LineCollection(floors, colors=MUTED, linewidths=0.6, alpha=0.5))
    axes.add_collection(LineCollection(shared, colors=MUTED, linewidths=0.9, alpha=0.55))
    axes.add_collection(LineCollection(own, colors=style.color, linewidths=1.3))
    rows = math.ceil(len(cell.seeds) / per_row)
    _label_tiles(axes, rows, min(per_row, len(cell.seeds)), last, limits)
    axes.set_xlim(-0.02, per_row * (1 + _TILE_GAP) - _TILE_GAP + 0.02)
    axes.set_ylim(1 - rows * (1 + _TILE_HEAD) + _TILE_HEAD - 0.05, 1 + _TILE_HEAD)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _label_tiles(axes: Axes, rows: int, columns: int, last: int, limits: tuple[float, float]) -> None:
    """Returns beside the first tile of every row, steps below the first and the last tile of the lowest."""
    low, high = (format_number(value) for value in limits)
    bottoms = [-row * (1 + _TILE_HEAD) for row in range(rows)]
    axes.set_yticks([y for bottom in bottoms for y in (bottom, bottom + 1)], [low, high] * rows, fontsize=6.5)
    ends = [0.0, (columns - 1) * (1 + _TILE_GAP) + 1] if columns > 1 else [0.0, 1.0]
    axes.set_xticks(ends, ["0", f"{format_steps(last)} steps"], fontsize=6.5)
    axes.get_xticklabels()[-1].set_horizontalalignment("right")


def _tile_points(
    steps: np.ndarray, values: np.ndarray, corner: tuple[float, float], last: int, limits: tuple[float, float]
) -> np.ndarray:
    """A curve inside the tile with this lower left corner and sides of 1: (T, 2)."""
    low, high = limits
    return np.stack([corner[0] + steps / last, corner[1] + (values - low) / (high - low)], axis=1)


def _seed_words(cell: CellCurves) -> str:
    words = [f"seed {seed} ends at {format_number(value)}" for seed, value in cell.final_returns.items()]
    words += [f"seed {seed} {reason}" for seed, reason in cell.missing.items()]
    return f"{', '.join(words)}." if words else "No seeds."
