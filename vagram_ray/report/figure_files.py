"""From a plot to files: one PNG and one PDF of all panels, and one SVG per panel for the page.

A phone shows one panel below the other, a sheet of paper shows them side by side: hence both forms. The panels' SVGs
have no background, and colors that follow the page's.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vagram_ray.files import write_atomically
from vagram_ray.report.figure_style import MUTED, RC_PARAMS, LineStyle, css_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

PNG_DPI = 160
_LEGEND_ROW, _TITLE_ROW, _TITLE_LETTER = 0.26, 0.16, 0.082  # inches
_SHORTEST_TITLE = 8  # letters
_WIDE = {1: (7.4, 1.1), 2: (4.9, 1.0)}
"""Width of a panel in inches and factor of its height, by number of panels."""
_HEAD_SIZE, _HEAD_ROW, _HEAD_LETTER = 7.0, 0.15, 0.053
"""Of the line above all panels: points, and inches of a row and of a letter."""


@dataclass(frozen=True)
class PanelImage:
    """One panel for the page: an SVG element without size or background, and what it shows in words."""

    title: str
    svg: str
    description: str
    wide: str = ""
    """The same for a wide screen that one panel or two have to themselves."""
    says: str = ""
    """A sentence below the panel, on the page alone."""


@dataclass(frozen=True)
class Figure:
    """A figure that has been drawn."""

    name: str
    title: str
    caption: str
    png: Path
    pdf: Path
    panels: tuple[PanelImage, ...] = ()
    lines: tuple[LineStyle, ...] = ()
    """The entries of the legend."""


@dataclass(frozen=True)
class PanelPlot:
    """One panel of a plot that is to be drawn."""

    title: str
    draw: Callable[[Axes], None]
    description: str = ""
    """The panel in words, for those who cannot see it."""
    says: str = ""
    """What to read off it, in a sentence below it on the page."""


@dataclass(frozen=True)
class Plot:
    """A figure that is to be drawn. Lengths are in inches."""

    name: str
    title: str
    caption: str
    panels: Sequence[PanelPlot]
    lines: Sequence[LineStyle] = ()
    columns: int = 3
    size: tuple[float, float] = (3.3, 2.6)
    """Of a panel with its labels."""
    share_x: bool = False
    """Whether all panels have the same x axis."""
    share_y: bool = False
    """Whether all panels have the same y axis."""
    band: str = ""
    """The meaning of bands and intervals, in a few words."""

    @property
    def widened(self) -> Plot:
        """The plot as it is drawn where there is room: one panel or two use it."""
        width, height = _WIDE.get(len(self.panels), (0.0, 1.0))
        return replace(self, size=(width, height * self.size[1])) if self.size[0] < width else self


def save_plot(plot: Plot, folder: Path, task: str = "") -> Figure:
    """Draw a plot: ``NAME.png`` and ``NAME.pdf`` in ``folder``, and the panels for the page.

    Above the files' panels stands what was run, ``task``, and what the bands are: a figure is pasted elsewhere.
    """
    from matplotlib import style

    with style.context(["default", {**RC_PARAMS, "svg.hashsalt": plot.name}]):
        sheet, limits = _sheet(plot.widened, task)
        png, pdf = folder / f"{plot.name}.png", folder / f"{plot.name}.pdf"
        write_atomically(png, _render(sheet, "png", dpi=PNG_DPI))
        write_atomically(pdf, _render(sheet, "pdf", metadata={"CreationDate": None, "Title": plot.title}))
        panels = tuple(_panel_image(plot, number, limits) for number in range(len(plot.panels)))
    return Figure(plot.name, plot.title, plot.caption, png, pdf, panels, tuple(plot.lines))


# -- drawing -----------------------------------------------------------------------------------------------------


class _Limits(NamedTuple):
    """The parts of the axes that all panels share, or None."""

    x: tuple[float, float] | None
    y: tuple[float, float] | None

    def apply(self, axes: Axes) -> None:
        if self.x:
            axes.set_xlim(self.x)
        if self.y:
            axes.set_ylim(self.y)


def _sheet(plot: Plot, task: str) -> tuple[MatplotlibFigure, _Limits]:
    """All panels side by side, what was run above and a legend below, and the limits that the panels share."""
    columns = 2 if len(plot.panels) == 4 and plot.columns == 3 else min(plot.columns, len(plot.panels))
    rows = math.ceil(len(plot.panels) / columns)
    width = plot.size[0] * columns
    head = " | ".join(filter(None, [task, f"bands and intervals: {plot.band}" if plot.band else ""]))
    head_lines = textwrap.wrap(head, max(20, int((width - 0.2) / _HEAD_LETTER)))
    longest = max((len(line.label) for line in plot.lines), default=0)
    legend_columns = max(1, min(len(plot.lines), int(width / (0.75 + 0.078 * longest))))
    legend_rows = math.ceil(len(plot.lines) / legend_columns)
    figure = _figure(width, plot.size[1] * rows + _HEAD_ROW * len(head_lines) + _LEGEND_ROW * legend_rows)
    figure.set_facecolor("white")
    all_axes = [figure.add_subplot(rows, columns, number) for number in range(1, len(plot.panels) + 1)]
    for number, (axes, panel) in enumerate(zip(all_axes, plot.panels, strict=True)):
        _draw(axes, plot, panel)
        if plot.share_y and number % columns > 0:
            axes.set_ylabel("")
    limits = _shared_limits(plot, all_axes)
    for axes in all_axes:
        limits.apply(axes)
    _set_titles(figure, plot, plot.panels, rows)
    if head_lines:
        figure.suptitle("\n".join(head_lines), x=0.1 / width, ha="left", fontsize=_HEAD_SIZE, color=MUTED)
    if plot.lines:
        handles = [_legend_handle(line) for line in plot.lines]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=legend_columns, frameon=False, handlelength=2.6
        )
    return figure, limits


def _panel_image(plot: Plot, number: int, limits: _Limits) -> PanelImage:
    panel = plot.panels[number]
    wide = "" if plot.widened is plot else _panel_svg(plot.widened, number, limits, "w-")
    return PanelImage(panel.title, _panel_svg(plot, number, limits), panel.description, wide, panel.says)


def _panel_svg(plot: Plot, number: int, limits: _Limits, variant: str = "") -> str:
    figure = _figure(*plot.size)
    axes = figure.add_subplot()
    _draw(axes, plot, plot.panels[number])
    limits.apply(axes)
    _set_titles(figure, plot, [plot.panels[number]])
    svg = _render(figure, "svg", transparent=True, metadata={"Date": None}).decode()
    return inline_svg(svg, f"{plot.name}-{variant}{number}-")


def _figure(width: float, height: float) -> MatplotlibFigure:
    from matplotlib.figure import Figure as MatplotlibFigure

    return MatplotlibFigure(figsize=(width, height), layout="constrained")


def _draw(axes: Axes, plot: Plot, panel: PanelPlot) -> None:
    axes.tick_params(length=0)
    panel.draw(axes)


def _set_titles(figure: MatplotlibFigure, plot: Plot, panels: Sequence[PanelPlot], rows: int = 1) -> None:
    """Titles in lines that fit the axes, which stand beside their labels and are all as wide. More lines, more room."""
    boxes = [box for axes in figure.axes if (box := axes.yaxis.get_tightbbox()) is not None]
    width = plot.size[0] - max((box.width for box in boxes), default=0.0) / figure.dpi
    for axes, panel in zip(figure.axes, panels, strict=True):
        axes.set_title(title_lines(panel.title, width), pad=6)
    most = max(title_lines(panel.title, width).count("\n") for panel in plot.panels)
    figure.set_figheight(figure.get_figheight() + _TITLE_ROW * most * rows)


def title_lines(title: str, width: float) -> str:
    """A title in lines that fit so many inches, broken at spaces. A word that is longer is cut."""
    room = max(_SHORTEST_TITLE, int(width / _TITLE_LETTER))
    lines = textwrap.wrap(title, room, break_long_words=False, break_on_hyphens=False)
    return "\n".join(line if len(line) <= room else f"{line[: room - 3]}..." for line in lines)


def _shared_limits(plot: Plot, all_axes: Sequence[Axes]) -> _Limits:
    drawn = [axes for axes in all_axes if axes.has_data()]
    if len(plot.panels) < 2 or not drawn:
        return _Limits(None, None)
    return _Limits(
        _hull([axes.get_xlim() for axes in drawn]) if plot.share_x else None,
        _hull([axes.get_ylim() for axes in drawn]) if plot.share_y else None,
    )


def _hull(limits: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in limits), max(high for _, high in limits)


def _legend_handle(line: LineStyle) -> object:
    from matplotlib.lines import Line2D

    # Matplotlib leaves out what begins with an underscore.
    label = f"\N{ZERO WIDTH SPACE}{line.label}" if line.label.startswith("_") else line.label
    return Line2D([], [], label=label, **line.options)


def _render(figure: MatplotlibFigure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


# -- SVG for the page --------------------------------------------------------------------------------------------


def inline_svg(svg: str, prefix: str) -> str:
    """Matplotlib's SVG as an element of a page: no declarations, no fixed size, its own ids, colors of the page."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    element = re.sub(r"<!--.*?-->\s*", "", element, flags=re.DOTALL)
    element = re.sub(r"<style\b.*?</style>\s*", "", element, flags=re.DOTALL)  # it would rule the whole page
    element = element.replace("xlink:href", "href")
    head, _, body = element.partition(">")
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box is not None  # Matplotlib always gives one
    head = f'<svg viewBox="{box[1]}" aria-hidden="true" focusable="false"'
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', body)
    body = re.sub(r'\bhref="#([^"]+)"', rf'href="#{prefix}\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", body)
    body = re.sub(r'style="([^"]*)"', lambda match: f'style="{_page_style(match[1])}"', body)
    return f"{head}>{body.strip()}"


def _page_style(style: str) -> str:
    """A style with the page's colors and font: Matplotlib's font may not be there."""
    style = re.sub(r"#[0-9a-f]{6}\b", lambda match: css_color(match[0]), style)
    return re.sub(r"font-family: [^;]+;? ?", "", style)
