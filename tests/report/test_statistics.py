"""Statistics against rliable's own code, numbers worked out by hand, and simulations."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas.util._decorators as pandas_decorators
import pytest
from scipy import stats

from tests.report.synthetic import cell_of, comparison_of, normal
from vagram_ray.records.intervals import Interval
from vagram_ray.records.seed_statistics import interquartile_mean, summarize
from vagram_ray.report import statistics
from vagram_ray.report.bootstrap import resampled_counts, resampled_indices
from vagram_ray.report.comparisons import compare_pairs, verdict_of
from vagram_ray.report.statistics import (
    holm,
    iqm_band,
    iqm_difference,
    mann_whitney_p,
    mean_and_standard_error,
    on_common_steps,
    performance_profile,
    probability_of_improvement,
    seeds_for_firm_answer,
    steps_to_reach,
)


def rliable() -> Any:
    return pytest.importorskip("rliable.metrics")


@pytest.fixture(scope="module")
def rliable_intervals() -> Any:
    """``rliable``'s own stratified bootstrap, which draws from NumPy's global generator.

    Skipped where it is not installed. It needs ``arch`` below 8, which calls a helper of pandas with the arguments of
    pandas 2.
    """
    pytest.importorskip("rliable")
    original = pandas_decorators.deprecate_kwarg

    def of_both_versions(*args: Any, **options: Any) -> Any:
        old_style = bool(args) and isinstance(args[0], str)
        return (lambda function: function) if old_style else original(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pandas_decorators, "deprecate_kwarg", of_both_versions)
        from rliable import library

    def intervals(scores: Any, function: Any, reps: int = 2000) -> tuple[np.ndarray, np.ndarray]:
        np.random.seed(1)
        points, ends = library.get_interval_estimates({"": scores}, function, reps=reps)
        return np.asarray(points[""]), np.asarray(ends[""])

    return intervals


# -- the bootstrap -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 18))
def test_interquartile_means_are_scipys(count: int) -> None:
    values = normal(count, 5, count)
    np.testing.assert_allclose(interquartile_mean(values), stats.trim_mean(values, 0.25, axis=1))


def test_interquartile_means_leave_out_what_is_not_there() -> None:
    values = normal(0, 6, 11)
    for row in range(6):
        values[row, : 2 * row] = np.nan
    expected = [stats.trim_mean(row[~np.isnan(row)], 0.25) for row in values]
    np.testing.assert_allclose(interquartile_mean(values), expected)
    assert math.isnan(interquartile_mean(np.array([np.nan, np.nan])))
    assert math.isnan(interquartile_mean(np.zeros(0)))


def test_resamples_are_uniform_and_their_counts_say_the_same() -> None:
    indices, counts = resampled_indices(3, 9000, 5), resampled_counts(3, 9000, 5)
    for resample in (0, 17, 8999):
        assert counts[resample].tolist() == [np.sum(indices[resample] == seed) for seed in range(3)]
    # All 27 ordered samples of three seeds come up about equally often.
    seen = np.bincount(indices @ [9, 3, 1], minlength=27)
    assert stats.chisquare(seen).pvalue > 0.001
    assert not np.array_equal(resampled_indices(3, 9000, 5), resampled_indices(3, 9000, 6))


def test_the_interval_of_two_seeds_is_that_of_all_their_resamples() -> None:
    # Of two seeds: (0, 0), (0, 1), (1, 0), (1, 1) with means 0, 5, 5, 10 a quarter each.
    iqm, low, high = iqm_band(np.array([[0.0, 1.0], [10.0, 1.0]]))
    assert (iqm.tolist(), low.tolist(), high.tolist()) == ([5.0, 1.0], [0.0, 1.0], [10.0, 1.0])


def test_nothing_depends_on_what_was_called_before() -> None:
    a, b = cell_of(normal(0, 8)), cell_of(normal(1, 8))
    state = np.random.get_state()[1].copy()

    def everything() -> list[Any]:
        profile = performance_profile(a, [0.0])
        numbers = [*iqm_difference(a, b), *probability_of_improvement(a, b), *a.statistics.interval]
        return [*numbers, *(part.tolist() for part in (*profile, *iqm_band(normal(2, 8, 3))))]

    first = everything()
    assert np.array_equal(state, np.random.get_state()[1])  # NumPy's global generator is left alone
    probability_of_improvement(b, a)
    np.random.seed(3)
    resampled_indices.cache_clear()
    assert everything() == first


# -- curves ------------------------------------------------------------------------------------------------------


def test_seeds_with_the_same_steps_keep_them_all() -> None:
    steps = list(range(0, 100_000, 100))
    cell = cell_of([1.0, 2.0], curves={0: (steps, normal(0, 1000)), 1: (steps, normal(1, 1000))})
    common, returns = on_common_steps(cell)
    assert common.tolist() == steps
    np.testing.assert_array_equal(returns[1], normal(1, 1000))


def test_common_steps_by_hand() -> None:
    cell = cell_of([0.0, 0.0], curves={3: ([100, 300], [1.0, 3.0]), 7: ([200, 400], [10.0, 30.0])})
    steps, returns = on_common_steps(cell)
    assert steps.tolist() == [100, 200, 300, 400]
    np.testing.assert_array_equal(returns, [[1.0, 2.0, 3.0, np.nan], [np.nan, 10.0, 20.0, 30.0]])
    steps, returns = on_common_steps(cell_of([], curves={}))
    assert (steps.shape, returns.shape) == ((0,), (0, 0))


def test_lost_seeds_count_as_the_worst_in_curves_from_where_they_end() -> None:
    steps = [100, 200, 300]
    curves = {0: (steps, [5.0, 6.0, 9.0]), 1: (steps, [1.0, 8.0, 7.0]), 4: (steps[:1], [3.0])}
    missing = {2: "never reported", 4: "became NaN in epoch 2", 6: "not reported yet"}
    cell = replace(cell_of({0: 9.0, 1: 7.0}, curves=curves, missing=missing), pending=frozenset({6}))
    common, returns = on_common_steps(cell)
    assert common.tolist() == steps
    # Seeds 0, 1, 4 and then 2, which is the worst of 5, 1, 3 at once; 6 may still come.
    assert returns.tolist() == [[5.0, 6.0, 9.0], [1.0, 8.0, 7.0], [3.0, 6.0, 7.0], [1.0, 6.0, 7.0]]
    # 1, 1, 3, 5 and 6, 6, 6, 8 and 7, 7, 7, 9, of which the two in the middle count.
    assert iqm_band(returns)[0].tolist() == [2.0, 6.0, 7.0]
    assert cell.scores == {0: 9.0, 1: 7.0, 2: 7.0, 4: 7.0}
    assert cell.statistics.iqm == 7.0
    assert performance_profile(cell, [8.0])[0].tolist() == [0.25]


def test_many_different_steps_are_thinned() -> None:
    curves = {seed: (np.unique((normal(seed, 900) ** 2 * 1000).astype(int)), None) for seed in range(3)}
    cell = cell_of([], curves={seed: (steps, 2.0 * steps) for seed, (steps, _) in curves.items()})
    steps, returns = on_common_steps(cell)
    assert len(steps) <= statistics.MAX_STEPS
    there = ~np.isnan(returns)
    np.testing.assert_allclose(returns[there], np.broadcast_to(2.0 * steps, returns.shape)[there])


def test_mean_and_standard_error_leave_out_what_is_not_there() -> None:
    returns = np.array([[1.0, 4.0, np.nan], [3.0, np.nan, np.nan], [8.0, np.nan, np.nan]])
    mean, error = mean_and_standard_error(returns)
    np.testing.assert_allclose(mean, [4.0, 4.0, np.nan])
    np.testing.assert_allclose(error, [np.std([1, 3, 8], ddof=1) / math.sqrt(3), np.nan, np.nan])


def test_bands_agree_with_rliable(rliable_intervals: Any) -> None:
    returns = normal(4, 10, 6) * [1, 2, 3, 4, 5, 6] + np.arange(6)
    iqm, low, high = iqm_band(returns)
    points, ends = rliable_intervals(returns, lambda scores: stats.trim_mean(scores, 0.25, axis=0))
    np.testing.assert_allclose(iqm, points)
    np.testing.assert_allclose([low, high], ends, atol=0.15 * float((ends[1] - ends[0]).max()))
    assert np.all(np.abs(low - ends[0]) < 0.12 * (ends[1] - ends[0]))
    assert np.all(np.abs(high - ends[1]) < 0.12 * (ends[1] - ends[0]))


def test_a_band_needs_two_seeds_at_a_step() -> None:
    returns = np.array([[1.0, 1.0, np.nan], [2.0, np.nan, np.nan], [3.0, np.nan, np.nan]])
    iqm, low, high = iqm_band(returns)
    np.testing.assert_array_equal(iqm, [2.0, 1.0, np.nan])
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True, True]
    assert all(part.shape == (0,) for part in iqm_band(np.zeros((0, 0))))


def test_steps_to_reach_by_hand() -> None:
    steps = [100, 200, 300]
    cell = cell_of([], curves={0: (steps, [0.0, 4.0, 2.0]), 1: (steps, [0.0, 0.0, 6.0])})
    # The IQM of two seeds is their mean: 0, 2, 4. Seed 0 alone reaches 2 at 200, seed 1 alone at 300.
    # Seed 0 alone, a quarter of the resamples, never gets to 5; both together do not either.
    assert steps_to_reach(cell, [-1.0, 2.0, 4.0, 5.0, 7.0]) == [
        Interval(100.0, 100.0, 100.0),
        Interval(200.0, 200.0, 300.0),
        Interval(300.0, 200.0, 300.0),
        Interval(math.inf, 300.0, math.inf),
        Interval(math.inf, math.inf, math.inf),
    ]


def test_steps_to_reach_with_few_seeds() -> None:
    (reached,) = steps_to_reach(cell_of([], curves={0: ([100, 200], [0.0, 1.0])}), [0.5])
    assert reached.value == 200.0
    assert math.isnan(reached.low)
    assert steps_to_reach(cell_of([], curves={}), [0.5])[0].value == math.inf


# -- final returns -----------------------------------------------------------------------------------------------


def test_the_final_iqm_is_the_summarys() -> None:
    for count in (1, 2, 8):
        expected = summarize(normal(count, count))
        np.testing.assert_equal(
            cell_of(normal(count, count)).statistics.interval, (expected.iqm, expected.low, expected.high)
        )
    assert math.isnan(cell_of([]).statistics.iqm)


def test_differences_agree_with_rliable(rliable_intervals: Any) -> None:
    x, y = normal(0, 8) + 1.0, 2.0 * normal(1, 6)
    difference = iqm_difference(cell_of(x), cell_of(y))
    point, ends = rliable_intervals(
        [x[:, None], y[:, None]], lambda a, b: np.array([rliable().aggregate_iqm(a) - rliable().aggregate_iqm(b)])
    )
    assert difference.value == pytest.approx(float(point[0]))
    width = float(ends[1, 0] - ends[0, 0])
    assert difference.low == pytest.approx(float(ends[0, 0]), abs=0.1 * width)
    assert difference.high == pytest.approx(float(ends[1, 0]), abs=0.1 * width)


def test_the_probability_of_improvement_counts_pairs() -> None:
    a, b = [1.0, 4.0, 5.0], [2.0, 4.0]
    pairs = [float(x > y) + 0.5 * float(x == y) for x, y in product(a, b)]
    found = probability_of_improvement(cell_of(a), cell_of(b))
    assert found.value == pytest.approx(np.mean(pairs))
    mirrored = probability_of_improvement(cell_of(b), cell_of(a))
    assert mirrored.value == pytest.approx(1 - found.value)


def test_the_interval_of_the_probability_is_that_of_all_resamples() -> None:
    a, b = np.array([1.0, 4.0, 5.0]), np.array([2.0, 4.5])
    drawn = [
        np.mean([x > y for x, y in product(a[list(first)], b[list(second)])])
        for first in product(range(3), repeat=3)
        for second in product(range(2), repeat=2)
    ]
    found = probability_of_improvement(cell_of(a), cell_of(b))
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx((low, high))


def test_probabilities_agree_with_rliable(rliable_intervals: Any) -> None:
    x, y = normal(0, 8) + 0.5, normal(1, 8)
    found = probability_of_improvement(cell_of(x), cell_of(y))
    both = [x[:, None], y[:, None]]
    point, ends = rliable_intervals(both, lambda a, b: np.array([rliable().probability_of_improvement(a, b)]), 500)
    assert found.value == pytest.approx(float(point[0]))
    assert found.low == pytest.approx(float(ends[0, 0]), abs=0.04)
    assert found.high == pytest.approx(float(ends[1, 0]), abs=0.04)


def test_too_few_seeds_leave_intervals_open() -> None:
    one, more, none = cell_of([1.0]), cell_of([0.0, 2.0, 3.0]), cell_of([])
    for function, value in ((iqm_difference, 1.0 - 5.0 / 3.0), (probability_of_improvement, 1.0 / 3.0)):
        interval = function(one, more)
        assert interval.value == pytest.approx(value)
        assert math.isnan(interval.low)
        assert all(math.isnan(number) for number in function(none, more))


def test_a_profile_by_hand() -> None:
    share, low, high = performance_profile(cell_of([1.0, 2.0, 3.0, 4.0]), [0.0, 2.0, 3.5, 4.0])
    assert share.tolist() == [1.0, 0.5, 0.25, 0.0]  # above, not at
    # The number of four seeds above 2 is binomial: quantiles 0 and 1 at 2.5 % (1/16 at either end).
    assert (low[1], high[1]) == (0.0, 1.0)
    assert (low[0], high[0], low[3], high[3]) == (1.0, 1.0, 0.0, 0.0)
    assert np.isnan(performance_profile(cell_of([]), [0.0])).all()


def test_profiles_agree_with_rliable(rliable_intervals: Any) -> None:
    scores = normal(5, 12)
    taus = np.linspace(-2, 2, 9)
    share, low, high = performance_profile(cell_of(scores), taus)
    point, ends = rliable_intervals(scores[:, None], lambda values: (values[..., None] > taus).mean(axis=(0, 1)))
    np.testing.assert_allclose(share, point)
    np.testing.assert_allclose([low, high], ends, atol=0.03)


# -- tests and words ---------------------------------------------------------------------------------------------


def test_mann_whitney_by_hand() -> None:
    # Four above four: 2 of the 70 ways to split eight ranks are as extreme.
    assert mann_whitney_p(cell_of([5.0, 6.0, 7.0, 8.0]), cell_of([1.0, 2.0, 3.0, 4.0])) == pytest.approx(2 / 70)
    assert mann_whitney_p(cell_of([1.0, 1.0]), cell_of([1.0, 1.0])) == 1.0
    assert math.isnan(mann_whitney_p(cell_of([]), cell_of([1.0])))


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    corrected = holm([0.01, math.nan, 0.9, 0.8])
    assert [corrected[0], *corrected[2:]] == pytest.approx([0.03, 1.0, 1.0])
    assert math.isnan(corrected[1])
    assert holm([]) == []


def test_seeds_for_a_firm_answer_by_hand() -> None:
    # 13 of 16 pairs: p = 0.8125, (1.95996 + 0.84162)^2 = 7.8489, over 6 * 0.3125^2.
    a, b = cell_of([1.0, 3.0, 4.0, 5.0]), cell_of([0.0, 0.5, 2.0, 3.5])
    assert probability_of_improvement(a, b).value == 0.8125
    assert seeds_for_firm_answer(a, b) == math.ceil(7.8489 / (6 * 0.3125**2)) == 14
    assert seeds_for_firm_answer(b, a) == 14
    assert seeds_for_firm_answer(a, b, comparisons=18) == 26  # (2.99132 + 0.84162)^2 = 14.6914
    assert seeds_for_firm_answer(a, a) is None
    assert seeds_for_firm_answer(a, cell_of([])) is None


@pytest.mark.parametrize(("shift", "comparisons"), [(0.6, 1), (0.8, 1), (1.2, 6), (1.5, 1)])
def test_so_many_seeds_find_the_difference_four_times_in_five(shift: float, comparisons: int) -> None:
    exact = stats.norm.cdf(shift / math.sqrt(2))  # that one of N(shift, 1) is above one of N(0, 1)
    a, b = cell_of([400.0 * exact - 0.5]), cell_of(np.arange(400.0))  # a pair of just that probability, to 1 / 400
    seeds = seeds_for_firm_answer(a, b, comparisons)
    assert seeds is not None
    generator = np.random.default_rng(0)
    x, y = generator.normal(shift, 1, (2000, seeds)), generator.normal(0, 1, (2000, seeds))
    p = stats.mannwhitneyu(x, y, axis=1, method="asymptotic").pvalue
    # Noether's formula is exact for small differences and asks for a seed or two more than needed for large ones.
    assert 0.76 <= np.mean(p <= 0.05 / comparisons) <= 0.92


def test_verdicts_follow_their_thresholds() -> None:
    above, around, below = Interval(9.0, 1.0, 20.0), Interval(1.0, -8.0, 9.0), Interval(-9.0, -20.0, -1.0)
    sure, even = Interval(0.9, 0.7, 1.0), Interval(0.55, 0.3, 0.8)
    assert verdict_of(above, sure, 0.01, 0.9, 8) == "better"
    assert verdict_of(above, sure, 0.01, 0.01, 8) == "better"  # by less than the margin, and still better
    assert verdict_of(above, sure, 0.2, 0.9, 8) == "undecided"
    assert verdict_of(above, sure, 0.01, 0.9, 4) == "undecided"  # too few seeds for a word
    assert verdict_of(above, even, 0.01, 0.9, 8) == "undecided"
    assert verdict_of(around, even, 0.9, 0.04, 8) == "equivalent"
    assert verdict_of(around, even, 0.9, 0.06, 8) == "undecided"  # no difference seen is none excluded
    assert verdict_of(below, sure, 0.01, 0.9, 8) == "undecided"  # the two disagree
    nothing = Interval(1.0, math.nan, math.nan)
    assert verdict_of(nothing, Interval(1.0, math.nan, math.nan), math.nan, math.nan, 8) == "undecided"


def test_equivalence_of_two_samples_is_the_larger_of_two_one_sided_tests() -> None:
    x, y = normal(0, 8), normal(1, 9) + 0.3
    found = statistics.equivalence_p(cell_of(x), cell_of(y), 2.0)
    low, high = (stats.mannwhitneyu(x + shift, y, alternative=a).pvalue for shift, a in ((2, "greater"), (-2, "less")))
    assert found == pytest.approx(max(low, high))
    assert statistics.equivalence_p(cell_of(y), cell_of(x), 2.0) == pytest.approx(found)
    assert math.isnan(statistics.equivalence_p(cell_of(x), cell_of([]), 2.0))
    assert math.isnan(statistics.equivalence_p(cell_of(x), cell_of(y), math.nan))


def test_equivalence_is_rarely_said_of_methods_a_margin_apart() -> None:
    said = sum(
        statistics.equivalence_p(cell_of(normal(n, 8) + 1.5), cell_of(normal(5000 + n, 8)), 1.5) <= 0.05
        for n in range(400)
    )
    assert said <= stats.binom.ppf(0.999, 400, 0.05)


def test_the_return_along_the_way_is_the_area_over_its_length() -> None:
    curves = {0: ([100, 200, 400], [0.0, 2.0, 6.0]), 1: ([100, 200, 400], [4.0, 4.0, 4.0])}
    other = {0: ([0, 300], [0.0, 3.0]), 1: ([100, 300], [1.0, 1.0]), 2: ([100, 300], [9.0, 9.0])}
    first = cell_of({0: 6.0, 1: 4.0}, curves=curves)
    second = cell_of({0: 3.0, 1: 1.0}, curves=other, missing={2: "never reported"})
    # Both were measured from 100 to 300: 0, 2, 4 is 2 on average; seed 2 did not come to its end.
    assert statistics.areas_under_curves(first, second) == [{0: 2.0, 1: 4.0}, {0: 2.0, 1: 1.0}]
    assert statistics.areas_under_curves(first) == [{0: (100 * 1.0 + 200 * 4.0) / 300, 1: 4.0}]
    for start in (400, 900):  # a single step is no way, and none even less
        late = cell_of({0: 1.0}, curves={0: ([start, 950], [1.0, 1.0])})
        assert statistics.areas_under_curves(first, late) == [{}, {}]


def test_a_pairs_way_is_the_one_it_shares_whatever_else_is_in_the_panel() -> None:
    start = {seed: ([0, 900, 1000], [-50.0 + seed, -20.0, -10.0 + seed]) for seed in range(8)}
    slow = {seed: (steps, [-200.0, -200.0, values[-1]]) for seed, (steps, values) in start.items()}
    cells = [cell_of(np.arange(8) - 10.0, curves=own, model_loss=name) for name, own in (("a", start), ("b", slow))]
    late = cell_of(np.arange(8) - 12.0, curves={s: ([1000], [s - 12.0]) for s in range(8)}, model_loss="late")
    alone, *_ = compare_pairs(comparison_of(*cells))
    beside, *others = compare_pairs(comparison_of(*cells, late))
    assert alone.way is not None and alone.way.verdict == "better"
    assert beside.way is not None and beside.way.difference == alone.way.difference
    assert [pair.way for pair in others] == [None, None]


def test_pairs_are_those_of_each_panel() -> None:
    cells = [
        cell_of(normal(10 * d + m, 8) + 3.0 * (loss == "vagram"), d=d, model_loss=loss)
        for d in (0, 5)
        for m, loss in enumerate(("vagram", "nll", "mse"))
    ]
    pairs = compare_pairs(comparison_of(*cells))
    assert [(pair.panel, pair.first_name, pair.second_name) for pair in pairs] == [
        (f"d={d}", *names) for d in (0, 5) for names in (("vagram", "nll"), ("vagram", "mse"), ("nll", "mse"))
    ]
    told = [pair for pair in pairs if pair.first_name == "vagram"]
    assert [pair.adjusted_p_value for pair in told] == holm([pair.p_value for pair in told])
    first = pairs[0]
    d = np.array([cells[0].final_returns[seed] - cells[1].final_returns[seed] for seed in range(8)])
    assert first.difference.value == pytest.approx(stats.trim_mean(d, 0.25))
    assert first.p_value == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)
    assert (first.wins, len(first.seeds)) == (np.sum(d > 0), 8)


def test_firm_is_rarely_said_of_equal_methods() -> None:
    experiments = 60
    said = 0
    for experiment in range(experiments):
        cells = [cell_of(normal(100 * experiment + m, 8), model_loss=loss) for m, loss in enumerate("abc")]
        said += any(pair.verdict == "better" for pair in compare_pairs(comparison_of(*cells)))
    assert said <= stats.binom.ppf(0.999, experiments, 0.05)
