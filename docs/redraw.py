"""``python docs/redraw.py``: every figure and table of the documentation anew, from what the repository holds.

A line before a picture, and one before and one after a table, say what it is made of::

    <!-- figure: learning_curves_iqm records/NAME reference=nll -->
    ![What it shows](figures/NAME.png)

    <!-- table: against_reference records/NAME reference=nll columns='method,IQM,difference' -->
    (the table)
    <!-- end of table -->

The first word is a figure or a table of ``python -m vagram_ray.report``; then come the folders of published sweeps,
below ``docs/``, and options: ``reference``, ``margin`` and ``metric`` as the report has them, for tables ``columns``
(those to show, in this order) and ``panel`` (the one to show). Besides there are:

- the table ``along``: means of the evaluations since the column before, as interquartile means over the seeds, in
  columns of ``at=10000,20000`` environment steps; with ``metric=NAME`` of that metric;
- the table ``differences``: final returns of one method minus those of another, and on how many seeds it is better, in
  one column per panel; ``pairs='what it is: FIRST - SECOND; ...'`` has the rows;
- the table ``dashboard``: the panels of the report's and W&B's dashboard;
- the figure ``play``, then the folder of a policy: the picture of ``python -m vagram_ray.play FOLDER --model``;
- the figure ``study``, then its name and options as ``name=value``: drawn by ``python -m vagram_ray.studies.NAME``,
  which takes minutes and is run with ``--studies`` alone;
- ``none:`` and the reason: there are no records of it any more.

``--check`` changes nothing and says what is not as it would be drawn: a figure without a source, a table with other
numbers, a figure that was drawn of other records (each picture holds the checksum of its source).

Exit status: 0, or 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import click
import numpy as np

from vagram_ray.files import write_atomically
from vagram_ray.records.intervals import format_interval
from vagram_ray.records.seed_statistics import interquartile_mean
from vagram_ray.report import Comparison, load_comparison
from vagram_ray.report.comparisons import compare_pairs, seen_from
from vagram_ray.report.curves import CellCurves, with_reference
from vagram_ray.report.dashboard import SECTIONS
from vagram_ray.report.statistics import on_common_steps
from vagram_ray.report.text import spoken
from vagram_ray.text import format_number, markdown_row

ROOT = Path(__file__).resolve().parents[1]
END = "<!-- end of table -->"
STAMP = "Source"
"""Key of a picture's text that holds the checksum of what it was drawn of."""
_FIGURE = re.compile(r"<!-- figure: (.*?) -->\s*!\[[^\]]*\]\(([^)\s]+)\)", re.DOTALL)
_TABLE = re.compile(rf"(<!-- table: (.*?) -->)(.*?){END}", re.DOTALL)
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.png)\)|<img [^>]*src=\"([^\"]+\.png)\"")


class SourceError(Exception):
    """What a marker names cannot be drawn: one sentence."""


@dataclass(frozen=True)
class Marker:
    """What a figure or a table is made of."""

    kind: str
    names: tuple[str, ...]
    options: Mapping[str, str]
    text: str

    @classmethod
    def parse(cls, text: str) -> Marker:
        """From the words in a marker."""
        if text.startswith("none:"):
            return cls("none", (), {}, text)
        try:
            first, *words = shlex.split(text)
        except ValueError as error:
            raise SourceError(f"{text!r} cannot be read ({error})") from error
        names = tuple(word for word in words if "=" not in word.partition("/")[0])
        options = dict(word.split("=", 1) for word in words if word not in names)
        return cls(first, names, options, text)


