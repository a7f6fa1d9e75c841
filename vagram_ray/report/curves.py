"""The data of a report: learning curves of every seed of every cell, from one or several sources.

A *cell* is one combination of the axes that an experiment varies (``num_distractors=5, model_loss=vagram``) with a
curve for each of its seeds. A :class:`Comparison` holds the cells of all sources, named and ordered so that tables,
figures and sentences agree on who is who: a *panel* is what belongs into one figure, a *line* is one method in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vagram_ray.commands import InputError
from vagram_ray.records.cells import CellResult
from vagram_ray.records.schema import RETURN_METRIC as RETURN_METRIC  # of sources that do not name theirs
from vagram_ray.text import canonical, format_value

METHOD_AXES = ("model_loss", "dynamics_model", "algorithm", "method", "agent")
"""Axes that name the method: what is compared inside a panel."""
TASK_AXES = (
    "env", "env_config", "num_distractors", "distractor_process", "distractor_scale", "distractor_reset",
)  # fmt: skip
"""Axes that make another task: sources that differ in one of them are never drawn into one panel."""
FOCUS = "vagram"
"""The method that sentences are about, where it is there and no reference was chosen, else the first line."""
NOT_GIVEN = "?"
"""Value of an axis that another source varies and that this one does not tell."""
NOT_APPLICABLE: Any = object()
"""Value of a setting that has no meaning for a cell, such as the size of a model that it does not have."""


@dataclass(frozen=True, eq=False)
class SeedCurve:
    """One metric of one seed: ``env_steps`` (T,) sorted, each step once, and ``values`` (T,), all finite."""

    env_steps: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, env_steps: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray) -> SeedCurve:
        """A curve from measurements in order of time. The last of several at one step counts."""
        steps = np.asarray(env_steps).astype(np.int64)[::-1]
        unique, newest = np.unique(steps, return_index=True)
        return cls(unique, np.asarray(values, dtype=np.float64)[::-1][newest])


@dataclass(frozen=True, kw_only=True, eq=False)
class CellCurves(CellResult):
    """A cell with the curves of its seeds.

    ``label`` is unique within a :class:`Comparison`. An axis without meaning for the cell is left out, such as the size
    of the model for plain SAC. One that the source does not tell is ``NOT_GIVEN``.
    """

    experiment: str
    """Name of the sweep's folder, or of what was imported."""
    returns: Mapping[int, SeedCurve]
    """Curve of the return metric by seed, also of seeds that are missing at the end."""
    metrics: Mapping[str, Mapping[int, SeedCurve]]
    """Other metrics by name and seed. ``time/`` and ``perf/``, of a trial, are those of its first seed."""
    planned_env_steps: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else its source tells of how it was run. ``NOT_APPLICABLE`` is what has no meaning for it."""
    alike: str | None = None
    """A text that two cells share when they were run in the same way, so that their seeds may be joined. ``None`` if
    that cannot be told."""

    def of_metric(self, metric: str) -> CellCurves:
        """The cell with another metric for its return. Nothing tells which of its values is the worst, so none is."""
        return replace(self, returns=self.metrics.get(metric, {}), missing={}, pending=frozenset())


@dataclass(frozen=True)
class ExperimentFacts:
    """Where numbers come from. ``details`` are titles and texts, ready to show, in order."""

    name: str
    source: Path
    kind: Literal["sweep", "CSV file in the long format", "results of mbrl-lib", "Tune experiment"]
    details: Mapping[str, str] = field(default_factory=dict)
    task: str = ""
    """The task in one line (``records.task_line``), empty where only the cells tell."""
    replaced_task: str = ""
    """The task that the sweep's scale ran in place of the experiment's own, in one line, empty if it did not."""
    named: bool = False
    """Whether the name was given on purpose, so that another source of that name is the same experiment."""
    search: bool = False
    """Whether the cells are samples of a search space, which are ranked."""
    running: bool = False


class Panel(NamedTuple):
    """The cells that belong into one figure: equal in every varying axis but the method's, in order of lines."""

    title: str
    cells: tuple[CellCurves, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """All cells of all sources, or of one."""

    cells: tuple[CellCurves, ...]
    experiments: tuple[ExperimentFacts, ...]
    return_metric: str
    varying_axes: tuple[str, ...]
    """Axes with more than one value over the cells, in order."""
    reference: str | None = None
    """Name of the line that sentences and the table of references are about, where one was chosen."""
    margin: float | None = None
    """The margin of equivalence in units of the return, where one was given."""

    @property
    def method_axes(self) -> tuple[str, ...]:
        """The axes whose values are lines of a panel: those of ``METHOD_AXES`` that vary, else the last that does.

        An axis of the task is none: without another one, a panel has one line.
        """
        others = [axis for axis in self.varying_axes if axis not in TASK_AXES]
        return tuple(axis for axis in METHOD_AXES if axis in others) or tuple(others[-1:])

    def kinds(self, cell: CellCurves) -> set[str]:
        """Source of the cell's numbers: ``sweep`` and the like."""
        names = cell.experiment.split(" + ")
        return {facts.kind for facts in self.experiments if facts.name in names}

    @property
    def focus(self) -> str:
        """The line that the others are held against: the chosen reference, else ``vagram``, else the first line."""
        if self.reference is not None:
            return self.reference
        return next((name for name in self.lines if name == FOCUS or name.startswith(f"{FOCUS} (")), self.lines[0])

    @property
    def panel_axes(self) -> tuple[str, ...]:
        """The axes whose values are panels."""
        return tuple(axis for axis in self.varying_axes if axis not in self.method_axes)

    def panels(self) -> list[Panel]:
        """Cells by panel. The order is by value where an axis holds numbers, else as the cells come.

        A cell that lacks an axis belongs to every panel whose other values are its own: plain SAC has no model and
        stands beside every size of one.
        """
        return [Panel(self.panel_title(values), tuple(sorted(cells, key=self._rank))) for values, cells in self._panels]

    @property
    def lines(self) -> tuple[str, ...]:
        """Names of all lines, in an order that is the same for every panel (for colors and legends)."""
        return tuple(dict.fromkeys(self.line_name(cell) for cell in sorted(self.cells, key=self._rank)))

    def line_name(self, cell: CellCurves) -> str:
        """The name of a cell inside its panel: its method, with the experiment where two lines would be the same."""
        return self._line_names[cell.label]

    def _rank(self, cell: CellCurves) -> tuple[int, ...]:
        return (self._method_order[self._method(cell)], self._positions[cell.label])

    @cached_property
    def _panels(self) -> list[tuple[dict[str, Any], list[CellCurves]]]:
        """The values of the panel axes and the cells of every panel, in order."""
        by_values: dict[str, tuple[dict[str, Any], list[CellCurves]]] = {}
        for cell in self.cells:
            values = {axis: cell.axes[axis] for axis in self.panel_axes if axis in cell.axes}
            by_values.setdefault(canonical(values), (values, []))[1].append(cell)
        groups = list(by_values.values())
        panels = [(values, list(cells)) for values, cells in groups if not any(_holds(values, v) for v, _ in groups)]
        for values, cells in groups:
            for panel_values, panel_cells in panels:
                if _holds(values, panel_values):
                    panel_cells.extend(cells)
        return sorted(panels, key=lambda panel: [self._axis_position(axis, panel[0]) for axis in self.panel_axes])

    def panel_title(self, axes: Mapping[str, Any]) -> str:
        """``num_distractors=5, hidden_size=64``: what the axes of panels are here."""
        parts = [f"{axis}={format_value(axes[axis])}" for axis in self.panel_axes if axis in axes]
        return ", ".join(parts) or (self.experiments[0].name if len(self.experiments) == 1 else "all cells")

    def _axis_position(self, axis: str, values: Mapping[str, Any]) -> float:
        if values.get(axis, NOT_GIVEN) == NOT_GIVEN:
            return math.inf
        numbers, places = self._axis_values[axis]
        return float(values[axis]) if numbers else float(places[canonical({axis: values[axis]})])

    @cached_property
    def _axis_values(self) -> dict[str, tuple[bool, dict[str, int]]]:
        """For each panel axis, whether all its values are numbers, and their places in the order of the cells."""
        found = {}
        for axis in self.panel_axes:
            values = [cell.axes[axis] for cell in self.cells if cell.axes.get(axis, NOT_GIVEN) != NOT_GIVEN]
            numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
            names = dict.fromkeys(canonical({axis: value}) for value in values)
            found[axis] = numbers, {name: place for place, name in enumerate(names)}
        return found

    def _method(self, cell: CellCurves) -> str:
        axes = self.method_axes or METHOD_AXES
        values = [format_value(cell.axes[axis]) for axis in axes if axis in cell.axes]
        if axes[0] not in METHOD_AXES:  # a bare number says nothing
            values = [f"{axes[0]}={value}" for value in values]
        return " ".join(values) or cell.experiment

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {cell.label: position for position, cell in enumerate(self.cells)}

    @cached_property
    def _method_order(self) -> dict[str, int]:
        methods = dict.fromkeys(self._method(cell) for cell in self.cells)
        return {method: position for position, method in enumerate(methods)}

    @cached_property
    def _line_names(self) -> dict[str, str]:
        names = {cell.label: self._method(cell) for cell in self.cells}
        shared = self._shared_in_a_panel(names)
        names = {
            cell.label: f"{name} ({cell.experiment})" if (name := names[cell.label]) in shared else name
            for cell in self.cells
        }
        shared = self._shared_in_a_panel(names)
        return {label: f"{name} ({label})" if name in shared else name for label, name in names.items()}

    def _shared_in_a_panel(self, names: Mapping[str, str]) -> set[str]:
        counts = (Counter(names[cell.label] for cell in cells) for _, cells in self._panels)
        return {name for panel in counts for name, count in panel.items() if count > 1}


def _holds(values: Mapping[str, Any], panel: Mapping[str, Any]) -> bool:
    """Whether a cell with these values stands in a panel that names more axes."""
    return values.keys() < panel.keys() and canonical(dict(values)) == canonical({a: panel[a] for a in values})


def varying_axes(cells: Sequence[CellCurves]) -> tuple[str, ...]:
    """Axes with more than one value over the cells, in the order in which the cells name them.

    To lack a method's axis is a value too: somebody else's algorithm may not have a ``model_loss``.
    """
    axes = dict.fromkeys(axis for cell in cells for axis in cell.axes)

    def values(axis: str) -> set[str]:
        given = {canonical({axis: cell.axes[axis]}) for cell in cells if axis in cell.axes}
        return given | ({""} if axis in METHOD_AXES and any(axis not in cell.axes for cell in cells) else set())

    return tuple(axis for axis in axes if len(values(axis)) > 1)


def with_reference(comparison: Comparison, reference: str | None) -> Comparison:
    """The comparison with a line that the others are held against.

    Raises:
        InputError: No line has that name. The sentence lists those that there are.
    """
    if reference is not None and reference not in comparison.lines:
        raise InputError(f"--reference {reference!r} is none of the methods: {'; '.join(comparison.lines)}.")
    return replace(comparison, reference=reference)
