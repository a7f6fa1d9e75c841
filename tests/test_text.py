"""Words that come from elsewhere: shown escaped, and no formulas in CSV files."""

from __future__ import annotations

import csv
import io

from vagram_ray.records.results import _csv_text
from vagram_ray.text import csv_value, did_you_mean, markdown_row, printable, reason


def test_what_spreadsheets_would_run_is_text() -> None:
    text = _csv_text(["cell", "=axis", "value"], [{"cell": "@cmd", "=axis": "=1+1", "value": -1.5}, {"cell": "a=1"}])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [["cell", "'=axis", "value"], ["'@cmd", "'=1+1", "-1.5"], ["a=1", "", ""]]
    assert [csv_value(value) for value in ("+1", "-1", -1, "", "size=$x$")] == ["'+1", "'-1", -1, "", "size=$x$"]


def test_control_characters_are_escaped_and_nothing_else() -> None:
    assert printable("\x1b[2Jtwo\nlines\u202e") == "\\x1b[2Jtwo\\nlines\\u202e"
    assert printable("größe ✓ = $x$") == "größe ✓ = $x$"


def test_a_close_word_is_offered() -> None:
    assert did_you_mean("vagran", ["vagram", "nll"]) == "did you mean vagram?"
    assert did_you_mean("hopper", ["nll"]) == ""


def test_a_reason_stands_inside_a_sentence() -> None:
    assert reason(OSError(28, "No space left on device", "f")) == "No space left on device"
    assert reason(ValueError("two\n lines.")) == "two lines"


def test_a_row_of_markdown_shows_any_name_as_it_is() -> None:
    row = markdown_row(["a|b", "<i> & *c*", "model_loss=vagram", "1 of 2 [3, 4]"])
    assert row == "| a\\|b | &lt;i&gt; &amp; \\*c\\* | model_loss=vagram | 1 of 2 [3, 4] |"
