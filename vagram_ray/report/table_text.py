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
