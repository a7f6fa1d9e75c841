"""Figures and tables of the documentation are what the records in the repository give, and nothing else passes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.report.synthetic import write_sweep
from vagram_ray.records.publish import publish
from vagram_ray.records.results import SweepResults

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[1]
RETURNS = {
    "vagram": {seed: [-900.0, -200.0 - seed] for seed in range(4)},
    "nll": {seed: [-1000.0 - 10 * seed, -300.0] for seed in range(4)},
}
PAGE = """# Results

<!-- figure: learning_curves_iqm records/own reference=nll -->
![Curves](figures/own.png)

<!-- table: final_returns records/own columns=cell,IQM,seeds -->

| cell | IQM | seeds |
| --- | ---: | ---: |
| model_loss=vagram | -202 | 4/4 |
| model_loss=nll | -300 | 4/4 |

<!-- end of table -->

<!-- table: along records/own at=150,250 columns=method,150,250 -->

| method | 150 | 250 |
| --- | ---: | ---: |
| vagram | -900 | -202 |
| nll | -1,015 | -300 |

<!-- end of table -->
"""
"""Worked out by hand: the interquartile mean of four seeds is the mean of the two in the middle."""


@pytest.fixture(scope="module")
def redraw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("redraw", ROOT / "docs" / "redraw.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["redraw"] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(tmp_path: Path, redraw: ModuleType) -> Path:
    """A clone with one published sweep and one page, drawn."""
    redraw._comparison.cache_clear()
    write_sweep(tmp_path / "results", RETURNS, sweep_id="one")
    publish(SweepResults.load(tmp_path / "results"), tmp_path / "docs" / "records" / "own")
    (tmp_path / "docs" / "results.md").write_text(PAGE)
    assert problems(redraw, tmp_path, check=False) == []
    return tmp_path


def problems(redraw: ModuleType, root: Path, check: bool = True) -> list[str]:
    redraw._comparison.cache_clear()
    return list(redraw.go(redraw.Docs(root), check=check))


def edit(clone: Path, old: str, new: str) -> None:
    page = clone / "docs" / "results.md"
    text = page.read_text()
    assert old in text
    page.write_text(text.replace(old, new))


def test_the_documentation_is_what_the_records_give(redraw: ModuleType) -> None:
    assert problems(redraw, ROOT) == []


def test_tables_worked_out_by_hand_stay_as_they_are(redraw: ModuleType, clone: Path) -> None:
    assert (clone / "docs" / "results.md").read_text() == PAGE
    assert problems(redraw, clone) == []


def test_another_number_is_named_and_put_right(redraw: ModuleType, clone: Path) -> None:
    edit(clone, "| -1,015 |", "| -1,014 |")
    (problem,) = problems(redraw, clone)
    assert problem.startswith("docs/results.md: table 'along records/own")
    assert problem.endswith("| nll | -1,014 | -300 | instead of | nll | -1,015 | -300 |")
    assert problems(redraw, clone, check=False) == []
    assert (clone / "docs" / "results.md").read_text() == PAGE


def test_a_figure_of_other_records_is_named_and_drawn_anew(redraw: ModuleType, clone: Path) -> None:
    (records,) = (clone / "docs" / "records" / "own" / "records").glob("*nll*")
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    lines[0]["env_steps"] = 140  # changes no number of the tables
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (problem,) = problems(redraw, clone)
    assert problem.startswith("docs/results.md: own.png was drawn of other records")
    before = (clone / "docs" / "figures" / "own.png").read_bytes()
    assert problems(redraw, clone, check=False) == []
    assert (clone / "docs" / "figures" / "own.png").read_bytes() != before
    assert problems(redraw, clone) == []


def test_a_figure_needs_a_source_that_is_there(redraw: ModuleType, clone: Path) -> None:
    marker = "<!-- figure: learning_curves_iqm records/own reference=nll -->\n"
    edit(clone, marker, "")
    assert problems(redraw, clone) == [
        "docs/results.md: no line <!-- figure: ... --> says what own.png is drawn of",
    ]
    edit(clone, "![Curves]", "<!-- figure: none: they are gone -->\n![Curves]")
    assert problems(redraw, clone) == []
    edit(clone, "none: they are gone", "learning_curves_iqm records/other")
    assert problems(redraw, clone) == ["docs/results.md: own.png: there are no records in 'records/other'"]


def test_what_a_marker_cannot_mean_is_a_line(redraw: ModuleType, clone: Path) -> None:
    edit(clone, "learning_curves_iqm records", "lerning records")
    edit(clone, "columns=cell,IQM", "columns=cell,IQR")
    edit(clone, "at=150,250 ", "")
    found = problems(redraw, clone, check=False)
    assert len(found) == 3
    assert "there is no column 'IQR'; there are cell, IQM" in found[0]
    assert "lacks at=STEPS,STEPS" in found[1]
    assert "'lerning' is no figure; there are learning_curves_iqm" in found[2]
    edit(clone, "<!-- end of table -->", "")
    assert "docs/results.md: a table has no line <!-- end of table -->" in problems(redraw, clone)


def test_a_picture_that_nothing_shows_or_that_is_gone_is_named(redraw: ModuleType, clone: Path) -> None:
    figures = clone / "docs" / "figures"
    (figures / "old.png").write_bytes((figures / "own.png").read_bytes())
    (figures / "own.png").unlink()
    assert problems(redraw, clone) == [
        "docs/results.md: own.png is not there",
        "docs/figures/old.png is on no page",
    ]


def test_differences_of_chosen_pairs_stand_in_their_own_order(redraw: ModuleType, clone: Path) -> None:
    """Seeds 0 to 3 differ by 100, 99, 98 and 97: the mean of the two in the middle is 98.5, which is shown as 98."""
    marker = "<!-- table: differences records/own pairs='lead: vagram - nll; lag: nll - vagram' -->"
    page = clone / "docs" / "results.md"
    page.write_text(f"{PAGE}\n{marker}\n\n<!-- end of table -->\n")
    assert problems(redraw, clone, check=False) == []
    *_, lead, lag = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert lead.startswith("| lead | vagram - nll | 98 [97, 100") and lead.endswith("], 4 |")
    assert lag.startswith("| lag | nll - vagram | -98 [-100, -97") and lag.endswith("], 0 |")
    edit(clone, "lag: nll - vagram", "lag: nll - mse")
    (problem,) = problems(redraw, clone)
    assert problem.endswith("'lag: nll - mse' is no pair of methods in 'own'")
