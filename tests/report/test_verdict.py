"""Sentences on data made so that the answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.report.synthetic import cell_of, comparison_of, normal
from vagram_ray.records.fit_limit import FIT_LIMIT_METRIC
from vagram_ray.report.comparisons import compare_pairs
from vagram_ray.report.curves import CellCurves, ExperimentFacts, SeedCurve
from vagram_ray.report.statistics import iqm_difference, probability_of_improvement, seeds_for_firm_answer
from vagram_ray.report.verdict import MAX_MISSING, MAX_SENTENCES, verdict, warnings_in_short

SPREAD = np.array([-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0])


def sentence(sentences: Sequence[str], *words: str) -> str:
    found = [text for text in sentences if all(word in text for word in words)]
    assert len(found) == 1, sentences
    return found[0]


def two(first: Sequence[float], second: Sequence[float], **axes: object) -> list[CellCurves]:
    """Two cells whose seeds differ, so that they are compared as two samples."""
    others = dict(enumerate(second, start=100))
    return [cell_of(first, model_loss="vagram", **axes), cell_of(others, model_loss="nll", **axes)]


def same_seeds(first: Sequence[float], second: Sequence[float], **axes: object) -> list[CellCurves]:
    """Two cells that are compared seed by seed."""
    return [cell_of(first, model_loss="vagram", **axes), cell_of(second, model_loss="nll", **axes)]


def test_what_is_compared_seed_by_seed_is_said() -> None:
    spread = np.linspace(-50.0, 50.0, 8)
    cells = [cell_of(spread + np.arange(1.0, 9.0), model_loss="vagram"), cell_of(spread, model_loss="nll")]
    sentences = verdict(comparison_of(*cells))
    text = sentence(sentences, "better")
    assert text.startswith("vagram is better than nll at the end by 4.50 [")
    assert "seed by seed, higher on 8 of 8; probability of improvement 1.00 [1.00, 1.00])." in text
    unpaired = verdict(comparison_of(*two(spread + 300, spread)))
    assert "unpaired, their seeds differ" in sentence(unpaired, "better")


def test_a_clear_difference_is_firm() -> None:
    sentences = verdict(comparison_of(*two(SPREAD + 100, SPREAD)))
    text = sentence(sentences, "better")
    assert text.startswith("vagram is better than nll at the end by 100 [9")
    numbers = "(IQM 100 against 0; unpaired, their seeds differ; probability of improvement 1.00 [1.00, 1.00])."
    assert f", firm {numbers} Along the way vagram is better by 100 [9" in text


def test_the_better_one_is_named_first() -> None:
    text = sentence(verdict(comparison_of(*two(SPREAD, SPREAD + 100))), "better")
    assert text.startswith("nll is better than vagram at the end by 100 [9")
    assert "IQM 100 against 0" in text


def test_a_difference_that_is_not_firm_is_undecided_and_says_how_many_seeds() -> None:
    others = [
        cell_of(dict(enumerate(SPREAD + shift, start=start)), model_loss=loss)
        for loss, shift, start in (("a", 3.1, 200), ("b", 3.2, 300), ("c", 3.3, 400), ("d", 3.4, 500))
    ]
    cells = [*two(SPREAD + 3.0, SPREAD), *others]
    assert compare_pairs(comparison_of(*cells[:2]))[0].verdict == "better"  # alone, not among five comparisons
    text = sentence(verdict(comparison_of(*cells)), "vagram against nll is undecided at the end: 3.00 [")
    needed = seeds_for_firm_answer(cells[0], cells[1], 5)
    assert f", about {needed} seeds per cell would decide. Along the way" in text


def test_an_undecided_result_claims_nothing() -> None:
    a, b = two(SPREAD, SPREAD + 1.2)
    text = sentence(verdict(comparison_of(a, b)), "is undecided at the end")
    low, high = iqm_difference(a, b)[1:]
    chance = probability_of_improvement(a, b)
    needed = f"about {seeds_for_firm_answer(a, b)} seeds per cell would decide"
    assert text == (
        f"vagram against nll is undecided at the end: -1.20 [{low:.2f}, {high:.2f}] (IQM 0 against 1.20; unpaired, "
        f"their seeds differ; probability of improvement {chance.value:.2f} [{chance.low:.2f}, {chance.high:.2f}]), "
        f"{needed}. Along the way undecided: -1.20 [{low:.2f}, {high:.2f}], {needed}."
    )


def test_results_that_look_alike_are_equivalent_only_where_the_margin_is_excluded() -> None:
    cells = two(SPREAD, SPREAD + 0.05)
    wide = replace(comparison_of(*cells), margin=9.0)
    text = sentence(verdict(wide), "vagram and nll are equivalent at the end, within ±9.00: -0.05 [")
    assert "Along the way they are equivalent within ±9.00: -0.05 [" in text
    assert "margin (p below 0.05, so corrected), which is 9.00, as given." in verdict(wide)[-1]
    sentences = verdict(comparison_of(*cells))  # a tenth of the way from -10 to 0.05
    assert not any("equivalent at the end" in text for text in sentences)
    assert "undecided at the end: -0.05 [" in sentence(sentences, "vagram against nll is")
    assert "10 % of the panel's way" in sentences[-1]


def test_a_lead_along_the_way_is_told_beside_the_end() -> None:
    fast = {seed: ([0, 100, 200], [value - 100, value, value]) for seed, value in enumerate(SPREAD)}
    slow = {seed: ([0, 100, 200], [value - 100, value - 100, value]) for seed, value in enumerate(SPREAD)}
    cells = [cell_of(SPREAD, curves=slow, model_loss="vagram"), cell_of(SPREAD, curves=fast, model_loss="none")]
    text = sentence(verdict(comparison_of(*cells)), "vagram and plain SAC are equivalent at the end, within ±10.0: 0 [")
    assert text.endswith("Along the way vagram is worse by 50.0 [50.0, 50.0], firm.")


def test_the_next_step_is_the_comparison_closest_to_a_decision() -> None:
    cells = [cell for d, lead in ((0, 0.1), (5, 1.5)) for cell in two(SPREAD + lead, SPREAD, num_distractors=d)]
    needed = seeds_for_firm_answer(cells[2], cells[3], 2)
    text = sentence(verdict(comparison_of(*cells)), "Next:")
    assert text == (
        f"Next: about {needed} seeds per cell would decide vagram against nll (5 distractors), the closest of 2 "
        f"undecided comparisons (the sweep's command with --seeds 0-{needed - 1})."
    )
    decided = sentence(verdict(comparison_of(*two(SPREAD + 100, SPREAD))), "Next:")
    assert decided == (
        "Next: no comparison at the end needs more seeds. What is open is how other tasks and sizes come out."
    )


def test_few_seeds_say_nothing() -> None:
    sentences = verdict(comparison_of(*two([10.0, 11.0, 12.0], [0.0, 1.0])))
    few = "3 and 2 seeds are too few to say more"
    assert sentences[0] == f"vagram against nll is undecided, {few}: IQM 11.0 against 0.5."
    assert sentences[1] == "Next: 5 seeds per cell are the fewest that decide anything here."
    paired = verdict(comparison_of(*same_seeds([10.0, 11.0], [0.0, 1.0])))  # 2 / 2^5 is above 0.05
    assert sentence(paired, "Next:") == "Next: 6 seeds per cell are the fewest that decide anything here."


def test_pairs_of_different_seeds_have_a_limit_of_their_own() -> None:
    """With 6 against 20 seeds the smallest p is 2 / C(26, 6), also where other pairs share their seeds."""
    values = np.linspace(-1.0, 1.0, 20)
    ours = [cell_of(values + 9.0 * place, model_loss=name) for place, name in enumerate(("vagram", *"abcdefg"))]
    theirs = cell_of(np.linspace(-0.6, 0.9, 6), experiment="theirs", model_loss="TD")
    both = replace(
        comparison_of(*ours, theirs),
        margin=0.01,
        experiments=(
            *comparison_of(*ours).experiments,
            ExperimentFacts("theirs", Path("t"), "CSV file in the long format"),
        ),
    )
    text = " ".join(verdict(both))
    assert "seeds per cell would decide vagram against TD" in text
    assert "no difference can be firm" not in text
    few = replace(
        both, cells=tuple(replace(c, final_returns=dict(list(c.final_returns.items())[:5])) for c in both.cells)
    )
    assert "With 5 seeds no difference can be firm among 8 comparisons, however large it is: 6 are" in " ".join(
        verdict(few)
    )


def test_cells_that_end_at_different_steps_are_told() -> None:
    short = {seed: ([150, 250], [value - 9, value]) for seed, value in enumerate(SPREAD)}
    long = {seed: ([150, 100_000], [value - 9, value + 50]) for seed, value in enumerate(SPREAD)}
    cells = [cell_of(SPREAD, curves=short, model_loss="vagram"), cell_of(SPREAD + 50, curves=long, model_loss="nll")]
    text = sentence(verdict(comparison_of(*cells)), "nll is better than vagram at the end")
    assert ". They end at different steps: 100,000 and 250. Along the way" in text
    same = verdict(comparison_of(cells[0], cell_of(SPREAD + 50, curves=short, model_loss="nll")))
    assert "different steps" not in " ".join(same)


@pytest.mark.parametrize("comparisons", [3, 9])
def test_it_is_said_where_so_few_seeds_cannot_be_firm(comparisons: int) -> None:
    """The fewest seeds by SciPy's own test, for differences that all lie on one side."""
    corrected = {n: comparisons * stats.wilcoxon(np.arange(1.0, n + 1)).pvalue for n in range(5, 15)}
    fewest = min(n for n, p in corrected.items() if p <= 0.05)
    for seeds in (fewest - 1, fewest):
        values = np.arange(float(seeds))
        lead = 100 + values / 7  # differences without ties
        cells = [c for d in range(comparisons) for c in same_seeds(values + lead, values, num_distractors=d)]
        text = " ".join(verdict(comparison_of(*cells)))
        cannot = f"With {seeds} seeds no difference can be firm among {comparisons} comparisons, however large it is"
        assert (f"{cannot}: {fewest} are the fewest." in text) == (seeds < fewest)
        assert ("vagram is better than nll" in text) == (seeds == fewest)


