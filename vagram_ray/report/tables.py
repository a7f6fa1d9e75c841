"""Final returns, pairs of methods and sample efficiency as tables: data for further work, and text to show.

Every table exists as a data frame with full precision, and as text in the same rows (``records.tables`` writes them).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vagram_ray.records.intervals import Interval, format_ends, format_interval, format_probability
from vagram_ray.records.tables import FINAL_NUMERIC, ReportTable, Row, final_row, make_table, without_empty
from vagram_ray.report.comparisons import PairComparison, against_reference, compare_pairs, seen_from
from vagram_ray.report.curves import CellCurves, Comparison
from vagram_ray.report.statistics import MAX_SEEDS, UNKNOWN_INTERVAL, areas_under_curves, iqm_span, steps_to_reach
from vagram_ray.text import format_number, format_value

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD_SHARES = (0.5, 0.75, 0.9)
"""Sample efficiency is told for these shares of a panel's way from its lowest first to its highest IQM."""


def report_tables(comparison: Comparison) -> list[ReportTable]:
    """All tables of a report. Those without rows are left out.

    In all of them ``low_95`` and ``high_95`` are an interval's ends, and numbers along the way begin with ``way_``.

    - ``final_returns``: a row per cell, as ``final_table`` has them.
    - ``pairs``: two cells of a panel. ``verdict`` is on the first, ``seeds_needed`` is empty above 1,000, and
      ``paired_seeds`` is 0 where the cells are not compared by seed.
    - ``against_reference``: a method minus the reference. ``better_on`` counts paired seeds.
    - ``steps_to_threshold``: a cell and a share of the panel's way. Without ``env_steps`` it is never reached, and the
      interval ends at ``inf``.
    """
    pairwise = [_against_reference(comparison), _pairs(comparison)]
    tables = [_final_returns(comparison), *pairwise, _steps(comparison)]
    return [table for table in tables if len(table.data)]


def final_table(comparison: Comparison) -> pd.DataFrame:
    """One row per cell: its axes, and the final return as in the sweep's ``summary.csv``.

    Columns: ``cell``, ``experiment``, one per axis, then ``iqm``, ``low_95``, ``high_95``, ``mean``,
    ``standard_error``, ``num_seeds`` (those that came to their end), ``num_planned``, ``missing``,
    ``counted_as_worst``, ``notes``, and ``way_iqm``, ``way_low_95``, ``way_high_95`` of the mean returns along the way.
    """
    return _final_returns(comparison).data


# -- what is in them ---------------------------------------------------------------------------------------------


def _final_returns(comparison: Comparison) -> ReportTable:
    several = len({cell.experiment for cell in comparison.cells}) > 1
    axes = list(dict.fromkeys(axis for cell in comparison.cells for axis in cell.axes))
    definition = next((facts.details.get("Final return", "") for facts in comparison.experiments), "")
    caption = f"Final return{f': {definition}' if definition else ''}; along the way: mean return over all steps"

    def rows() -> Iterator[Row]:
        for cell in comparison.cells:
            way = replace(cell, final_returns=areas_under_curves(cell)[0]).statistics
            data, text = final_row(cell)
            own = {axis: _plain(cell.axes.get(axis)) for axis in axes}
            ends = {"way_iqm": way.iqm, "way_low_95": way.low, "way_high_95": way.high}
            named = {"experiment": cell.experiment} if several else {}
            yield (
                {"cell": cell.label, "experiment": cell.experiment, **own, **data, **ends},
                {"cell": cell.label, **named, **text, "along the way (IQM)": format_interval(way.interval)},
            )

    table = make_table("final_returns", caption, rows(), [*FINAL_NUMERIC, "along the way (IQM)"])
    return without_empty(table, "missing", "notes")


def _pairs(comparison: Comparison) -> ReportTable:
    caption = (
        "Pairs of methods by final return. By seed: IQM of the seeds' differences, probability that the first is "
        "higher on a seed, two-sided Wilcoxon signed-rank p. Unpaired, where the seeds differ: difference of the IQMs, "
        "probability that a seed of the first ends above one of the second, two-sided Mann-Whitney p. Each with its "
        "95 % bootstrap interval; p also after Holm's correction for all comparisons with "
        "the reference, or for all other pairs; seeds per cell for a firm answer "
        "(power 0.8, corrected); along the way: the same difference of the mean returns over the steps that both share"
    )

    def rows() -> Iterator[Row]:
        for pair in compare_pairs(comparison):
            if pair.comparable:
                yield _pair_data(pair), _pair_text(pair)

    numeric = ["difference", "probability of improvement", "p", "p (Holm)", "seeds needed", "along the way"]
    return make_table("pairs", caption, rows(), numeric)


def _pair_data(pair: PairComparison) -> dict[str, Any]:
    return {
        "panel": pair.panel,
        "first": pair.first_name,
        "second": pair.second_name,
        "first_iqm": pair.first.statistics.iqm,
        "second_iqm": pair.second.statistics.iqm,
        **_numbers(pair),
        "probability_of_improvement": pair.probability.value,
        "probability_low_95": pair.probability.low,
        "probability_high_95": pair.probability.high,
        "equivalence_p": pair.equivalence_p_value,
        "margin": pair.margin,
        "verdict": pair.standing,
        "seeds_needed": "" if pair.seeds_needed is None else pair.seeds_needed,
        "way_holm_p": math.nan if pair.way is None else pair.way.adjusted_p_value,
        "way_verdict": "" if pair.way is None else pair.way.standing,
    }


