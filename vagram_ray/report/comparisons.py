"""Every pair of methods inside every panel: the difference, its certainty, and one word for it.

The words and their thresholds (``docs/report.md``):

- *firm*: the interval of the probability of improvement excludes 0.5, the interval of the IQM's difference excludes 0
  on the same side, and the Mann-Whitney test is significant at 5 % after Holm's correction for all pairs compared;
- *likely*: at least one of the two intervals says so, and neither contradicts;
- *level*: neither does, and the probability of improvement lies within 0.1 of 0.5;
- *open*: everything else, and whatever rests on fewer than five seeds in a cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from vagram_ray.report.curves import CellCurves, Comparison
from vagram_ray.report.statistics import (
    SIGNIFICANCE,
    Interval,
    final_iqm,
    holm,
    iqm_difference,
    mann_whitney_p,
    probability_of_improvement,
    seeds_for_firm_answer,
)

LEVEL_WITHIN = 0.1
"""How far from 0.5 the probability of improvement of two methods may lie that are called level."""
MIN_SEEDS = 5
"""Seeds in each cell below which no interval is trusted with a word."""

Certainty = Literal["firm", "likely", "level", "open"]


@dataclass(frozen=True)
class PairComparison:
    """Two methods in one panel, ``first`` before ``second`` in the order of lines."""

    panel: str
    first: CellCurves
    second: CellCurves
    first_name: str
    second_name: str
    first_iqm: Interval
    second_iqm: Interval
    difference: Interval
    """IQM of the first minus IQM of the second."""
    probability: Interval
    """That the first ends above the second."""
    p_value: float
    """Mann-Whitney, two-sided, for this pair alone."""
    adjusted_p_value: float
    """After Holm's correction for all pairs of the comparison."""
    certainty: Certainty
    seeds_needed: int | None
    """Seeds per cell for a firm answer, or ``None`` if that is no realistic number."""

    @property
    def comparable(self) -> bool:
        """Whether both cells have final returns."""
        return not math.isnan(self.difference.value)

    @property
    def same_seeds(self) -> tuple[int, int]:
        """On how many of the seeds that both have the first is higher, and how many those are."""
        a, b = self.first.final_returns, self.second.final_returns
        shared = [seed for seed in a if seed in b]
        return sum(a[seed] > b[seed] for seed in shared), len(shared)


def compare_pairs(comparison: Comparison) -> tuple[PairComparison, ...]:
    """All pairs of cells inside each panel, in order of panels and lines; each once, also where two share panels."""
    panels = (combinations(panel.cells, 2) for panel in comparison.panels())
    pairs = list({(a.label, b.label): (a, b) for panel in panels for a, b in panel}.values())
    iqms = {cell.label: final_iqm(cell) for cell in comparison.cells}
    p_values = [mann_whitney_p(a, b) for a, b in pairs]
    adjusted = holm(p_values)
    tests = sum(not math.isnan(p) for p in p_values)
    compared = []
    for (a, b), p, corrected in zip(pairs, p_values, adjusted, strict=True):
        difference, probability = iqm_difference(a, b), probability_of_improvement(a, b)
        fewest = min(len(a.final_returns), len(b.final_returns))
        compared.append(
            PairComparison(
                panel=comparison.panel_title({**a.axes, **b.axes}),
                first=a,
                second=b,
                first_name=comparison.line_name(a),
                second_name=comparison.line_name(b),
                first_iqm=iqms[a.label],
                second_iqm=iqms[b.label],
                difference=difference,
                probability=probability,
                p_value=p,
                adjusted_p_value=corrected,
                certainty=certainty_of(difference, probability, corrected, fewest),
                seeds_needed=seeds_for_firm_answer(a, b, tests),
            )
        )
    return tuple(compared)


def certainty_of(difference: Interval, probability: Interval, adjusted_p: float, fewest_seeds: int) -> Certainty:
    """The word for a pair, by the thresholds above."""
    if fewest_seeds < MIN_SEEDS:
        return "open"
    sides = _side(difference, 0.0), _side(probability, 0.5)
    if not any(sides):
        return "level" if abs(probability.value - 0.5) <= LEVEL_WITHIN + 1e-9 else "open"
    if sides[0] * sides[1] < 0 or _sign(difference.value) * _sign(probability.value - 0.5) < 0:
        return "open"
    return "firm" if all(sides) and adjusted_p <= SIGNIFICANCE else "likely"


def _side(interval: Interval, none: float) -> int:
    """1 or -1 if the whole interval lies above or below the value of no difference, else 0."""
    return (interval.low > none) - (interval.high < none)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
