"""How tables, names of cells and the line of the task fit a terminal of any width.

Where columns are few, the axes stand once, above the column, and their values in the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from vagram_ray.text import format_value

_WITHOUT_LIMIT = 10_000
"""Columns in which every table has room."""


class FirstThatFits:
    """The first of several ways to show the same that fits the terminal's width uncut, or the last where none does."""

    def __init__(self, *ways: RenderableType) -> None:
        self._ways = ways

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for way in self._ways:
            if Measurement.get(console, options.update(width=_WITHOUT_LIMIT), way).maximum <= options.max_width:
                break
        yield way


class TaskLine:
    """What was run (``records.task_line``), broken between its parts where it is longer than a line."""

    def __init__(self, line: str, style: str = "bold") -> None:
        self._line, self._style = line, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first, *others = self._line.split(" | ")
        lines = [first]
        for part in others:
            if cell_len(f"{lines[-1]} | {part}") <= options.max_width:
                lines[-1] += f" | {part}"
            else:
                lines.append(part)
        yield Text("\n".join(lines), style=self._style)


def axis_names(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of all axes, from the axes of every cell. Plain SAC lacks those of the model."""
    return list(dict.fromkeys(axis for axes in cells for axis in axes))


def short_name(label: str, axes: Mapping[str, Any], names: Sequence[str]) -> str:
    """``10, vagram``: the values of a cell's axes in the order of their names, ``-`` for one that it lacks."""
    return ", ".join(format_value(axes[name]) if name in axes else "-" for name in names) if names else label


def short_title(names: Sequence[str]) -> str:
    """The lines above the short names, one per axis."""
    return ",\n".join(names) or "cell"
