"""Tables as files: CSV holds the data, Markdown and LaTeX the text (LaTeX needs the package booktabs)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vagram_ray.files import write_atomically
from vagram_ray.text import csv_value, markdown_row, markdown_text

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
            ("csv", table.data.map(csv_value).rename(columns=csv_value).to_csv(index=False, lineterminator="\n")),
            ("md", markdown(table, task)),
            ("tex", latex(table, task)),
        ):
            path = folder / f"{table.name}.{suffix}"
            write_atomically(path, text)
            paths.append(path)
    return paths


def markdown(table: ReportTable, task: str = "") -> str:
    """The table's text as GitHub's Markdown, with what was run and the caption above."""
    columns = list(table.text.columns)
    head = [markdown_text(task), ""] if task else []
    lines = [*head, f"{markdown_text(table.caption)}.", "", markdown_row(columns)]
    lines.append("| " + " | ".join("---:" if column in table.numeric else "---" for column in columns) + " |")
    lines += [markdown_row(row) for row in table.text.itertuples(index=False)]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "…": r"\dots{}",
}


def latex(table: ReportTable, task: str = "") -> str:
    r"""The table's text as a ``tabular`` of booktabs, to be taken into a ``table`` with ``\input``."""
    columns = list(table.text.columns)
    alignment = "".join("r" if column in table.numeric else "l" for column in columns)
    head = [f"% {' '.join(text.split())}" for text in (task, table.caption) if text]
    lines = [*head, r"% needs \usepackage{booktabs}"]
    lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", _latex_row(columns), r"\midrule"]
    lines += [_latex_row(row) for row in table.text.itertuples(index=False)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    row = " & ".join(latex_text(cell) for cell in cells)
    return (rf"\relax {row}" if row.startswith("[") else row) + r" \\"


def latex_text(text: str) -> str:
    r"""Text with LaTeX's special characters escaped and minus signs before numbers set as such.

    A bracket at the start of a row would be read as the argument of the row before: ``latex`` guards against it.
    """
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(str(text).split()))
    return re.sub(r"(?<![\w.}])-(?=\d)", "$-$", escaped)
