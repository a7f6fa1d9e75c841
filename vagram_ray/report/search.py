"""A search: its samples, ranked, and the hyperparameters that they are samples of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vagram_ray.report.curves import CellCurves, Comparison, ExperimentFacts
from vagram_ray.text import format_value

MIN_SAMPLES = 4
"""Fewer cells with as many different values of an axis are no search."""
LOG_RATIO = 30.0
"""From this ratio of its largest to its smallest value on, a hyperparameter is drawn on a logarithmic axis."""


@dataclass(frozen=True, eq=False)
class Search:
    """A comparison whose cells are samples of a search space."""

    comparison: Comparison

    @property
    def facts(self) -> ExperimentFacts:
        """Where the samples come from."""
        return self.comparison.experiments[0]

    @cached_property
    def samples(self) -> tuple[CellCurves, ...]:
        """The best one first. Those that were stopped early come after the others."""
        return tuple(sorted(self.comparison.cells, key=lambda cell: cell.order))

    @property
    def names(self) -> tuple[str, ...]:
        """The hyperparameters that vary."""
        found: dict[str, set[str]] = {}
        for sample in self.samples:
            for name, value in sample.axes.items():
                found.setdefault(name, set()).add(format_value(value) if not _is_number(value) else repr(float(value)))
        return tuple(name for name, values in found.items() if len(values) > 1)

    @property
    def measured(self) -> tuple[CellCurves, ...]:
        """The samples that have a return."""
        return tuple(sample for sample in self.samples if sample.final_returns)

    @property
    def best(self) -> CellCurves | None:
        """The first of the ranking, if anything was measured."""
        return self.measured[0] if self.measured else None


@dataclass(frozen=True)
class Scale:
    """A hyperparameter as numbers: as they are, or the places of words in their order."""

    name: str
    words: tuple[str, ...] = ()
    """Empty for numbers."""
    logarithmic: bool = False

    @classmethod
    def of(cls, name: str, values: Sequence[Any]) -> Scale:
        """The scale of these values."""
        if all(map(_is_number, values)):
            positive = all(value > 0 for value in values)
            return cls(name, logarithmic=positive and max(values) >= LOG_RATIO * min(values))
        return cls(name, words=tuple(sorted({format_value(value) for value in values})))

    def place(self, value: Any) -> float:
        """Where a value is on the axis."""
        return float(self.words.index(format_value(value))) if self.words else float(value)

    def linear(self, value: Any) -> float:
        """The same, after the logarithm of a logarithmic axis."""
        return math.log10(self.place(value)) if self.logarithmic else self.place(value)


def scales(search: Search) -> list[Scale]:
    """Of every hyperparameter that varies."""
    return [
        Scale.of(name, [sample.axes[name] for sample in search.samples if name in sample.axes]) for name in search.names
    ]


def is_search(info: Mapping[str, Any]) -> bool:
    """Whether a sweep has samples of a search space rather than axes whose values all are compared.

    Args:
        info: The content of ``sweep.json``.
    """
    if "search_alg" in info.get("tuning", {}):
        return True
    cells = info["cells"]
    if len(cells) < MIN_SAMPLES:
        return False
    names = {name for cell in cells for name in cell["axes"]}
    return any(
        all(_is_number(cell["axes"].get(name)) for cell in cells)
        and len({cell["axes"][name] for cell in cells}) == len(cells)
        and len(names) > 1
        for name in names
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
