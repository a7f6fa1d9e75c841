"""Tables agree with the sweep's own summary, and what stands in them survives every format."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pandas as pd
import pytest

from tests.report.synthetic import cell_of, comparison_of, normal, write_sweep
from vagram_ray.records.intervals import Interval, format_interval
from vagram_ray.records.results import SweepResults
from vagram_ray.records.summary import summary_csv
from vagram_ray.records.tables import ReportTable, latex, markdown, write_tables
from vagram_ray.report import load_comparison
from vagram_ray.report.statistics import steps_to_reach
from vagram_ray.report.tables import final_table, report_tables, thresholds_of


def test_the_final_table_is_the_summary(tmp_path: Path) -> None:
    returns = {loss: {seed: list(normal(10 * k + seed, 12)) for seed in range(6)} for k, loss in enumerate("abc")}
    folder = write_sweep(tmp_path / "s", returns, failed={("b", 4): 3})
    table = final_table(load_comparison([folder]))
    expected = list(csv.DictReader(io.StringIO(summary_csv(SweepResults.load(folder)))))
    assert len(table) == len(expected) == 3
    for row, other in zip(table.to_dict("records"), expected, strict=True):
        assert row["cell"] == other["cell"]
        for column in ("iqm", "low_95", "high_95", "mean", "standard_error"):
            assert row[column] == float(other[column])
        for column in ("num_seeds", "num_planned"):
            assert row[column] == int(other[column])
        assert bool(row["missing"]) == bool(other["missing"])
    assert table["model_loss"].tolist() == ["a", "b", "c"]
    assert table["missing"].tolist() == ["", "seed 4 became NaN in epoch 3", ""]
    assert table["counted_as_worst"].tolist() == [row["counted_as_worst"] for row in expected] == ["", "4", ""]
    assert table["num_seeds"].tolist() == [6, 5, 6]


def test_tables_are_written_and_read_back(tmp_path: Path) -> None:
    cells = [cell_of(normal(k, 8) - 100 * k, d=d, model_loss=loss) for d in (0, 5) for k, loss in enumerate("ab")]
    comparison = comparison_of(*cells)
    paths = write_tables(report_tables(comparison), tmp_path, "Pendulum-v1 | 8 seeds")
    names = ("final_returns", "pairs", "steps_to_threshold")
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in names for kind in ("csv", "md", "tex")]
    for table in report_tables(comparison):
        read_back = pd.read_csv(tmp_path / f"{table.name}.csv")
        text = [name for name in ("missing", "counted_as_worst", "notes", "seeds_needed") if name in read_back]
        read_back[text] = read_back[text].astype(object).where(read_back[text].notna(), "")
        pd.testing.assert_frame_equal(read_back, table.data, check_dtype=False)
        assert len(table.text) == len(table.data)
        assert table.numeric <= set(table.text.columns)
        lines = (tmp_path / f"{table.name}.md").read_text().splitlines()
        assert lines[:2] == [r"Pendulum-v1 \| 8 seeds", ""]
        assert len(lines) == 6 + len(table.text)
        assert {line.count(" | ") for line in lines[4:]} == {len(table.text.columns) - 1}
        tex = (tmp_path / f"{table.name}.tex").read_text()
        assert tex.startswith("% Pendulum-v1 | 8 seeds\n")
        assert tex.count(r" \\") == 1 + len(table.text)
        assert [tex.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 1, 1]
    before = {path: path.read_bytes() for path in paths}
    write_tables(report_tables(comparison), tmp_path, "Pendulum-v1 | 8 seeds")
    assert before == {path: path.read_bytes() for path in paths}


def test_pairs_tell_who_won_on_the_same_seeds() -> None:
    a, b = cell_of({0: 1.0, 1: 5.0, 7: 3.0}, model_loss="a"), cell_of({0: 2.0, 1: 4.0, 8: 9.0}, model_loss="b")
    (pairs,) = (table for table in report_tables(comparison_of(a, b)) if table.name == "pairs")
    row = pairs.data.iloc[0]
    assert (row["test"], row["paired_seeds"]) == ("mann_whitney", 0)  # 7 and 8 are not the same seed
    assert (row["difference"], row["verdict"]) == (3.0 - 5.0, "undecided")
    same = cell_of({0: 2.0, 1: 4.0, 7: 9.0}, model_loss="b")
    (pairs,) = (table for table in report_tables(comparison_of(a, same)) if table.name == "pairs")
    row = pairs.data.iloc[0]
    assert (row["test"], row["paired_seeds"], row["better_on"]) == ("wilcoxon", 3, 1)
    assert row["difference"] == pytest.approx((-1 + 1 - 6) / 3)
    assert pairs.text["better on"].tolist() == ["1 of 3 seeds"]


def test_a_comparison_without_results_has_one_table() -> None:
    cells = [cell_of({}, missing={0: "not reported yet"}, model_loss=loss) for loss in "ab"]
    (table,) = report_tables(comparison_of(*cells))
    assert table.name == "final_returns"
    assert table.text["IQM"].tolist() == ["-", "-"]
    assert table.text["seeds"].tolist() == ["0/1", "0/1"]
    assert math.isnan(table.data["iqm"][0])


def test_thresholds_lie_on_the_way_of_the_panel() -> None:
    steps = [100, 200, 300]
    slow = cell_of([], curves={0: (steps, [-20.0, -10.0, 0.0])}, model_loss="slow")
    fast = cell_of([], curves={0: (steps, [0.0, 80.0, 60.0])}, model_loss="fast")
    assert thresholds_of([slow, fast]).tolist() == [30.0, 55.0, 70.0]
    (table,) = (table for table in report_tables(comparison_of(slow, fast)) if table.name == "steps_to_threshold")
    assert table.text["env steps"].tolist() == ["never"] * 3 + ["200"] * 3
    assert table.data["env_steps"].tolist()[3:] == [steps_to_reach(fast, [30.0])[0].value] * 3
    flat = cell_of([], curves={0: (steps, [1.0, 1.0, 1.0])})
    assert thresholds_of([flat]).size == thresholds_of([cell_of([], curves={})]).size == 0


HARD = r"50 %_of {a} & #1 $x$ ^ ~ \cmd | <b> 2±1 -3.5 a-4 [-1, 2]"


def hard_table() -> ReportTable:
    text = pd.DataFrame([{"[cell]": HARD, "n": "-1,384"}, {"[cell]": "[x](y) `c` *b* _i_\nnext", "n": "-"}])
    return ReportTable("t", "100 %\nof it", text, text, frozenset({"n"}))


def test_latex_is_escaped() -> None:
    lines = latex(hard_table()).splitlines()
    assert lines[:3] == ["% 100 % of it", r"% needs \usepackage{booktabs}", r"\begin{tabular}{lr}"]
    assert lines[4] == r"\relax [cell] & n \\"  # else an argument of \toprule's line
    assert lines[6] == (
        r"50 \%\_of \{a\} \& \#1 \$x\$ \textasciicircum \space \textasciitilde \space \textbackslash cmd \textbar{} "
        r"\textless{}b\textgreater{} 2$\pm$1 $-$3.5 a-4 [$-$1, 2] & $-$1,384 \\"
    )
    assert lines[7].startswith(r"\relax [x](y)") and lines[7].endswith(r" next & - \\")


def test_markdown_is_escaped() -> None:
    lines = markdown(hard_table()).splitlines()
    assert lines[0] == "100 % of it."
    assert lines[3] == "| --- | ---: |"
    assert lines[4] == r"| 50 %\_of {a} &amp; #1 \$x\$ ^ \~ \\cmd \| &lt;b&gt; 2±1 -3.5 a-4 [-1, 2] | -1,384 |"
    assert lines[5] == r"| [x\](y) \`c\` \*b\* \_i\_ next | - |"


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(8.671, -39.01, 82.54), "8.7 [-39.0, 82.5]"),
        (Interval(1193.4, 1081.0, 1294.6), "1,193 [1,081, 1,295]"),
        (Interval(-0.004, -0.5, 0.25), "-0.004 [-0.5, 0.25]"),
        (Interval(-0.001, -2.0, 3.0), "0.00 [-2.00, 3.00]"),
        (Interval(1400.0, 1200.0, math.inf), "1,400 [1,200, never]"),
        (Interval(5.0, math.nan, math.nan), "5.00"),
        (Interval(math.nan, math.nan, math.nan), "-"),
    ],
)
def test_intervals_have_the_digits_of_their_largest_number(interval: Interval, text: str) -> None:
    assert format_interval(interval) == text