@dataclass(frozen=True)
class Docs:
    """The documentation of a clone."""

    root: Path = ROOT

    @property
    def pages(self) -> list[Path]:
        """README and all pages, without what lies beside records."""
        folder = self.root / "docs"
        inside = (page for page in sorted(folder.rglob("*.md")) if folder / "records" not in page.parents)
        return [page for page in (self.root / "README.md", *inside) if page.is_file()]

    def sources(self) -> Iterator[tuple[Path, Path, str]]:
        """Page, picture and marker of every figure that names its source."""
        for page in self.pages:
            for text, target in _FIGURE.findall(page.read_text(encoding="utf-8")):
                yield page, (page.parent / target).resolve(), text

    def shown(self) -> dict[Path, Path]:
        """Every picture that a page shows, with the first page that does."""
        found: dict[Path, Path] = {}
        for page in self.pages:
            for pair in _PICTURE.findall(page.read_text(encoding="utf-8")):
                found.setdefault((page.parent / (pair[0] or pair[1])).resolve(), page)
        return found

    def folder(self, name: str) -> Path:
        """A folder that a marker names: below ``docs/``, or below the clone."""
        return next((own for own in (self.root / "docs" / name, self.root / name) if own.is_dir()), self.root / name)

    def comparison(self, marker: Marker) -> Comparison:
        """What the report would read."""
        if not marker.names:
            raise SourceError(f"{marker.text!r} names no records")
        margin = float(marker.options["margin"]) if "margin" in marker.options else None
        return _comparison(tuple(map(self.folder, marker.names)), marker.options.get("reference"), margin)

    def checksum(self, marker: Marker) -> str:
        """Of what a figure is drawn of, and how."""
        digest = hashlib.sha256(marker.text.encode())
        for name in marker.names:
            folder = self.folder(name)
            files = [folder / "sweep.json", *sorted(folder.glob("records/*.jsonl")), folder / "manifest.json"]
            if not any(file.is_file() for file in files):
                raise SourceError(f"there are no records in {name!r}")
            for file in filter(Path.is_file, files):
                digest.update(file.name.encode() + file.read_bytes())
        return digest.hexdigest()[:16]


@cache
def _comparison(folders: tuple[Path, ...], reference: str | None, margin: float | None) -> Comparison:
    return replace(with_reference(load_comparison(folders), reference), margin=margin)


# -- tables ------------------------------------------------------------------------------------------------------


def table_text(docs: Docs, marker: Marker) -> str:
    """A table as Markdown."""
    columns, rows, numeric = _rows(docs, marker)
    panel = marker.options.get("panel")
    if panel is not None and "panel" in columns:
        place = columns.index("panel")
        rows = [row for row in rows if row[place] == panel]
        if not rows:
            raise SourceError(f"panel={panel!r} is none of the panels")
        columns, rows = _chosen(columns, rows, [name for name in columns if name != "panel"])
    if "columns" in marker.options:
        columns, rows = _chosen(columns, rows, marker.options["columns"].split(","))
    rule = "| " + " | ".join("---:" if column in numeric else "---" for column in columns) + " |"
    return "\n".join([markdown_row(columns), rule, *map(markdown_row, rows)])


Table = tuple[list[str], list[list[str]], frozenset[str]]
"""Columns, rows, and which columns are aligned to the right."""


def _rows(docs: Docs, marker: Marker) -> Table:
    if marker.kind == "dashboard":
        return _dashboard()
    comparison = docs.comparison(marker)
    made = {"along": _along, "differences": _differences}.get(marker.kind, _of_report)
    return made(comparison, marker)


def _dashboard() -> Table:
    rows = [
        [section.title if panel == section.panels[0] else "", panel.title, panel.metric, panel.says]
        for section in SECTIONS
        for panel in section.panels
    ]
    return ["section", "panel", "metric", "what it says"], rows, frozenset()


def _of_report(comparison: Comparison, marker: Marker) -> Table:
    from vagram_ray.report.tables import report_tables

    tables = {table.name: table for table in report_tables(comparison)}
    if marker.kind not in tables:
        raise SourceError(f"{marker.kind!r} is no table; there are {', '.join([*tables, 'along', 'differences'])}")
    table = tables[marker.kind]
    return list(table.text.columns), [list(row) for row in table.text.itertuples(index=False)], table.numeric


