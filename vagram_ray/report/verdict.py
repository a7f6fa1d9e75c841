"""The answer in words: which method is better where, by how much, how sure that is, and how many seeds would settle it.

The words are those of :mod:`vagram_ray.report.comparisons`. No sentence says more than its intervals do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vagram_ray.records.fit_limit import FIT_LIMIT_METRIC, fit_limit_warning
from vagram_ray.report.comparisons import (
    MIN_SEEDS,
    PairComparison,
    compare_pairs,
    negative,
    probability_over_panels,
    seen_from,
)
from vagram_ray.report.curves import Comparison
from vagram_ray.report.text import (
    describe_missing,
    describe_panel,
    describe_worst,
    format_interval,
    format_probability,
    spoken,
)
from vagram_ray.text import format_number, plural

MAX_SENTENCES = 24
"""More comparisons than this are told only where they are firm or likely, and the others counted."""
MAX_MISSING = 12
"""Cells with missing seeds that are named one by one."""


def verdict(comparison: Comparison, pairs: Sequence[PairComparison] | None = None) -> list[str]:
    """Sentences for a researcher, most general first.

    Args:
        comparison: What was measured.
        pairs: ``compare_pairs(comparison)``, where it has been computed already.
    """
    compared = compare_pairs(comparison) if pairs is None else pairs
    focus = comparison.focus
    told = [pair for pair in compared if pair.comparable and focus in (pair.first_name, pair.second_name)]
    return [
        *_completeness(comparison),
        *_over_panels(comparison, focus, told),
        *_pair_sentences(comparison, focus, told),
        *_without_answer(comparison, told),
        *_missing(comparison),
        *_fit_limits(comparison),
        *_definition(compared, told),
    ]


def _completeness(comparison: Comparison) -> Iterator[str]:
    planned = sum(len(cell.seeds) for cell in comparison.cells)
    there = sum(len(cell.final_returns) for cell in comparison.cells)
    if there < planned:
        yield f"Not complete: {there} of {plural(planned, 'seed')} came to their end, counted over all cells."


# -- over panels -------------------------------------------------------------------------------------------------


def _over_panels(comparison: Comparison, focus: str, told: Sequence[PairComparison]) -> Iterator[str]:
    for name in comparison.lines:
        cells = [seen_from(pair, focus) for pair in told if name in (pair.first_name, pair.second_name)]
        if name == focus or len(cells) < 2 or min(pair.fewest_seeds for pair in cells) < MIN_SEEDS:
            continue
        probability = probability_over_panels(cells)
        if probability.low > 0.5:
            words = "more often than not"
        elif probability.high < 0.5:
            words = "less often than not"
        else:
            words = "which leaves open who is ahead overall"
        yield (
            f"Over {len(cells)} panels together, {spoken(focus)} ends above {spoken(name)} "
            f"{'on the same seed' if all(pair.paired for pair in cells) else '(unpaired, a seed above a seed)'} with "
            f"probability {format_probability(probability)}: {words}."
        )


# -- pairs -------------------------------------------------------------------------------------------------------


def _pair_sentences(comparison: Comparison, focus: str, told: Sequence[PairComparison]) -> Iterator[str]:
    clear = [pair for pair in told if pair.certainty in ("firm", "likely")]
    chosen = told if len(told) <= MAX_SENTENCES else clear[:MAX_SENTENCES]
    for pair in chosen:
        yield _sentence(comparison, seen_from(pair, focus))
    if left := len(told) - len(chosen):
        rest = f", {len(clear) - len(chosen)} of them firm or likely" if len(clear) > len(chosen) else ""
        yield f"{plural(left, 'more comparison')} of {spoken(focus)}{rest}: see the table of pairs."


def _sentence(comparison: Comparison, pair: PairComparison) -> str:
    """The sentence on a pair whose first cell is the one it is about."""
    if pair.certainty in ("firm", "likely") and pair.difference.value < 0:
        pair = seen_from(pair, pair.second_name)
    where = describe_panel(comparison, pair.first, pair.second)
    a, b = spoken(pair.first_name), spoken(pair.second_name)
    difference = format_interval(pair.difference)
    iqms = f"IQM {format_number(pair.first_iqm.value)} against {format_number(pair.second_iqm.value)}"
    probability = f"{_how(pair)}; probability of improvement {format_probability(pair.probability)}"
    if pair.certainty == "firm":
        sentence = f"{a} is better than {b} by {difference} ({iqms}; {probability}): firm{_apart(pair)}."
    elif pair.certainty == "likely":
        sentence = (
            f"{a} is likely better than {b}, by {difference} ({iqms}; {probability}): not firm; {_needed(pair, 'it')}."
        )
    elif pair.certainty == "level":
        seeds = _num_seeds(pair)
        sentence = f"{a} and {b} are level as far as {seeds} tell: {iqms}, difference {difference}; {probability}."
    elif pair.fewest_seeds < MIN_SEEDS:
        sentence = f"{a} against {b} is open, {_num_seeds(pair)} are too few to say more: {iqms}."
    else:
        ahead = "ahead of" if pair.difference.value >= 0 else "behind"
        by = format_interval(pair.difference if pair.difference.value >= 0 else negative(pair.difference))
        sentence = (
            f"{a} is {ahead} {b} by {by} ({iqms}; {probability}), but {_num_seeds(pair)} leave it open: "
            f"{_needed(pair, 'a difference of this size')}."
        )
    return f"{where}, {sentence}" if where else sentence


def _how(pair: PairComparison) -> str:
    """How the two were compared: seed by seed, or as two samples."""
    if pair.paired:
        return f"seed by seed, higher on {pair.wins} of {len(pair.seeds)}"
    return "unpaired, their seeds differ"


def _apart(pair: PairComparison) -> str:
    every = "every seed of the one is above every seed of the other"
    return f", {every}" if pair.probability.value == 1.0 and not pair.paired else ""


def _needed(pair: PairComparison, what: str) -> str:
    if pair.seeds_needed is None:
        return f"no realistic number of seeds would settle {what}"
    if pair.seeds_needed <= pair.fewest_seeds:  # the test alone would do, an interval does not exclude no difference
        return f"a few more seeds would settle {what}"
    return f"about {pair.seeds_needed} seeds per cell would settle {what}"


# -- what is not there -------------------------------------------------------------------------------------------


def _without_answer(comparison: Comparison, told: Sequence[PairComparison]) -> Iterator[str]:
    if told:
        return
    if len(comparison.cells) == 1:
        yield "There is one cell, and so nothing to compare."
    elif any(len(panel.cells) > 1 for panel in comparison.panels()):
        yield f"No answer yet: no panel has final returns of both {spoken(comparison.focus)} and another method."
    else:
        yield "No two methods share a panel, and so there is nothing to compare."


def _missing(comparison: Comparison) -> Iterator[str]:
    lacking = [cell for cell in comparison.cells if cell.missing]
    for cell in lacking[:MAX_MISSING]:
        counted = describe_worst(cell)
        yield f"Missing in {cell.label}: {describe_missing(cell.missing)}{f'; {counted}' if counted else ''}."
    if len(lacking) > MAX_MISSING:
        yield f"Seeds are missing in {plural(len(lacking) - MAX_MISSING, 'more cell')}: see the table of final returns."
    if any(cell.worst for cell in lacking):
        yield (
            "A missing seed counts as the worst of its cell in every number, in curves from where it has no return on: "
            "left out, it would favor a method whose bad seeds break down."
        )


def _fit_limits(comparison: Comparison) -> Iterator[str]:
    for cell in comparison.cells:
        curves = cell.metrics.get(FIT_LIMIT_METRIC, {})
        if warning := fit_limit_warning(cell.label, [share for curve in curves.values() for share in curve.values]):
            yield warning


def _definition(compared: Sequence[PairComparison], told: Sequence[PairComparison]) -> Iterator[str]:
    tests = sum(not math.isnan(pair.p_value) for pair in compared)
    if not told:
        return
    among = f" after Holm's correction for the {tests} pairs compared" if tests > 1 else ""
    yield (
        "Firm means: the 95 % bootstrap intervals of the difference and of the probability of improvement both exclude "
        f"no difference, and the test gives p below 0.05{among}. {_ways(told)} Intervals are for each comparison "
        f"alone. Numbers of seeds are for that test with power 0.8{', corrected too' if tests > 1 else ''}, if the "
        "probability of improvement is what it looks like now."
    )


def _ways(told: Sequence[PairComparison]) -> str:
    """Which comparisons were paired, in words."""
    by_seed = (
        "share their seeds and are compared seed by seed: the difference is the IQM of the seeds' differences, the "
        "test is Wilcoxon's signed-rank test, the bootstrap resamples seeds."
    )
    apart = (
        "are compared unpaired: the difference is that of the two IQMs, the test is Mann and Whitney's, the bootstrap "
        "resamples each cell."
    )
    if all(pair.paired for pair in told):
        return f"The methods {by_seed}"
    if not any(pair.paired for pair in told):
        return f"The methods' seeds differ, and they {apart}"
    return f"Where it says so, methods {by_seed} The others {apart}"


# -- words -------------------------------------------------------------------------------------------------------


def _num_seeds(pair: PairComparison) -> str:
    first, second = len(pair.first.final_returns), len(pair.second.final_returns)
    return plural(first, "seed") if first == second else f"{first} and {plural(second, 'seed')}"
