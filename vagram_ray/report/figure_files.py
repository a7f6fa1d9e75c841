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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vagram_ray.files import write_atomically
from vagram_ray.report.figure_style import MUTED, RC_PARAMS, LineStyle, css_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

PNG_DPI = 160
_LEGEND_ROW, _TITLE_ROW, _TITLE_LETTER = 0.24, 0.17, 0.082  # inches
_WIDE = {1: (7.4, 1.1), 2: (4.9, 1.0)}
"""Width of a panel in inches and factor of its height, by number of panels."""
_FOOT_SIZE, _FOOT_ROW, _FOOT_LETTER = 7.0, 0.13, 0.053
"""Of the footnote: points, and inches of a row and of a letter."""


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
    margins: tuple[float, float, float, float] = field(default=(0.72, 0.14, 0.3, 0.46))
    """Left, right, top, bottom of the axes inside a panel."""
    share_x: bool = False
    """Whether all panels have the same x axis."""
    share_y: bool = False
    """Whether all panels have the same y axis."""
    band: str = ""
    """The meaning of bands and intervals, in a few words."""
    widens: bool = True
    """Whether one or two panels take the width that there is. A plot of small tiles stays as it is."""

    @property
    def widened(self) -> Plot:
        """The plot as it is drawn where there is room: one panel or two use it."""
        width, height = _WIDE.get(len(self.panels), (0.0, 1.0))
        if not self.widens or self.size[0] >= width:
            return self
        return replace(self, size=(width, height * self.size[1]))

    @property
    def wide_titles(self) -> bool:
        """Whether a title is wider than the axes below it."""
        room = (self.size[0] - self.margins[0] - self.margins[1]) / _TITLE_LETTER
        return any(len(line) > room for panel in self.panels for line in title_lines(panel.title, self.size[0]))

    def with_room_for_titles(self) -> Plot:
        """The plot with higher panels if titles take more than one line."""
        most = max((len(title_lines(panel.title, self.size[0])) for panel in self.panels), default=1)
        more = _TITLE_ROW * (most - 1)
        left, right, top, bottom = self.margins
        size, margins = (self.size[0], self.size[1] + more), (left, right, top + more, bottom)
        return replace(self, size=size, margins=margins)


def title_lines(title: str, width: float) -> list[str]:
    """A panel's title in lines that fit so many inches, broken after commas, else at spaces. What is longer is cut."""
    room = int(width / _TITLE_LETTER)
    lines = [""]
    for part in title.split(", "):
        joined = f"{lines[-1]}, {part}" if lines[-1] else part
        lines[-1:] = [joined] if len(joined) <= room or not lines[-1] else [f"{lines[-1]},", part]
    lines = [piece for line in lines for piece in textwrap.wrap(line, room, break_long_words=False) or [""]]
    return [line if len(line) <= room else f"{line[: room - 3]}..." for line in lines]


