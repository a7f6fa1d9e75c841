"""Every pair of methods inside every panel: the difference, its certainty, and one word for it.

Cells that share their seeds are compared seed by seed (:mod:`vagram_ray.report.paired`: Wilcoxon's signed-rank test),
others as two independent samples (:mod:`vagram_ray.report.statistics`: the Mann-Whitney test).

The words and their thresholds (``docs/report.md``):

- *firm*: the interval of the probability of improvement excludes 0.5, the interval of the IQM's difference excludes 0
  on the same side, and the test is significant at 5 % after Holm's correction for all pairs compared;
- *likely*: at least one of the two intervals says so, and neither contradicts;
- *level*: neither does, and the probability of improvement lies within 0.1 of 0.5;
- *open*: everything else, and whatever rests on fewer than five seeds in a cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Literal, NamedTuple

from vagram_ray.report import paired
from vagram_ray.report.curves import CellCurves, Comparison
from vagram_ray.report.statistics import (
    SIGNIFICANCE,
    Interval,
    final_iqm,
    holm,
    iqm_difference,
    mann_whitney_p,
    probability_of_improvement,
    probability_of_improvement_over_panels,
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
    seeds: tuple[int, ...]
    """The seeds that were compared with themselves; none where the cells' seeds differ and the pair is unpaired."""
    difference: Interval
    """Paired: IQM of the seeds' differences, first minus second. Unpaired: IQM of the first minus IQM of the second."""
    probability: Interval
    """That the first ends above the second: on the same seed, or unpaired a seed of the one above one of the other."""
    p_value: float
    """Wilcoxon's signed-rank test, unpaired Mann-Whitney's; two-sided, for this pair alone."""
    adjusted_p_value: float
    """After Holm's correction for all pairs of the comparison."""
    certainty: Certainty
    seeds_needed: int | None
    """Seeds per cell for a firm answer, or ``None`` if that is no realistic number."""

    @property
    def paired(self) -> bool:
        """Whether seeds were compared with themselves."""
        return bool(self.seeds)

    @property
    def wins(self) -> int:
        """On how many of ``seeds`` the first is higher."""
        return sum(self.first.scores[seed] > self.second.scores[seed] for seed in self.seeds)

    @property
    def fewest_seeds(self) -> int:
        """Seeds that came to their end in the cell with fewer of them, paired of those that were compared."""
        cells = (self.first.final_returns, self.second.final_returns)
        return min(len(set(returns) & set(self.seeds) if self.paired else returns) for returns in cells)

    @property
    def comparable(self) -> bool:
        """Whether both cells have final returns."""
        return not math.isnan(self.difference.value)


class _Numbers(NamedTuple):
    """What a way of comparing says of two cells."""

    difference: Interval
    probability: Interval
    p_value: float
    seeds_needed: Callable[[int], int | None]
    """By the number of tests among which this is one."""


def compare_pairs(comparison: Comparison) -> tuple[PairComparison, ...]:
    """All pairs of cells inside each panel, in order of panels and lines; each once, also where two share panels."""
    panels = (combinations(panel.cells, 2) for panel in comparison.panels())
    pairs = list({(a.label, b.label): (a, b) for panel in panels for a, b in panel}.values())
    iqms = {cell.label: final_iqm(cell) for cell in comparison.cells}
    shared = [shared_seeds(comparison, a, b) for a, b in pairs]
    numbers = [_numbers(a, b, seeds) for (a, b), seeds in zip(pairs, shared, strict=True)]
    adjusted = holm([own.p_value for own in numbers])
    tests = sum(not math.isnan(own.p_value) for own in numbers)
    compared = []
    for (a, b), seeds, own, corrected in zip(pairs, shared, numbers, adjusted, strict=True):
        pair = PairComparison(
            panel=comparison.panel_title({**a.axes, **b.axes}),
            first=a,
            second=b,
            first_name=comparison.line_name(a),
            second_name=comparison.line_name(b),
            first_iqm=iqms[a.label],
            second_iqm=iqms[b.label],
            seeds=seeds,
            difference=own.difference,
            probability=own.probability,
            p_value=own.p_value,
            adjusted_p_value=corrected,
            certainty="open",
            seeds_needed=own.seeds_needed(tests),
        )
        word = certainty_of(own.difference, own.probability, corrected, pair.fewest_seeds)
        compared.append(replace(pair, certainty=word))
    return tuple(compared)


def shared_seeds(comparison: Comparison, a: CellCurves, b: CellCurves) -> tuple[int, ...]:
    """The seeds by which two cells are compared, in order; none where their seeds differ.

    Seeds are shared when all planned seeds of one cell are planned in the other, inside one experiment or between
    sweeps: seeds of somebody else's results have only their numbers in common with a sweep's. Of the shared ones those
    count that have a return in both cells, their own or as a lost seed.
    """
    ours = a.experiment == b.experiment or comparison.kinds(a) == comparison.kinds(b) == {"sweep"}
    first, second = set(a.seeds), set(b.seeds)
    if not ours or not (first <= second or second <= first):
        return ()
    return tuple(sorted(a.scores.keys() & b.scores.keys()))


def _numbers(a: CellCurves, b: CellCurves, seeds: tuple[int, ...]) -> _Numbers:
    if not seeds:
        difference, probability = iqm_difference(a, b), probability_of_improvement(a, b)
        return _Numbers(difference, probability, mann_whitney_p(a, b), partial(seeds_for_firm_answer, a, b))
    d = paired.differences(a, b, seeds)
    needed = partial(paired.seeds_for_firm_paired_answer, d)
    return _Numbers(paired.paired_difference(d), paired.paired_probability(d), paired.wilcoxon_p(d), needed)


def probability_over_panels(pairs: Sequence[PairComparison]) -> Interval:
    """Mean over panels of the probability of improvement, seed by seed where that holds for all of the pairs."""
    if all(pair.paired for pair in pairs):
        return paired.paired_probability_over_panels(
            [(pair.seeds, paired.differences(pair.first, pair.second, pair.seeds)) for pair in pairs]
        )
    return probability_of_improvement_over_panels([(pair.first, pair.second) for pair in pairs])


def seen_from(pair: PairComparison, name: str) -> PairComparison:
    """The pair with one of its two lines as the first."""
    if pair.first_name == name:
        return pair
    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        first_name=pair.second_name,
        second_name=pair.first_name,
        first_iqm=pair.second_iqm,
        second_iqm=pair.first_iqm,
        difference=negative(pair.difference),
        probability=Interval(1 - pair.probability.value, 1 - pair.probability.high, 1 - pair.probability.low),
    )


def negative(interval: Interval) -> Interval:
    """The interval of the difference the other way round."""
    return Interval(-interval.value, -interval.high, -interval.low)


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
