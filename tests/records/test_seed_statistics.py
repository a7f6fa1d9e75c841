"""The rule for seeds without a return, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vagram_ray.records.seed_statistics import (
    counted_returns,
    fewest_seeds,
    interquartile_mean,
    most_comparisons,
    with_worst,
)

NAN = math.nan


def test_a_lost_seed_has_the_worst_return_of_the_others_at_every_point() -> None:
    values = np.array([[1.0, 5.0, NAN, NAN], [3.0, 2.0, 8.0, NAN], [-9.0, NAN, NAN, NAN]])
    lost = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    expected = [[1.0, 5.0, NAN, NAN], [3.0, 2.0, 8.0, NAN], [1.0, 2.0, 8.0, NAN]]
    np.testing.assert_array_equal(with_worst(values, lost), expected)
    assert with_worst(np.zeros((0, 2)), np.zeros((0, 2), dtype=bool)).shape == (0, 2)


def test_returns_by_seed_are_filled_up() -> None:
    assert counted_returns({4: -2.0, 0: 7.0}, [9, 1]) == {0: 7.0, 1: -2.0, 4: -2.0, 9: -2.0}
    assert counted_returns({4: -2.0}, []) == {4: -2.0}
    assert counted_returns({}, [0, 1]) == {}


def test_the_rule_turns_a_lead_that_broken_seeds_made() -> None:
    """Half of a method's seeds break down: left out it is ahead, 10 against 6; counted it is behind, 5 against 6."""
    breaks, lasts = {0: 4.0, 1: 8.0, 2: 12.0, 3: 16.0}, dict.fromkeys(range(8), 6.0)
    assert interquartile_mean(list(breaks.values())) == 10.0
    counted = counted_returns(breaks, [4, 5, 6, 7])
    # 4, 4, 4, 4, 4, 8, 12, 16 without two at either end.
    assert interquartile_mean(list(counted.values())) == (4 + 4 + 4 + 8) / 4
    assert interquartile_mean(list(counted.values())) < interquartile_mean(list(lasts.values()))


@pytest.mark.parametrize("comparisons", [1, 2, 9, 14])
def test_fewer_seeds_are_never_significant_and_as_many_can_be(comparisons: int) -> None:
    def smallest(seeds: int) -> float:
        """p of differences that all have the same sign, after Holm's correction."""
        return comparisons * float(stats.wilcoxon(np.arange(1.0, seeds + 1), method="exact").pvalue)

    fewest = fewest_seeds(comparisons)
    assert smallest(fewest) <= 0.05 < smallest(fewest - 1)
    assert most_comparisons(fewest - 1) < comparisons <= most_comparisons(fewest)
