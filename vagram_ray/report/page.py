"""``report.html``: the answer, tables, figures and where they come from, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vagram_ray.files import write_atomically
from vagram_ray.records.intervals import format_interval
from vagram_ray.records.tables import ReportTable
from vagram_ray.report.comparisons import PairComparison, against_reference, seen_from
from vagram_ray.report.curves import Comparison
from vagram_ray.report.dashboard import PREFIX
from vagram_ray.report.figure_files import Figure
from vagram_ray.report.figure_style import css_color, css_variables
from vagram_ray.report.tables import report_tables
from vagram_ray.report.text import describe_panel, seeds_in_figures, spoken, task_lines
from vagram_ray.report.verdict import definitions, findings, next_step, warnings_in_short
from vagram_ray.text import format_number

if TYPE_CHECKING:
    from jinja2 import Template

PAGE_FILE = "report.html"
_TABLES_OF = {
    "learning_curves_iqm": ("final_returns", "steps_to_threshold"),
    "probability_of_improvement": ("against_reference", "pairs"),
}
"""Names of the tables that stand with a figure."""


def write_page(comparison: Comparison, figures: Sequence[Figure], folder: Path) -> Path:
    """Write ``report.html`` into ``folder``. Returns its path.

    Args:
        comparison: What was measured.
        figures: ``draw_figures(comparison, ...)``.
        folder: Where the page goes. It is created.
    """
    path = folder / PAGE_FILE
    write_atomically(path, render_page(comparison, figures))
    return path


def render_page(comparison: Comparison, figures: Sequence[Figure]) -> str:
    """The page as text: figures inline, no script, nothing that is loaded from elsewhere."""
    return Page(
        title=_title(comparison),
        task=task_lines(comparison),
        replaced=list(dict.fromkeys(facts.replaced_task for facts in comparison.experiments if facts.replaced_task)),
        warnings=warnings_in_short(comparison),
        findings=findings(comparison),
        next_step=" ".join(next_step(comparison)),
        words=list(definitions(comparison)),
        glance=at_a_glance(comparison),
        sections=_sections(
            [figure for figure in figures if not figure.name.startswith(PREFIX)], report_tables(comparison)
        ),
        dashboard=[figure for figure in figures if figure.name.startswith(PREFIX)],
        experiments=[
            {"name": facts.name, "kind": f"{facts.kind}, {facts.source}", "details": facts.details}
            for facts in comparison.experiments
        ],
        seeds=seeds_in_figures(comparison),
    ).render()


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page of the report shows; what it has nothing of is left out."""

    title: str
    task: Sequence[str]
    findings: Sequence[str]
    sections: Sequence[Section]
    experiments: Sequence[Mapping[str, Any]]
    seeds: str
    """How many seeds the figures are of."""
    replaced: Sequence[str] = ()
    """Tasks of the paper that the scale has replaced."""
    warnings: Sequence[str] = ()
    findings_open: bool = False
    next_step: str = ""
    words: Sequence[str] = ()
    glance: Any = None
    dashboard: Sequence[Figure] = ()

    def render(self) -> str:
        """The page as text."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return _template().render(**shown, footer=_footer())


def _template() -> Template:
    """The template of every page, which knows the colors."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vagram_ray.report"),
        autoescape=True,  # also of the style sheet: a name in it never holds a quote
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    light, dark = css_variables()
    environment.globals.update(css_color=css_color, light=light, dark=dark)
    return environment.get_template("report.html")


# -- texts -------------------------------------------------------------------------------------------------------


def _title(comparison: Comparison) -> str:
    names = [facts.name for facts in comparison.experiments]
    return " + ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more experiments"


class Standing(NamedTuple):
    """How one method stands against another: verdict and difference, at the end and along the way."""

    end: tuple[str, str]
    way: tuple[str, str]


class Glance(NamedTuple):
    """How one method stands against every other one, panel by panel, or None where there is no comparison."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Standing | None, ...]], ...]


def at_a_glance(comparison: Comparison) -> Glance | None:
    """The method that the sentences are about against all others, or None where nothing can be compared."""
    focus = comparison.focus
    rows: dict[str, dict[str, Standing]] = {}
    for pair in against_reference(comparison):
        own = seen_from(pair, focus)
        panel = describe_panel(comparison, own.first, own.second).removeprefix("With ") or "all"
        way = ("", "") if own.way is None else _standing(own.way)
        rows.setdefault(panel, {})[own.second_name] = Standing(_standing(own), way)
    others = [line for line in comparison.lines if any(line in row for row in rows.values())]
    if not others:
        return None
    standings = tuple((panel, tuple(row.get(other) for other in others)) for panel, row in rows.items())
    return Glance(f"{spoken(focus)} against", tuple(spoken(other) for other in others), standings)


def _standing(pair: PairComparison) -> tuple[str, str]:
    """``better, firm`` and ``98 [12, 180]``."""
    margin = format_number(pair.margin)
    words = {"better": "better, firm", "worse": "worse, firm", "equivalent": f"equivalent ±{margin}"}
    return words.get(pair.standing, pair.standing), format_interval(pair.difference)


def _footer() -> str:
    """The last line of a page."""
    from vagram_ray import __version__

    return f"Written by python -m vagram_ray.report, vagram_ray {__version__}."


# -- sections ----------------------------------------------------------------------------------------------------


class Section(NamedTuple):
    """One figure, or several to switch between, with the tables that belong to it."""

    name: str
    title: str
    figures: Sequence[Figure]
    tables: Sequence[ReportTable]


def _sections(figures: Sequence[Figure], tables: Sequence[ReportTable]) -> list[Section]:
    by_name = {table.name: table for table in tables}
    sections: dict[str, Section] = {}
    for figure in figures:
        own = [by_name.pop(name) for name in _TABLES_OF.get(figure.name, ()) if name in by_name]
        title, _, _ = figure.title.partition(": ")  # of the learning curves there are two
        section = sections.setdefault(title, Section(figure.name, title, [], []))
        sections[title] = section._replace(figures=[*section.figures, figure], tables=[*section.tables, *own])
    # A table whose figure there was nothing to draw for.
    others = [Section(table.name, table.name.replace("_", " "), [], [table]) for table in by_name.values()]
    return [*sections.values(), *others]
