"""Every pair of methods inside every panel: the difference, at the end and along the way, and a verdict on each.

Cells that share their seeds are compared seed by seed (:mod:`vagram_ray.report.paired`: Wilcoxon's signed-rank test),
others as two independent samples (:mod:`vagram_ray.report.statistics`: the Mann-Whitney test). *At the end* is the
final return, *along the way* the mean return over the steps that the two share: the area under the curve over its
length.

There are three verdicts (``docs/report.md``):

- *better*: the interval of the probability of improvement excludes 0.5, the interval of the IQM's difference excludes 0
  on the same side, and the test is significant at 5 % after Holm's correction for all comparisons
  with the reference (other pairs: for all other pairs).
- *equivalent*: two one-sided tests both exclude a difference as large as the margin, at 5 % after Holm's correction.
- *undecided*: everything else, and whatever rests on fewer than five seeds in a cell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Literal, NamedTuple

from vagram_ray.records.intervals import Interval
from vagram_ray.records.seed_statistics import MIN_SEEDS, SIGNIFICANCE
from vagram_ray.report import paired
from vagram_ray.report.curves import CellCurves, Comparison
from vagram_ray.report.statistics import (
    areas_under_curves,
    equivalence_p,
    holm,
    iqm_difference,
    iqm_span,
    mann_whitney_p,
    probability_of_improvement,
    seeds_for_firm_answer,
)

MARGIN_SHARE = 0.1
"""The margin of equivalence, as a share of a panel's way from its lowest first IQM to its highest, if none is given."""

Verdict = Literal["better", "equivalent", "undecided"]


@dataclass(frozen=True)
class PairComparison:
    """Two methods in one panel, ``first`` before ``second`` in the order of lines."""

    panel: str
    first: CellCurves
    second: CellCurves
    first_name: str
    second_name: str
    seeds: tuple[int, ...]
    """The seeds that were compared with themselves, or none where the cells' seeds differ and the pair is unpaired."""
    difference: Interval
    """Paired: IQM of the seeds' differences, first minus second. Unpaired: IQM of the first minus IQM of the second."""
    probability: Interval
    """That the first ends above the second: on the same seed, or unpaired a seed of the one above one of the other."""
    p_value: float
    """Wilcoxon's signed-rank test, unpaired Mann-Whitney's, two-sided, for this pair alone."""
    margin: float
    """Half the width of the range of differences that count as none, in units of the return."""
    equivalence_p_value: float
    """Of the test of equivalence within ``margin``, after Holm's correction."""
    adjusted_p_value: float = math.nan
    """After Holm's correction for all comparisons with the reference, or for all other pairs."""
    verdict: Verdict = "undecided"
    seeds_needed: int | None = None
    """Seeds per cell for a firm answer, or ``None`` if that is no realistic number."""
    way: PairComparison | None = None
    """The same for mean returns along the way. ``None`` where there are none, and in that comparison itself."""

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
    def standing(self) -> str:
        """The verdict on the first of the two: ``better``, ``worse``, ``equivalent`` or ``undecided``."""
        return "worse" if self.verdict == "better" and self.difference.value < 0 else self.verdict

    @property
    def comparable(self) -> bool:
        """Whether both cells have final returns."""
        return not math.isnan(self.difference.value)


@lru_cache(maxsize=8)
def compare_pairs(comparison: Comparison) -> tuple[PairComparison, ...]:
    """All pairs of cells inside each panel, in order of panels and lines, each once, also where two share panels."""
    pairs: dict[tuple[str, str], _Pair] = {}
    for panel in comparison.panels():
        low, high = iqm_span(panel.cells)
        margin = MARGIN_SHARE * (high - low) if comparison.margin is None else comparison.margin
        for a, b in combinations(panel.cells, 2):
            first, second = areas_under_curves(a, b)
            way = replace(a, final_returns=first), replace(b, final_returns=second)
            pairs.setdefault((a.label, b.label), _Pair((a, b), way, margin))
    margins = [pair.margin for pair in pairs.values()]
    ends = _compare(comparison, [pair.end for pair in pairs.values()], margins)
    ways = _compare(comparison, [pair.way for pair in pairs.values()], margins)
    return tuple(replace(end, way=way if way.comparable else None) for end, way in zip(ends, ways, strict=True))


def against_reference(comparison: Comparison) -> list[PairComparison]:
    """The pairs with the line that the others are held against, as far as both cells have final returns."""
    focus = comparison.focus
    return [
        pair for pair in compare_pairs(comparison) if pair.comparable and focus in (pair.first_name, pair.second_name)
    ]


class _Pair(NamedTuple):
    """Two cells with their final returns, and with the mean returns along the way in their place."""

    end: tuple[CellCurves, CellCurves]
    way: tuple[CellCurves, CellCurves]
    margin: float