def test_the_first_screen_warns_in_one_line_of_fits_at_their_limit() -> None:
    cells = [cell for d in (0, 5, 10) for cell in two(SPREAD + 1, SPREAD, num_distractors=d)]
    at_limit = {FIT_LIMIT_METRIC: {0: SeedCurve.of([100], [0.5])}}
    assert warnings_in_short(comparison_of(*cells)) == []
    one = comparison_of(*cells[:-1], replace(cells[-1], metrics=at_limit))
    (line,) = warnings_in_short(one)
    assert line in verdict(one)
    (line,) = warnings_in_short(comparison_of(*cells[:4], *(replace(cell, metrics=at_limit) for cell in cells[4:])))
    where = f"in 2 of 6 cells ({cells[4].label} among them)"
    assert line == f"Model fits end at model_max_epochs {where}: raise it, or remove it (None)."


def test_panels_are_named_in_words() -> None:
    cells = [cell for d in (0, 1, 10) for cell in two(SPREAD + 50, SPREAD, num_distractors=d)]
    cells += [cell_of(SPREAD + 50, num_distractors=10, model_loss="none")]
    sentences = verdict(comparison_of(*cells))
    assert sum(text.startswith("With no distractors, vagram is better than nll") for text in sentences) == 1
    assert sum(text.startswith("With 1 distractor, vagram") for text in sentences) == 1
    assert sentence(sentences, "With 10 distractors, vagram and plain SAC are equivalent at the end")


