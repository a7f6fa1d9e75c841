"""Tables of results: data for further work, and text to show, in the same rows.

As files CSV holds the data, Markdown and LaTeX the text (LaTeX needs the package booktabs).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vagram_ray.files import write_atomically
from vagram_ray.records.cells import CellResult
from vagram_ray.records.intervals import format_ends
from vagram_ray.text import csv_value, format_number, format_seeds, markdown_row, markdown_text

if TYPE_CHECKING:
    import pandas as pd


class ReportTable(NamedTuple):
    """One table."""

    name: str
    """Of its files."""
    caption: str
    data: pd.DataFrame
    """Full precision, NaN or empty where a number does not exist."""
    text: pd.DataFrame
    """The same rows to show, all strings."""
    numeric: frozenset[str]
    """Columns of ``text`` that are aligned to the right."""


Row = tuple[dict[str, Any], dict[str, str]]
"""Data and text of a row, by column."""


def make_table(name: str, caption: str, rows: Iterable[Row], numeric: Iterable[str]) -> ReportTable:
    """A table of these rows."""
    import pandas as pd

    pairs = list(rows)
    data, text = (pd.DataFrame([pair[side] for pair in pairs]) for side in (0, 1))
    return ReportTable(name, caption, data, text, frozenset(numeric))


FINAL_NUMERIC = ("IQM", "95 % interval", "mean ± s.e.", "seeds")


def final_row(cell: CellResult) -> Row:
    """The final returns of a cell."""
    s = cell.statistics
    error = "" if math.isnan(s.standard_error) else f" ± {format_number(s.standard_error)}"
    data = {
        "iqm": s.iqm,
        "low_95": s.low,
        "high_95": s.high,
        "mean": s.mean,
        "standard_error": s.standard_error,
        "num_seeds": len(cell.final_returns),
        "num_planned": len(cell.seeds),
        "missing": cell.missing_in_words,
        "counted_as_worst": format_seeds(cell.worst),
        "notes": cell.notes,
    }
    text = {
        "IQM": format_number(s.iqm),
        "95 % interval": format_ends(s.interval),
        "mean ± s.e.": format_number(s.mean) + error,
        "seeds": f"{len(cell.final_returns)}/{len(cell.seeds)}",
        "missing": cell.missing_in_words,
        "notes": cell.notes,
    }
    return data, text


def without_empty(table: ReportTable, *columns: str) -> ReportTable:
    """The table, of whose text those of the columns are left out that are empty in every row."""
    empty = [name for name in columns if not table.text[name].any()]
    return table._replace(text=table.text.drop(columns=empty))


def write_tables(tables: Sequence[ReportTable], folder: Path, task: str = "") -> list[Path]:
    """Write every table as ``NAME.csv``, ``NAME.md`` and ``NAME.tex``, and return the paths.

    Args:
        tables: ``report_tables(comparison)``.
        folder: Where they go. It is created.
        task: What was run, for the text.
    """
    paths = []
    for table in tables:
        for suffix, text in (
            ("csv", csv_text(table)),
            ("md", markdown(table, task)),
            ("tex", latex(table, task)),
        ):
            path = folder / f"{table.name}.{suffix}"
            write_atomically(path, text)
            paths.append(path)
    return paths


def csv_text(table: ReportTable) -> str:
    """The table's data, full precision, empty where there is nothing."""
    return str(table.data.map(csv_value).rename(columns=csv_value).to_csv(index=False, lineterminator="\n"))


def markdown(table: ReportTable, task: str = "") -> str:
    """The table's text as GitHub's Markdown, with what was run and the caption above."""
    columns = list(table.text.columns)
    head = [markdown_text(task), ""] if task else []
    lines = [*head, f"{markdown_text(table.caption)}.", "", markdown_row(columns)]
    lines.append("| " + " | ".join("---:" if column in table.numeric else "---" for column in columns) + " |")
    lines += [markdown_row(row) for row in table.text.itertuples(index=False)]
    return "\n".join(lines) + "\n"


_LATEX = {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "…": r"\dots{}"}
"""What pandas leaves as it is."""


def latex(table: ReportTable, task: str = "") -> str:
    r"""The table's text as a ``tabular`` of booktabs, to be taken into a ``table`` with ``\input``."""
    alignment = "".join("r" if column in table.numeric else "l" for column in table.text.columns)
    plain = table.text.map(lambda text: " ".join(str(text).split()))
    body = plain.to_latex(index=False, escape=True, column_format=alignment)
    for character, command in _LATEX.items():
        body = body.replace(character, command)
    body = re.sub(r"^\[", r"\\relax [", body, flags=re.MULTILINE)  # else an argument of the line above
    body = re.sub(r"(?<![\w.}])-(?=\d)", "$-$", body)
    head = [f"% {' '.join(text.split())}" for text in (task, table.caption) if text]
    return "\n".join([*head, r"% needs \usepackage{booktabs}", body])