def _compare(
    comparison: Comparison, pairs: Sequence[tuple[CellCurves, CellCurves]], margins: Sequence[float]
) -> list[PairComparison]:
    """Every pair by the scores of its cells, with p values that are corrected inside its family."""
    compared = [_pair(comparison, a, b, margin) for (a, b), margin in zip(pairs, margins, strict=True)]
    told = [comparison.focus in (pair.first_name, pair.second_name) for pair in compared]
    adjusted = _holm_by_family([pair.p_value for pair in compared], told)
    equivalent = _holm_by_family([pair.equivalence_p_value for pair in compared], told)
    tests = Counter(family for family, pair in zip(told, compared, strict=True) if not math.isnan(pair.p_value))
    return [
        replace(
            pair,
            adjusted_p_value=p,
            equivalence_p_value=same_p,
            verdict=verdict_of(pair.difference, pair.probability, p, same_p, pair.fewest_seeds),
            seeds_needed=_seeds_needed(pair, tests[family]),
        )
        for pair, p, same_p, family in zip(compared, adjusted, equivalent, told, strict=True)
    ]


def _pair(comparison: Comparison, a: CellCurves, b: CellCurves, margin: float) -> PairComparison:
    """Two cells by their scores, with p values of this pair alone."""
    seeds = shared_seeds(comparison, a, b)
    d = paired.differences(a, b, seeds)
    return PairComparison(
        panel=comparison.panel_title({**a.axes, **b.axes}),
        first=a,
        second=b,
        first_name=comparison.line_name(a),
        second_name=comparison.line_name(b),
        seeds=seeds,
        difference=paired.paired_difference(d) if seeds else iqm_difference(a, b),
        probability=paired.paired_probability(d) if seeds else probability_of_improvement(a, b),
        p_value=paired.wilcoxon_p(d) if seeds else mann_whitney_p(a, b),
        margin=margin,
        equivalence_p_value=paired.equivalence_p(d, margin) if seeds else equivalence_p(a, b, margin),
    )


def _seeds_needed(pair: PairComparison, tests: int) -> int | None:
    """Seeds for a firm answer, where the pair is one of so many tests."""
    if pair.paired:
        return paired.seeds_for_firm_paired_answer(paired.differences(pair.first, pair.second, pair.seeds), tests)
    return seeds_for_firm_answer(pair.first, pair.second, tests)


def _holm_by_family(p_values: Sequence[float], told: Sequence[bool]) -> list[float]:
    """Holm's correction among the comparisons with the reference, and among all others.

    What the sentences claim is corrected for what they claim, however many other pairs the tables hold.
    """
    adjusted: dict[int, float] = {}
    for family in (True, False):
        places = [place for place, own in enumerate(told) if own == family]
        adjusted |= dict(zip(places, holm([p_values[place] for place in places]), strict=True))
    return [adjusted[place] for place in range(len(told))]


def shared_seeds(comparison: Comparison, a: CellCurves, b: CellCurves) -> tuple[int, ...]:
    """The seeds by which two cells are compared, in order, or none where their seeds differ.

    Seeds are shared when all planned seeds of one cell are planned in the other, inside one experiment or between
    sweeps: seeds of somebody else's results have only their numbers in common with a sweep's. Of the shared ones those
    count that have a return in both cells, their own or as a lost seed.
    """
    ours = a.experiment == b.experiment or comparison.kinds(a) == comparison.kinds(b) == {"sweep"}
    first, second = set(a.seeds), set(b.seeds)
    if not ours or not (first <= second or second <= first):
        return ()
    return tuple(sorted(a.scores.keys() & b.scores.keys()))


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
        difference=negative(pair.difference),
        way=pair.way and seen_from(pair.way, name),
        probability=Interval(1 - pair.probability.value, 1 - pair.probability.high, 1 - pair.probability.low),
    )


def negative(interval: Interval) -> Interval:
    """The interval of the difference the other way round."""
    return Interval(-interval.value, -interval.high, -interval.low)


def verdict_of(
    difference: Interval, probability: Interval, adjusted_p: float, equivalence_p: float, fewest_seeds: int
) -> Verdict:
    """The verdict on a pair, by the thresholds above."""
    if fewest_seeds < MIN_SEEDS:
        return "undecided"
    sides = _side(difference, 0.0), _side(probability, 0.5)
    if all(sides) and sides[0] == sides[1] and adjusted_p <= SIGNIFICANCE:
        return "better"
    return "equivalent" if equivalence_p <= SIGNIFICANCE else "undecided"


def _side(interval: Interval, none: float) -> int:
    """1 or -1 if the whole interval lies above or below the value of no difference, else 0."""
    return (interval.low > none) - (interval.high < none)
