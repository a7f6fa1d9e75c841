"""Comparisons seed by seed, against enumerations that are written out here."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.report.synthetic import cell_of, comparison_of
from vagram_ray.report.comparisons import compare_pairs
from vagram_ray.report.curves import ExperimentFacts
from vagram_ray.report.paired import (
    equivalence_p,
    paired_difference,
    paired_probability,
    seeds_for_firm_paired_answer,
    wilcoxon_p,
)


def signed_rank_p(d: list[float]) -> float:
    """Two-sided p by all 2^n signs: how often the rank sum is as far from its middle as the one that was seen."""
    sizes = np.abs(d)
    ranks = np.array([np.sum(sizes < size) + (np.sum(sizes == size) + 1) / 2 for size in sizes])
    middle = ranks.sum() / 2
    seen = abs(ranks[np.array(d) > 0].sum() - middle)
    sums = [abs(ranks[np.array(signs)].sum() - middle) for signs in product((True, False), repeat=len(d))]
    return float(np.mean(np.array(sums) >= seen - 1e-9))


@pytest.mark.parametrize(
    "d", [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [-1.0, 2.5, 3.0, -4.0, 7.0, 8.0, 9.0], [1.0, 1.0, -1.0, 2.0, 2.0, 5.0]]
)
def test_the_signed_rank_test_is_that_of_all_signs(d: list[float]) -> None:
    assert wilcoxon_p(np.array(d)) == pytest.approx(signed_rank_p(d))
    assert wilcoxon_p(np.array([*d, 0.0])) == pytest.approx(signed_rank_p(d))  # a seed without a difference


def test_the_signed_rank_test_by_hand() -> None:
    # Five differences of one sign: 2 of 32 choices of signs are as extreme.
    assert wilcoxon_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(2 / 32)
    # Only the smallest is negative: rank sums 0 and 1 at either end, 4 of 32.
    assert wilcoxon_p(np.array([-1.0, 2.0, 3.0, 4.0, 5.0])) == pytest.approx(4 / 32)
    assert wilcoxon_p(np.zeros(4)) == 1.0
    assert math.isnan(wilcoxon_p(np.zeros(0)))


def test_intervals_are_those_of_all_resamples_of_seeds() -> None:
    d = np.array([-1.0, 2.0, 6.0])
    drawn = np.array(list(product(d, repeat=3)))  # the IQM of three seeds is their mean
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975], method="inverted_cdf")
    assert paired_difference(d) == pytest.approx((7 / 3, low, high))
    wins = (drawn > 0).mean(axis=1)
    low, high = np.quantile(wins, [0.025, 0.975], method="inverted_cdf")
    assert paired_probability(d) == pytest.approx((2 / 3, low, high))
    assert paired_probability(np.array([0.0, 3.0])).value == 0.75  # a draw is half a win
    assert math.isnan(paired_difference(d[:1]).low) and math.isnan(paired_difference(d[:0]).value)


def test_seeds_for_a_firm_answer_by_hand() -> None:
    # Sums of two of -3, 1, 2, 4, 5: -2, -1, 1, 2, 3, 5, 6, 6, 7, 9; 8 of 10 are positive. 7.8489 / (3 * 0.09) = 29.07.
    assert seeds_for_firm_paired_answer(np.array([-3.0, 1.0, 2.0, 4.0, 5.0])) == 30
    # All are positive: 7.8489 / 0.75 = 10.5; for 1,000 tests (4.0556 + 0.8416)^2 / 0.75 = 31.98.
    assert seeds_for_firm_paired_answer(np.array([1.0, 2.0, 4.0])) == 11
    assert seeds_for_firm_paired_answer(np.array([1.0, 2.0, 4.0]), 1000) == 32
    assert seeds_for_firm_paired_answer(np.array([-1.0, 1.0])) is None
    assert seeds_for_firm_paired_answer(np.array([1.0])) is None


def test_equivalence_by_hand() -> None:
    d = np.array([-1.0, 2.0, -3.0, 4.0, -5.0, 6.0])
    # All of d + 7 and of 7 - d are positive: 1 of 2^6 signs is as extreme, on either side.
    assert equivalence_p(d, 7.0) == pytest.approx(1 / 64)
    # In d + 4.5 the smallest alone is negative, in 4.5 - d the second: ranks sum to at most 1 and 2 in 2 and 3 of 64.
    assert equivalence_p(d, 4.5) == pytest.approx(max(2, 3) / 64)
    assert math.isnan(equivalence_p(np.zeros(0), 1.0)) and math.isnan(equivalence_p(d, math.nan))


def test_equivalence_is_rarely_said_of_seeds_a_margin_apart() -> None:
    said = sum(equivalence_p(np.random.default_rng(n).normal(1.0, 1.0, 8), 1.0) <= 0.05 for n in range(400))
    assert said <= stats.binom.ppf(0.999, 400, 0.05)


EFFECT = np.array([-40.0, -25.0, -10.0, 0.0, 5.0, 20.0, 35.0, 50.0])  # of the seed, the same for both methods
LEAD = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5])


def test_cells_that_share_their_seeds_are_compared_seed_by_seed() -> None:
    a, b = cell_of(EFFECT + LEAD, model_loss="a"), cell_of(EFFECT, model_loss="b")
    (pair,) = compare_pairs(comparison_of(a, b))
    assert pair.seeds == tuple(range(8))
    assert pair.difference.value == (2.0 + 2.5 + 3.0 + 3.5) / 4
    assert pair.probability == (1.0, 1.0, 1.0)
    assert pair.p_value == pytest.approx(2 / 2**8)
    assert (pair.wins, pair.verdict) == (8, "better")
    # Unpaired, the seeds' own spread hides the lead.
    other = replace(b, seeds=tuple(range(8, 16)), final_returns=dict(enumerate(EFFECT, start=8)))
    (unpaired,) = compare_pairs(comparison_of(a, other))
    assert (unpaired.seeds, unpaired.verdict) == ((), "undecided")
    assert unpaired.p_value > 0.5


def test_only_seeds_that_both_planned_and_counted_make_pairs() -> None:
    a = cell_of({0: 1.0, 1: 5.0, 2: 3.0}, missing={3: "became NaN in epoch 2"}, model_loss="a")
    b = cell_of({0: 2.0, 1: 4.0}, missing={2: "at epoch 1 of 9", 3: "never reported"}, model_loss="b")
    b = replace(b, pending=frozenset({2}))
    (pair,) = compare_pairs(comparison_of(a, b))
    # Seed 2 may still come; seed 3 counts as the worst of either cell, 1 and 2.
    assert (pair.seeds, pair.wins, pair.fewest_seeds) == ((0, 1, 3), 1, 2)
    assert pair.difference.value == pytest.approx((-1 + 1 - 1) / 3)


def test_seeds_of_other_peoples_results_are_not_the_same_seeds() -> None:
    a, b = cell_of([1.0, 2.0], model_loss="a"), cell_of([0.0, 1.0], model_loss="b", experiment="theirs")
    comparison = comparison_of(a, b)
    assert compare_pairs(comparison)[0].seeds == (0, 1)  # two sweeps: the same seeds give the same distractors
    facts = (comparison.experiments[0], ExperimentFacts("theirs", Path("x.csv"), "CSV file in the long format"))
    assert compare_pairs(replace(comparison, experiments=facts))[0].seeds == ()