def test_every_missing_seed_is_named() -> None:
    a, _ = two(SPREAD, SPREAD)
    missing = {2: "became NaN in epoch 7", 5: "became NaN in epoch 7", 9: "never reported"}
    b = cell_of({0: 1.0, 1: 2.0}, missing=missing, model_loss="nll")
    sentences = verdict(comparison_of(a, b))
    assert sentences[0] == "Not complete: 10 of 13 seeds came to their end, counted over all cells."
    assert sentence(sentences, "Missing in") == (
        "Missing in model_loss=nll: seeds 2,5 became NaN in epoch 7; seed 9 never reported; "
        "seeds 2,5,9 count as the worst final return of the cell, 1.00."
    )
    assert sentence(sentences, "counts as the worst of its cell in every number")


def test_a_sweep_that_has_just_begun_has_no_answer() -> None:
    cells = [
        cell_of({}, missing={0: "at epoch 1 of 9"}, model_loss=loss, d=d)
        for d in range(MAX_MISSING)
        for loss in ("vagram", "nll")
    ]
    sentences = verdict(comparison_of(*cells))
    assert sentence(sentences, "No answer yet: no panel has final returns of both vagram and another method.")
    assert sum(text.startswith("Missing in") for text in sentences) == MAX_MISSING
    assert sentence(sentences, f"Seeds are missing in {MAX_MISSING} more cells")
    assert not any("Firm means" in text or "Next:" in text for text in sentences)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([cell_of(SPREAD, model_loss="vagram")], "There is one cell, and so nothing to compare."),
        ([cell_of(SPREAD, env=env) for env in "ab"], "No two methods share a panel"),
    ],
)
def test_nothing_to_compare_is_said(cells: list[CellCurves], words: str) -> None:
    assert words in verdict(comparison_of(*cells))[0]


def test_words_are_explained_with_the_correction() -> None:
    cells = [cell_of(SPREAD + shift, model_loss=loss) for loss, shift in (("vagram", 9), ("nll", 0), ("mse", 1))]
    text = verdict(comparison_of(*cells))[-1]
    assert text.startswith("Firm means:")
    assert "Holm's correction for all comparisons with vagram" in text


def test_sentences_are_about_vagram_else_about_the_first_line() -> None:
    cells = [cell_of(SPREAD, model_loss=loss) for loss in ("mse", "nll", "vagram")]
    alike = [text for text in verdict(comparison_of(*cells)) if " are equivalent " in text]
    assert [text.split(" are equivalent")[0] for text in alike] == ["vagram and mse", "vagram and nll"]
    alike = [text for text in verdict(comparison_of(*cells[:2])) if " are equivalent " in text]
    assert [text.split(" are equivalent")[0] for text in alike] == ["mse and nll"]


def test_many_comparisons_are_counted_not_told() -> None:
    cells = []
    for d in range(MAX_SENTENCES + 6):
        shift = 100.0 if d < 2 else 0.0
        cells += two(normal(d, 8) + shift, normal(1000 + d, 8), d=d)
    sentences = verdict(comparison_of(*cells))
    told = [text for text in sentences if text.startswith("With d=")]
    assert len([text for text in told if "at the end by" in text]) == 2
    left = MAX_SENTENCES + 6 - len(told)
    assert sentence(sentences, f"{left} more comparisons of vagram: see the table of pairs.")


def test_the_same_comparison_gives_the_same_words() -> None:
    cells = two(normal(0, 8), normal(1, 8) + 0.5)
    assert verdict(comparison_of(*cells)) == verdict(comparison_of(*cells))
