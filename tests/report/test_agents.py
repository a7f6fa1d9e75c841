"""A sweep whose variants are whole agents: each level is held against a reference within every difficulty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.synthetic import cell_of, comparison_of
from vagram_ray.commands import InputError
from vagram_ray.records.tables import markdown, write_tables
from vagram_ray.report.comparisons import compare_pairs
from vagram_ray.report.curves import Comparison, with_reference
from vagram_ray.report.figure_style import line_styles
from vagram_ray.report.tables import report_tables
from vagram_ray.report.verdict import verdict

AGENTS = {
    "vagram": 6.0, "nll": 0.0, "nll, normalised rewards": 1.0, "nll, reward weight 1": 5.0, "mse": -1.0,
    "vagram, reward per output": 6.5, "SAC": 2.0,
}  # fmt: skip
EFFECT = np.linspace(-60.0, 60.0, 16)  # of the seed, the same for all agents
JITTER = np.linspace(-0.5, 0.5, 16)


def attribution() -> Comparison:
    cells = [
        cell_of(EFFECT + lead * scale + JITTER * place, difficulty=difficulty, agent=agent)
        for difficulty, scale in (("easy", 0.0), ("hard", 1.0))
        for place, (agent, lead) in enumerate(AGENTS.items())
    ]
    return comparison_of(*cells)


def test_levels_are_compared_within_each_difficulty() -> None:
    comparison = attribution()
    assert comparison.lines == tuple(AGENTS)
    assert [panel.title for panel in comparison.panels()] == ["difficulty=easy", "difficulty=hard"]
    pairs = compare_pairs(comparison)
    assert len(pairs) == 2 * 7 * 6 // 2
    assert all(len(pair.seeds) == 16 for pair in pairs)


def test_the_table_holds_every_level_against_the_reference(tmp_path: Path) -> None:
    (table,) = (t for t in report_tables(with_reference(attribution(), "nll")) if t.name == "against_reference")
    assert table.data["method"].tolist() == [agent for agent in AGENTS if agent != "nll"] * 2
    assert set(table.data["reference"]) == {"nll"}
    hard = table.data[table.data["panel"] == "difficulty=hard"].set_index("method")
    # The seeds' differences are the lead plus k times the jitter, which is symmetric: its IQM is 0.
    for agent, lead in AGENTS.items():
        if agent != "nll":
            assert hard.loc[agent, "difference"] == pytest.approx(lead)
    assert (hard.loc["vagram", "better_on"], hard.loc["vagram", "paired_seeds"]) == (16, 16)
    assert hard.loc["vagram", "p"] == pytest.approx(2 / 2**16)
    assert hard.loc["vagram", "holm_p"] < 0.05
    # The seeds' own spread is 20 times the lead; resampled for itself the interval would hold 0.
    assert 5.0 < hard.loc["vagram", "low_95"] < 6.0 < hard.loc["vagram", "high_95"] < 7.0
    easy = table.text[table.text["panel"] == "difficulty=easy"].set_index("method")
    assert easy.loc["SAC", "better on"] == "8 of 16 seeds"
    assert "| difficulty=hard | nll, reward weight 1 | 5.00 |" in markdown(table)
    assert tmp_path / "against_reference.csv" in write_tables(report_tables(attribution()), tmp_path)


def test_the_reference_is_vagram_unless_one_is_chosen() -> None:
    comparison = attribution()
    assert comparison.focus == "vagram"
    sentences = verdict(with_reference(comparison, "nll, reward weight 1"))
    told = [text for text in sentences if "With difficulty=hard" in text]
    assert len(told) == 6 and all("nll, reward weight 1" in text for text in told)
    with pytest.raises(InputError, match="--reference 'x' is none of the methods: vagram; nll; nll, norm"):
        with_reference(comparison, "x")


def test_agents_have_colors_of_their_own_and_plain_sac_is_the_baseline() -> None:
    styles = line_styles(attribution())
    assert styles["SAC"].baseline and not styles["nll"].baseline
    assert len({(style.color, style.dashes) for style in styles.values()}) == len(AGENTS)
