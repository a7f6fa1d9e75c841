"""The answer in words: which method is better where, by how much, how sure that is, and how many seeds would decide.

The three verdicts are those of :mod:`vagram_ray.report.comparisons`. No sentence says more than its intervals do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vagram_ray.records.fit_limit import FIT_LIMIT_METRIC, fit_limit_warning
from vagram_ray.records.intervals import format_interval, format_probability
from vagram_ray.records.seed_statistics import MIN_SEEDS, SIGNIFICANCE, most_comparisons
from vagram_ray.report.comparisons import (
    MARGIN_SHARE,
    PairComparison,
    against_reference,
    negative,
    seen_from,
)
from vagram_ray.report.curves import Comparison
from vagram_ray.report.statistics import MAX_SEEDS
from vagram_ray.report.text import describe_panel, spoken
from vagram_ray.text import format_number, plural

MAX_SENTENCES = 24
"""More comparisons than this are told only where one is better, and the others counted."""
MAX_MISSING = 12
"""Cells with missing seeds that are named one by one."""


def verdict(comparison: Comparison) -> list[str]:
    """Sentences for a researcher, most general first, and at the end what their words mean."""
    return [*findings(comparison), *definitions(comparison)]


def findings(comparison: Comparison) -> list[str]:
    """The findings, in sentences."""
    told = against_reference(comparison)
    return [
        *_completeness(comparison),
        *_pair_sentences(comparison, comparison.focus, told),
        *_without_answer(comparison, told),
        *_missing(comparison),
        *_fit_limits(comparison),
        *next_step(comparison),
    ]


def _completeness(comparison: Comparison) -> Iterator[str]:
    planned = sum(len(cell.seeds) for cell in comparison.cells)
    there = sum(len(cell.final_returns) for cell in comparison.cells)
    if there < planned:
        yield f"Not complete: {there} of {plural(planned, 'seed')} came to their end, counted over all cells."


# -- pairs -------------------------------------------------------------------------------------------------------


def _pair_sentences(comparison: Comparison, focus: str, told: Sequence[PairComparison]) -> Iterator[str]:
    clear = [pair for pair in told if "better" in (pair.verdict, pair.way and pair.way.verdict)]
    chosen = told if len(told) <= MAX_SENTENCES else clear[:MAX_SENTENCES]
    for pair in chosen:
        yield _sentence(comparison, seen_from(pair, focus))
    if left := len(told) - len(chosen):
        rest = f", {len(clear) - len(chosen)} of them firm" if len(clear) > len(chosen) else ""
        yield f"{plural(left, 'more comparison')} of {spoken(focus)}{rest}: see the table of pairs."


def _sentence(comparison: Comparison, pair: PairComparison) -> str:
    """The sentences on a pair whose first cell is the one they are about."""
    if pair.verdict == "better" and pair.difference.value < 0:
        pair = seen_from(pair, pair.second_name)
    where = describe_panel(comparison, pair.first, pair.second)
    a, b = spoken(pair.first_name), spoken(pair.second_name)
    iqms = f"IQM {format_number(pair.first.statistics.iqm)} against {format_number(pair.second.statistics.iqm)}"
    numbers = f"({iqms}; {_how(pair)}; probability of improvement {format_probability(pair.probability)})"
    if pair.fewest_seeds < MIN_SEEDS:
        sentence = f"{a} against {b} is undecided, {_num_seeds(pair)} are too few to say more: {iqms}.{_ends(pair)}"
        return f"{where}, {sentence}" if where else sentence
    difference = format_interval(pair.difference)
    if pair.verdict == "better":
        sentence = f"{a} is better than {b} at the end by {difference}, firm {numbers}."
    elif pair.verdict == "equivalent":
        sentence = f"{a} and {b} are equivalent at the end, within {_margin(pair)}: {difference} {numbers}."
    else:
        sentence = f"{a} against {b} is undecided at the end: {difference} {numbers}, {_needed(pair)}."
    sentence += _ends(pair) + (f" {_along_the_way(pair, a)}" if pair.way else "")
    return f"{where}, {sentence}" if where else sentence


def _ends(pair: PairComparison) -> str:
    """That the two final returns are of different environment steps, where they are."""
    steps = []
    for cell in (pair.first, pair.second):
        curves = [cell.returns[seed] for seed in cell.final_returns if seed in cell.returns]
        steps.append(max((int(curve.env_steps[-1]) for curve in curves), default=0))
    return (
        f" They end at different steps: {steps[0]:,} and {steps[1]:,}." if all(steps) and steps[0] != steps[1] else ""
    )


def _along_the_way(pair: PairComparison, name: str) -> str:
    way = pair.way
    assert way is not None
    if way.verdict == "better":
        ahead = way.difference.value > 0
        shown = format_interval(way.difference if ahead else negative(way.difference))
        return f"Along the way {name} is {'better' if ahead else 'worse'} by {shown}, firm."
    difference = format_interval(way.difference)
    if way.verdict == "equivalent":
        return f"Along the way they are equivalent within {_margin(way)}: {difference}."
    return f"Along the way undecided: {difference}, {_needed(way)}."


def _margin(pair: PairComparison) -> str:
    return f"±{format_number(pair.margin)}"


def _how(pair: PairComparison) -> str:
    """How the two were compared: seed by seed, or as two samples."""
    if pair.paired:
        return f"seed by seed, higher on {pair.wins} of {len(pair.seeds)}"
    return "unpaired, their seeds differ"


def _needed(pair: PairComparison) -> str:
    if pair.seeds_needed is None:
        return f"more than {MAX_SEEDS:,} seeds per cell would be needed to decide"
    if pair.seeds_needed <= pair.fewest_seeds:  # the test alone would do, an interval does not exclude no difference
        return "a few more seeds per cell would decide"
    return f"about {pair.seeds_needed:,} seeds per cell would decide"


def next_step(comparison: Comparison) -> Iterator[str]:
    """The next run: the undecided comparison that the fewest seeds would decide."""
    focus, told = comparison.focus, against_reference(comparison)
    open_ends = [pair for pair in told if pair.verdict == "undecided"]
    known = [pair for pair in open_ends if pair.seeds_needed is not None and pair.fewest_seeds >= MIN_SEEDS]
    if not open_ends:
        if told:
            yield "Next: no comparison at the end needs more seeds. What is open is how other tasks and sizes come out."
        return
    fewest = {pair: _fewest_for_firm(pair, len(told)) for pair in open_ends}
    if not known:
        yield (
            f"Next: {min(fewest.values())} seeds per cell are the fewest that decide anything here."
            if any(pair.fewest_seeds < seeds for pair, seeds in fewest.items())
            else f"Next: {MAX_SEEDS:,} seeds per cell would decide none of the undecided comparisons."
        )
        return
    closest = min(known, key=lambda pair: pair.seeds_needed or 0)
    needed = max(closest.seeds_needed or 0, closest.fewest_seeds + 1, fewest[closest])
    pair = seen_from(closest, focus)
    where = describe_panel(comparison, pair.first, pair.second).removeprefix("With ")
    seeds = sorted({seed for cell in comparison.cells for seed in cell.seeds})
    one_sweep = len(comparison.experiments) == 1 and comparison.experiments[0].kind == "sweep"
    how = f" (the sweep's command with --seeds 0-{needed - 1})" if one_sweep and seeds[0] == 0 else ""
    among = f", the closest of {len(open_ends)} undecided comparisons" if len(open_ends) > 1 else ""
    yield (
        f"Next: about {needed} seeds per cell would decide {spoken(pair.first_name)} against "
        f"{spoken(pair.second_name)}{f' ({where})' if where else ''}{among}{how}."
    )
    seeds_compared = _seeds_compared(closest)
    if not _can_be_firm(closest.paired, *seeds_compared, len(told)):
        yield (
            f"With {' and '.join(map(str, dict.fromkeys(seeds_compared)))} seeds no difference can be firm among "
            f"{len(told)} comparisons, however large it is: {fewest[closest]} are the fewest."
        )


def _seeds_compared(pair: PairComparison) -> tuple[int, int]:
    if pair.paired:
        return len(pair.seeds), len(pair.seeds)
    return len(pair.first.scores), len(pair.second.scores)


def _can_be_firm(paired: bool, first: int, second: int, tests: int) -> bool:
    """Whether the test of so many seeds of two cells can be firm among so many tests, by Holm's correction.

    Unpaired, the smallest two-sided p-value of Mann and Whitney's test is 2 / C(n + m, n).
    """
    if paired:
        return tests <= most_comparisons(first)
    return tests * 2 / math.comb(first + second, first) <= SIGNIFICANCE


def _fewest_for_firm(pair: PairComparison, tests: int) -> int:
    """Seeds per cell below which the test of such a pair cannot be firm."""
    seeds = MIN_SEEDS
    while not _can_be_firm(pair.paired, seeds, seeds, tests):
        seeds += 1
    return seeds


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
        counted = cell.worst_in_words
        yield f"Missing in {cell.label}: {cell.missing_in_words}{f'; {counted}' if counted else ''}."
    if len(lacking) > MAX_MISSING:
        yield f"Seeds are missing in {plural(len(lacking) - MAX_MISSING, 'more cell')}: see the table of final returns."
    if any(cell.worst for cell in lacking):
        yield (
            "A lost seed counts as the worst of its cell in every number, in curves from where it has no return on: "
            "left out, it would favor a method whose bad seeds break down."
        )


def _fit_limits(comparison: Comparison) -> Iterator[str]:
    for cell in comparison.cells:
        curves = cell.metrics.get(FIT_LIMIT_METRIC, {})
        if warning := fit_limit_warning(cell.label, [share for curve in curves.values() for share in curve.values]):
            yield warning


def warnings_in_short(comparison: Comparison) -> list[str]:
    """What the first screen warns of: that seeds are missing, and that fits reach their limit in so many cells."""
    limits = list(_fit_limits(comparison))
    if len(limits) > 1:
        first, cells = limits[0].partition(": ")[0], plural(len(comparison.cells), "cell")
        limits = [
            f"Model fits end at model_max_epochs in {len(limits)} of {cells} ({first} among them): raise it, or remove "
            "it (None)."
        ]
    return [*_completeness(comparison), *limits]


def definitions(comparison: Comparison) -> Iterator[str]:
    """The meaning of the verdicts, for a footnote, or nothing where there is no comparison."""
    if not against_reference(comparison):
        return
    margin = (
        f"{format_number(comparison.margin)}, as given"
        if comparison.margin is not None
        else f"{100 * MARGIN_SHARE:g} % of the panel's way from its lowest first to its highest IQM"
    )
    yield (
        "Firm means: the 95 % bootstrap intervals of the difference and of the probability of improvement both exclude "
        "no difference, and the test gives p below 0.05 after Holm's correction for all comparisons with "
        f"{spoken(comparison.focus)}. Equivalent means: two one-sided tests exclude differences beyond the margin (p "
        f"below 0.05, so corrected), which is {margin}. Everything else is undecided. The end is the final return, the "
        "way the mean return over the steps that both share (area under the curve). Seed by seed, the difference is "
        "the IQM of the seeds' differences, tested by Wilcoxon's signed-rank test; unpaired, it is that of the two "
        "IQMs, tested by Mann and Whitney's. Numbers of seeds are for power 0.8, if the difference is what it looks "
        "like now."
    )


# -- words -------------------------------------------------------------------------------------------------------


def _num_seeds(pair: PairComparison) -> str:
    first, second = len(pair.first.final_returns), len(pair.second.final_returns)
    return plural(first, "seed") if first == second else f"{first} and {plural(second, 'seed')}"