def _numbers(pair: PairComparison) -> dict[str, Any]:
    """What both tables of pairs tell of the first of two methods."""
    way = UNKNOWN_INTERVAL if pair.way is None else pair.way.difference
    return {
        "difference": pair.difference.value,
        "low_95": pair.difference.low,
        "high_95": pair.difference.high,
        "test": "wilcoxon" if pair.paired else "mann_whitney",
        "p": pair.p_value,
        "holm_p": pair.adjusted_p_value,
        "paired_seeds": len(pair.seeds),
        "better_on": pair.wins,
        "way_difference": way.value,
        "way_low_95": way.low,
        "way_high_95": way.high,
    }


def _pair_text(pair: PairComparison) -> dict[str, str]:
    return {
        "panel": pair.panel,
        "first": pair.first_name,
        "second": pair.second_name,
        **_shown(pair),
        "probability of improvement": format_probability(pair.probability),
        "verdict": pair.standing,
        "seeds needed": _seeds_needed(pair),
        "verdict on the way": "-" if pair.way is None else pair.way.standing,
    }


def _shown(pair: PairComparison) -> dict[str, str]:
    """The same as text."""
    return {
        "difference": format_interval(pair.difference),
        "better on": f"{pair.wins} of {len(pair.seeds)} seeds" if pair.paired else "unpaired",
        "p": _p_value(pair.p_value),
        "p (Holm)": _p_value(pair.adjusted_p_value),
        "along the way": "-" if pair.way is None else format_interval(pair.way.difference),
    }


def _against_reference(comparison: Comparison) -> ReportTable:
    """Every line against the reference inside each panel. No rows for two lines: those are the pairs."""
    focus = comparison.focus
    own = against_reference(comparison)
    caption = (
        f"Final return of every method minus that of {focus}, panel by panel: IQM of the seeds' differences with its "
        "95 % bootstrap interval over seeds, seeds on which the method is better, two-sided p of Wilcoxon's "
        "signed-rank test and after Holm's correction for all rows (unpaired where it says so: difference of the "
        "IQMs, Mann-Whitney p)"
    )

    def rows() -> Iterator[Row]:
        for pair in own if comparison.reference is not None or len(comparison.lines) > 2 else ():
            yield _reference_row(seen_from(pair, pair.second_name if pair.first_name == focus else pair.first_name))

    return make_table("against_reference", caption, rows(), ["IQM", "difference", "p", "p (Holm)", "along the way"])


def _reference_row(pair: PairComparison) -> Row:
    names = {"panel": pair.panel, "method": pair.first_name}
    iqms = {"iqm": pair.first.statistics.iqm, "reference_iqm": pair.second.statistics.iqm}
    data = {**names, "reference": pair.second_name, **iqms, **_numbers(pair)}
    return data, {**names, "IQM": format_number(pair.first.statistics.iqm), **_shown(pair)}


def _seeds_needed(pair: PairComparison) -> str:
    if pair.verdict != "undecided":
        return "-"
    return f"> {MAX_SEEDS:,}" if pair.seeds_needed is None else f"{pair.seeds_needed:,}"


def _p_value(p: float) -> str:
    return "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _steps(comparison: Comparison) -> ReportTable:
    caption = (
        "Sample efficiency: environment steps until the IQM of the returns first reaches a threshold, with the 95 % "
        f"bootstrap interval; thresholds lie {_listed(THRESHOLD_SHARES)} of the panel's way from its lowest first IQM "
        "to its highest IQM"
    )

    def rows() -> Iterator[Row]:
        for panel in comparison.panels():
            thresholds = thresholds_of(panel.cells)
            for cell in panel.cells if len(thresholds) else ():
                reached = steps_to_reach(cell, thresholds)
                for share, threshold, steps in zip(THRESHOLD_SHARES, thresholds, reached, strict=True):
                    yield _steps_row(panel.title, comparison.line_name(cell), share, threshold, steps)

    return make_table("steps_to_threshold", caption, rows(), ["threshold", "env steps", "95 % interval"])


def _steps_row(panel: str, line: str, share: float, threshold: float, steps: Interval) -> Row:
    never = math.isinf(steps.value)
    data = {
        "panel": panel,
        "line": line,
        "share_of_way": share,
        "threshold": threshold,
        "env_steps": math.nan if never else steps.value,
        "low_95": steps.low,
        "high_95": steps.high,
    }
    text = {
        "panel": panel,
        "line": line,
        "threshold": format_number(threshold),
        "env steps": "never" if never else f"{steps.value:,.0f}",
        "95 % interval": "-" if never and math.isinf(steps.low) else format_ends(steps),
    }
    return data, text


def thresholds_of(cells: Sequence[CellCurves]) -> np.ndarray:
    """Returns (K,) at ``THRESHOLD_SHARES`` of the way from the cells' lowest first IQM to their highest, or none."""
    low, high = iqm_span(cells)
    return low + np.array(THRESHOLD_SHARES) * (high - low) if high > low else np.zeros(0)


def _listed(shares: Sequence[float]) -> str:
    texts = [f"{100 * share:g} %" for share in shares]
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, bool)) else format_value(value)
