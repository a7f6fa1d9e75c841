"""Sentences on data made so that the answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.report.synthetic import cell_of, comparison_of, normal
from vagram_ray.report.comparisons import compare_pairs
from vagram_ray.report.curves import CellCurves
from vagram_ray.report.statistics import iqm_difference, probability_of_improvement, seeds_for_firm_answer
from vagram_ray.report.verdict import MAX_MISSING, MAX_SENTENCES, verdict

SPREAD = np.array([-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0])


def sentence(sentences: Sequence[str], *words: str) -> str:
    found = [text for text in sentences if all(word in text for word in words)]
    assert len(found) == 1, sentences
    return found[0]


def two(first: Sequence[float], second: Sequence[float], **axes: object) -> list[CellCurves]:
    """Two cells whose seeds differ, so that they are compared as two samples."""
    others = dict(enumerate(second, start=100))
    return [cell_of(first, model_loss="vagram", **axes), cell_of(others, model_loss="nll", **axes)]


def test_what_is_compared_seed_by_seed_is_said() -> None:
    spread = np.linspace(-50.0, 50.0, 8)
    cells = [cell_of(spread + np.arange(1.0, 9.0), model_loss="vagram"), cell_of(spread, model_loss="nll")]
    sentences = verdict(comparison_of(*cells))
    text = sentence(sentences, "better")
    assert text.startswith("vagram is better than nll by 4.50 [")
    assert "seed by seed, higher on 8 of 8; probability of improvement 1.00 [1.00, 1.00]): firm." in text
    assert "The methods share their seeds and are compared seed by seed" in sentences[-1]
    assert "Wilcoxon" in sentences[-1] and "Mann" not in sentences[-1]
    unpaired = verdict(comparison_of(*two(spread + 300, spread)))
    assert "unpaired, their seeds differ" in sentence(unpaired, "better")
    assert "The methods' seeds differ" in unpaired[-1] and "Wilcoxon" not in unpaired[-1]


def test_a_clear_difference_is_firm() -> None:
    sentences = verdict(comparison_of(*two(SPREAD + 100, SPREAD)))
    text = sentence(sentences, "better")
    assert text.startswith("vagram is better than nll by 100 [9")
    assert "(IQM 100 against 0; unpaired, their seeds differ; probability of improvement 1.00 [1.00, 1.00])" in text
    assert text.endswith("firm, every seed of the one is above every seed of the other.")


def test_the_better_one_is_named_first() -> None:
    text = sentence(verdict(comparison_of(*two(SPREAD, SPREAD + 100))), "better")
    assert text.startswith("nll is better than vagram by 100 [9")
    assert "IQM 100 against 0" in text


def test_a_likely_difference_is_not_called_firm_and_says_how_many_seeds() -> None:
    others = [
        cell_of(dict(enumerate(SPREAD + shift, start=start)), model_loss=loss)
        for loss, shift, start in (("a", 0.1, 200), ("b", 0.2, 300))
    ]
    cells = [*two(SPREAD + 3.0, SPREAD), *others]
    comparison = comparison_of(*cells)
    assert compare_pairs(comparison_of(*cells[:2]))[0].certainty == "firm"  # alone, not among six pairs
    text = sentence(verdict(comparison), "vagram is likely better than nll, by 3.00 [")
    needed = seeds_for_firm_answer(cells[0], cells[1], 6)
    assert text.endswith(f"not firm; about {needed} seeds per cell would settle it.")


def test_level_results_are_called_level() -> None:
    text = sentence(verdict(comparison_of(*two(SPREAD, SPREAD + 0.05))), "level")
    assert text.startswith("vagram and nll are level as far as 8 seeds tell: IQM 0 against 0.05, difference -0.05 [")
    assert "better" not in text


def test_an_open_result_claims_nothing() -> None:
    a, b = two(SPREAD, SPREAD + 1.2)
    text = sentence(verdict(comparison_of(a, b)), "open")
    low, high = iqm_difference(b, a)[1:]
    chance = probability_of_improvement(a, b)
    assert text == (
        f"vagram is behind nll by 1.20 [{low:.2f}, {high:.2f}] (IQM 0 against 1.20; unpaired, their seeds differ; "
        f"probability of improvement "
        f"{chance.value:.2f} [{chance.low:.2f}, {chance.high:.2f}]), but 8 seeds leave it open: about "
        f"{seeds_for_firm_answer(a, b)} seeds per cell would settle a difference of this size."
    )


def test_few_seeds_say_nothing() -> None:
    text = sentence(verdict(comparison_of(*two([10.0, 11.0, 12.0], [0.0, 1.0]))), "open")
    assert text == "vagram against nll is open, 3 and 2 seeds are too few to say more: IQM 11.0 against 0.5."


def test_panels_are_named_in_words() -> None:
    cells = [cell for d in (0, 1, 10) for cell in two(SPREAD + 50, SPREAD, num_distractors=d)]
    cells += [cell_of(SPREAD + 50, num_distractors=10, model_loss="none")]
    sentences = verdict(comparison_of(*cells))
    assert sum(text.startswith("With no distractors, vagram is better than nll") for text in sentences) == 1
    assert sum(text.startswith("With 1 distractor, vagram") for text in sentences) == 1
    assert sentence(sentences, "With 10 distractors, vagram and plain SAC are level")
    pooled = sentence(sentences, "Over 3 panels together, vagram ends above nll (unpaired, a seed above")
    assert pooled.endswith("a seed) with probability 1.00 [1.00, 1.00]: more often than not.")
    assert not any("Over" in text and "plain SAC" in text for text in sentences)  # in one panel only


def test_what_is_left_open_over_panels_is_said() -> None:
    cells = [cell for d in (0, 5) for cell in two(SPREAD, SPREAD + 0.1, num_distractors=d)]
    assert "leaves open who is ahead" in sentence(verdict(comparison_of(*cells)), "Over 2 panels")
    cells = [cell for d in (0, 5) for cell in two(SPREAD, SPREAD + 9, num_distractors=d)]
    assert "less often than not" in sentence(verdict(comparison_of(*cells)), "Over 2 panels")


def test_every_missing_seed_is_named() -> None:
    a, _ = two(SPREAD, SPREAD)
    missing = {2: "became NaN in epoch 7", 5: "became NaN in epoch 7", 9: "never reported"}
    b = cell_of({0: 1.0, 1: 2.0}, missing=missing, model_loss="nll")
    sentences = verdict(comparison_of(a, b))
    assert sentences[0] == "Not complete: 10 of 13 seeds came to their end, counted over all cells."
    assert sentence(sentences, "Missing in") == (
        "Missing in model_loss=nll: seeds 2,5: became NaN in epoch 7; seed 9: never reported; "
        "seeds 2,5,9 count as the worst final return of the cell, 1.00."
    )
    assert sentence(sentences, "counts as the worst of its cell in every number")


def test_a_sweep_that_has_just_begun_has_no_answer() -> None:
    cells = [
        cell_of({}, missing={0: "has done 1 of 9 epochs"}, model_loss=loss, d=d)
        for d in range(MAX_MISSING)
        for loss in ("vagram", "nll")
    ]
    sentences = verdict(comparison_of(*cells))
    assert sentence(sentences, "No answer yet: no panel has final returns of both vagram and another method.")
    assert sum(text.startswith("Missing in") for text in sentences) == MAX_MISSING
    assert sentence(sentences, f"Seeds are missing in {MAX_MISSING} more cells")
    assert not any("Firm means" in text for text in sentences)


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
    assert "Holm's correction for the 3 pairs compared" in text
    assert "Holm" not in verdict(comparison_of(*cells[:2]))[-1]


def test_sentences_are_about_vagram_else_about_the_first_line() -> None:
    cells = [cell_of(SPREAD, model_loss=loss) for loss in ("mse", "nll", "vagram")]
    level = [text for text in verdict(comparison_of(*cells)) if " are level " in text]
    assert [text.split(" are level")[0] for text in level] == ["vagram and mse", "vagram and nll"]
    level = [text for text in verdict(comparison_of(*cells[:2])) if " are level " in text]
    assert [text.split(" are level")[0] for text in level] == ["mse and nll"]


def test_many_comparisons_are_counted_not_told() -> None:
    cells = []
    for d in range(MAX_SENTENCES + 6):
        shift = 100.0 if d < 2 else 0.0
        cells += two(normal(d, 8) + shift, normal(1000 + d, 8), d=d)
    sentences = verdict(comparison_of(*cells))
    told = [text for text in sentences if text.startswith("With d=")]
    assert len([text for text in told if "by 100" in text or "by 99" in text or "by 10" in text]) == 2
    left = MAX_SENTENCES + 6 - len(told)
    assert sentence(sentences, f"{left} more comparisons of vagram: see the table of pairs.")


def test_the_same_comparison_gives_the_same_words() -> None:
    cells = two(normal(0, 8), normal(1, 8) + 0.5)
    assert verdict(comparison_of(*cells)) == verdict(comparison_of(*cells))