def _chosen(columns: list[str], rows: list[list[str]], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    if unknown := [name for name in names if name not in columns]:
        raise SourceError(f"there is no column {unknown[0]!r}; there are {', '.join(columns)}")
    places = [columns.index(name) for name in names]
    return list(names), [[row[place] for place in places] for row in rows]


def _along(comparison: Comparison, marker: Marker) -> Table:
    """Means between the steps in ``at``, one row per cell; seeds that are lost count as the worst, as in curves."""
    if "at" not in marker.options:
        raise SourceError(f"{marker.text!r} lacks at=STEPS,STEPS")
    ends = [int(step) for step in marker.options["at"].split(",")]
    metric = marker.options.get("metric")
    names = [f"{end:,}" for end in ends]
    rows = []
    for panel in comparison.panels():
        for cell in panel.cells:
            values = _between(cell if metric is None else cell.of_metric(metric), ends)
            rows.append([panel.title, comparison.line_name(cell), *map(format_number, values)])
    return ["panel", "method", *names], rows, frozenset(names)


def _differences(comparison: Comparison, marker: Marker) -> Table:
    """Final returns of chosen pairs of methods, seed by seed, one row per pair and one column per panel."""
    compared = {(pair.panel, *sorted((pair.first_name, pair.second_name))): pair for pair in compare_pairs(comparison)}
    panels = list(dict.fromkeys(panel for panel, *_ in compared))
    rows = []
    for row in filter(str.strip, marker.options.get("pairs", "").split(";")):
        says, _, methods = row.partition(":")
        first, _, second = map(str.strip, methods.partition(" - "))
        cells = []
        for panel in panels:
            pair = compared.get((panel, *sorted((first, second))))
            if pair is None:
                raise SourceError(f"{row.strip()!r} is no pair of methods in {panel!r}")
            pair = seen_from(pair, first)
            cells.append(f"{format_interval(pair.difference)}, {pair.wins}")
        rows.append([says.strip(), f"{spoken(first)} - {spoken(second)}", *cells])
    return ["cause", "difference", *panels], rows, frozenset(panels)


def _between(cell: CellCurves, ends: Sequence[int]) -> list[float]:
    steps, returns = on_common_steps(cell)  # (T,), (S, T)
    values = []
    for start, end in zip([-1, *ends], ends, strict=False):
        inside = returns[:, (steps > start) & (steps <= end)]
        means = np.array([np.nanmean(row) for row in inside if not np.isnan(row).all()])
        values.append(float(interquartile_mean(means)) if len(means) else float("nan"))
    return values


# -- figures -----------------------------------------------------------------------------------------------------


def draw_report(docs: Docs, marker: Marker, folder: Path) -> Path:
    """A figure of the report."""
    from vagram_ray.report.figure_files import save_plot
    from vagram_ray.report.figures import check_metrics, plots_of
    from vagram_ray.report.text import seeds_in_figures, task_lines

    comparison = docs.comparison(marker)
    metrics = [marker.options["metric"]] if "metric" in marker.options else []
    check_metrics(comparison, metrics)
    plots = {plot.name: plot for plot in plots_of(comparison, metrics)}
    name = (
        next((own for own in plots if own.startswith("metric_")), "metric") if marker.kind == "metric" else marker.kind
    )
    if name not in plots:
        raise SourceError(f"{marker.kind!r} is no figure; there are {', '.join(plots)}")
    return save_plot(plots[name], folder, " | ".join([*task_lines(comparison), seeds_in_figures(comparison)])).png


def draw_play(docs: Docs, marker: Marker, folder: Path) -> Path:
    """The picture of ``python -m vagram_ray.play FOLDER --model``."""
    (name,) = marker.names
    _run("vagram_ray.play", str(docs.folder(name)), "--model", "--output", str(folder), **marker.options)
    return next(folder.glob("*-model.png"))


def draw_study(docs: Docs, marker: Marker, folder: Path) -> Path:
    """The picture of a study; ``file`` names it where the study draws several."""
    (name,) = marker.names
    options = {key: value for key, value in marker.options.items() if key != "file"}
    _run(f"vagram_ray.studies.{name}", "--output", str(folder / "study"), **options)
    return folder / "study" / f"{marker.options.get('file', name)}.png"


DRAWN_BY: Mapping[str, Callable[[Docs, Marker, Path], Path]] = {"play": draw_play, "study": draw_study}


def _run(module: str, *arguments: str, **options: str) -> None:
    named = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    done = subprocess.run([sys.executable, "-m", module, *arguments, *named], capture_output=True, text=True)
    if done.returncode:
        raise SourceError(f"python -m {module} failed: {done.stderr.strip()[-500:]}")


def write_picture(drawn: Path, picture: Path, checksum: str) -> None:
    """Put a drawn picture into the documentation, with the checksum of its source."""
    from PIL import Image, PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text(STAMP, checksum)
    with Image.open(drawn) as image:
        image.save(drawn, "PNG", pnginfo=text, optimize=True)
    write_atomically(picture, drawn.read_bytes())


def stamp(picture: Path) -> str:
    """The checksum in a picture; empty where there is none."""
    from PIL import Image

    with Image.open(picture) as image:
        return str(image.info.get(STAMP, ""))


# -- all of them -------------------------------------------------------------------------------------------------


def go(docs: Docs, *, check: bool, studies: bool = False) -> Iterator[str]:
    """Redraw everything, or only look; yields what is wrong, a line each."""
    for page in docs.pages:
        yield from _tables(docs, page, check)
    made: dict[Path, str] = {}
    for page, picture, text in docs.sources():
        if picture in made:
            yield f"{_at(docs, page)}: {picture.name} has two sources, {made[picture]!r} and {text!r}"
        made[picture] = text
        yield from _figure(docs, page, picture, text, check, studies)
    shown = docs.shown()
    for picture, page in shown.items():
        if picture not in made:
            yield f"{_at(docs, page)}: no line <!-- figure: ... --> says what {picture.name} is drawn of"
    for picture in sorted((docs.root / "docs" / "figures").glob("*.png")):
        if picture.resolve() not in shown:
            yield f"docs/figures/{picture.name} is on no page"


def _tables(docs: Docs, page: Path, check: bool) -> Iterator[str]:
    problems = []
    text = page.read_text(encoding="utf-8")
    if text.count("<!-- table: ") != len(_TABLE.findall(text)):
        yield f"{_at(docs, page)}: a table has no line {END}"
        return

    def anew(match: re.Match[str]) -> str:
        try:
            marker = Marker.parse(match[2])
            if marker.kind == "none":
                return match[0]
            wanted = table_text(docs, marker)
        except (SourceError, click.ClickException, ValueError) as error:
            problems.append(f"{_at(docs, page)}: table {match[2]!r}: {_sentence(error)}")
            return match[0]
        if check and match[3].strip() != wanted:
            problems.append(
                f"{_at(docs, page)}: table {match[2]!r} is not what the records give: {_other(match[3], wanted)}"
            )
        return f"{match[1]}\n\n{wanted}\n\n{END}"

    written = _TABLE.sub(anew, text)
    if not check and written != text:
        write_atomically(page, written)
    yield from problems


def _other(there: str, wanted: str) -> str:
    """The first line that differs."""
    old, new = there.strip().splitlines(), wanted.splitlines()
    place = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    return f"{old[place] if place < len(old) else 'nothing'} instead of {new[place] if place < len(new) else 'nothing'}"


def _figure(docs: Docs, page: Path, picture: Path, text: str, check: bool, studies: bool) -> Iterator[str]:
    place = f"{_at(docs, page)}: {picture.name}"
    if not picture.is_file() and check:
        yield f"{place} is not there"
        return
    try:
        marker = Marker.parse(text)
        if marker.kind == "none" or (marker.kind == "study" and (check or not studies)):
            return
        checksum = "study" if marker.kind == "study" else docs.checksum(marker)
        if check:
            if stamp(picture) != checksum:
                yield f"{place} was drawn of other records than {text!r} names"
            return
        with tempfile.TemporaryDirectory() as folder:
            write_picture(DRAWN_BY.get(marker.kind, draw_report)(docs, marker, Path(folder)), picture, checksum)
    except (SourceError, click.ClickException, ValueError, OSError) as error:
        yield f"{place}: {_sentence(error)}"


def _sentence(error: Exception) -> str:
    return error.message if isinstance(error, click.ClickException) else str(error)


def _at(docs: Docs, page: Path) -> str:
    return page.relative_to(docs.root).as_posix()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description="Redraw the documentation's figures and tables from the records in it."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; say what is not as it would be drawn")
    parser.add_argument("--studies", action="store_true", help="also run the studies, which takes minutes")
    arguments = parser.parse_args()
    problems = list(go(Docs(), check=arguments.check, studies=arguments.studies))
    for problem in problems:
        print(problem)
    if problems and arguments.check:
        print("python docs/redraw.py draws and writes them anew.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