def save_plot(plot: Plot, folder: Path, task: str = "") -> Figure:
    """Draw a plot: ``NAME.png`` and ``NAME.pdf`` in ``folder``, and the panels for the page.

    Below the files' panels stands what was run, ``task``, and what the bands are: a figure is pasted elsewhere.
    """
    from matplotlib import style

    plot = plot.with_room_for_titles()
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
    """All panels side by side with a legend and a footnote below, and the limits that they share."""
    from matplotlib.figure import Figure as MatplotlibFigure

    columns = 2 if len(plot.panels) == 4 and plot.columns == 3 else min(plot.columns, len(plot.panels))
    rows = math.ceil(len(plot.panels) / columns)
    width, height = plot.size[0] * columns, plot.size[1] * rows
    legend_columns = _legend_columns(plot.lines, width)
    footnote = _footnote(plot, task, width)
    foot = _FOOT_ROW * len(footnote) + 0.08 if footnote else 0.0
    legend = _LEGEND_ROW * math.ceil(len(plot.lines) / legend_columns) + 0.06 if plot.lines else 0.0
    below = legend + foot
    figure = MatplotlibFigure(figsize=(width, height + below), facecolor="white")
    all_axes = []
    for number, panel in enumerate(plot.panels):
        row, column = divmod(number, columns)
        axes = _add_axes(figure, plot, (column * plot.size[0], below + (rows - 1 - row) * plot.size[1]))
        _draw(axes, plot, panel)
        if plot.share_y and column > 0:
            axes.set_ylabel("")
        all_axes.append(axes)
    limits = _shared_limits(plot, all_axes)
    for axes in all_axes:
        limits.apply(axes)
    for row, line in enumerate(reversed(footnote)):
        place = (0.06 + _FOOT_ROW * row) / (height + below)
        figure.text(0.1 / width, place, line, fontsize=_FOOT_SIZE, color=MUTED, va="bottom")
    if plot.lines:
        figure.legend(
            handles=[_legend_handle(line) for line in plot.lines],
            loc="lower center",
            bbox_to_anchor=(0.5, foot / (height + below)),
            ncols=legend_columns,
            frameon=False,
            handlelength=2.6,
            borderpad=0.1,
        )
    return figure, limits


def _panel_image(plot: Plot, number: int, limits: _Limits) -> PanelImage:
    panel = plot.panels[number]
    wide = "" if plot.widened is plot else _panel_svg(plot.widened, number, limits, "w-")
    return PanelImage(panel.title, _panel_svg(plot, number, limits), panel.description, wide, panel.says)


def _panel_svg(plot: Plot, number: int, limits: _Limits, variant: str = "") -> str:
    from matplotlib.figure import Figure as MatplotlibFigure

    figure = MatplotlibFigure(figsize=plot.size)
    axes = _add_axes(figure, plot, (0.0, 0.0))
    _draw(axes, plot, plot.panels[number])
    limits.apply(axes)
    svg = _render(figure, "svg", transparent=True, metadata={"Date": None}).decode()
    return inline_svg(svg, f"{plot.name}-{variant}{number}-")


def _draw(axes: Axes, plot: Plot, panel: PanelPlot) -> None:
    axes.tick_params(length=0)
    panel.draw(axes)
    # Centered over the panel, not over the axes: a title may be wider than these.
    left, right, *_ = plot.margins
    center = 0.5 + 0.5 * (right - left) / (plot.size[0] - left - right)
    axes.set_title("\n".join(title_lines(panel.title, plot.size[0])), pad=6, x=center if plot.wide_titles else 0.5)


def _add_axes(figure: MatplotlibFigure, plot: Plot, corner: tuple[float, float]) -> Axes:
    width, height = figure.get_size_inches()
    left, right, top, bottom = plot.margins
    rectangle = (
        (corner[0] + left) / width,
        (corner[1] + bottom) / height,
        (plot.size[0] - left - right) / width,
        (plot.size[1] - top - bottom) / height,
    )
    return figure.add_axes(rectangle)


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


def _footnote(plot: Plot, task: str, width: float) -> list[str]:
    """Lines that fit so many inches: the task, and the meaning of bands."""
    text = " | ".join(filter(None, [task, f"bands and intervals: {plot.band}" if plot.band else ""]))
    return textwrap.wrap(text, max(20, int((width - 0.2) / _FOOT_LETTER)))


def _legend_handle(line: LineStyle) -> object:
    from matplotlib.lines import Line2D

    # Matplotlib leaves out what begins with an underscore.
    label = f"\N{ZERO WIDTH SPACE}{line.label}" if line.label.startswith("_") else line.label
    return Line2D([], [], label=label, **line.options)


def _legend_columns(lines: Sequence[LineStyle], width: float) -> int:
    longest = max((len(line.label) for line in lines), default=0)
    return max(1, min(len(lines), int(width / (0.75 + 0.078 * longest))))


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
