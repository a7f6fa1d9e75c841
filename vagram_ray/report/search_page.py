"""The report of a search: ranking, best settings as options, figures, and one page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from vagram_ray.files import write_atomically
from vagram_ray.records.intervals import format_ends
from vagram_ray.records.seed_statistics import MIN_SEEDS
from vagram_ray.records.tables import ReportTable, Row, make_table, write_tables
from vagram_ray.report.figure_files import Figure, save_plot
from vagram_ray.report.page import PAGE_FILE, Page, Section
from vagram_ray.report.search import Search
from vagram_ray.report.search_importance import Importance, importance
from vagram_ray.report.search_plots import plots_of_search
from vagram_ray.text import format_number, format_value, plural

RANKING = "ranking"


def write_search(search: Search, folder: Path) -> tuple[Path, list[Figure], list[Path], list[str]]:
    """Write tables, figures and the page of a search; returns the page, figures, tables and the answer in words."""
    told = importance(search)
    table = ranking_table(search)
    tables = write_tables([table], folder, search.facts.task)
    plots = plots_of_search(search, told) if search.names else []
    figures = [save_plot(plot, folder, search.facts.task) for plot in plots]
    sentences = answer(search, told)
    path = folder / PAGE_FILE
    write_atomically(path, _page(search, figures, table, sentences))
    return path, figures, tables, sentences


def print_answer(search: Search, sentences: Sequence[str], console: Console) -> None:
    """The first lines of the report on the terminal."""
    if search.facts.task:
        console.print(search.facts.task, style="bold")
        console.print()
    for sentence in sentences:
        console.print(f"- {sentence}", soft_wrap="--set " in sentence)  # options are there to be copied
    console.print()


# -- words -------------------------------------------------------------------------------------------------------


def answer(search: Search, told: Importance) -> list[str]:
    """The answer in words: the best sample, how sure that is, what matters, what to do next."""
    best = search.best
    if best is None:
        return [f"None of {plural(len(search.samples), 'sample')} has a return yet."]
    seeds = plural(len(best.final_returns), "seed")
    sentences = [f"Best of {plural(len(search.samples), 'sample')}: {best} (interquartile mean of {seeds})."]
    if search.facts.kind == "sweep" and best.axes:
        sentences.append(f"Its settings as options: {best.set_options}")
    if stopped := [sample for sample in search.samples if sample.stopped_by]:
        who = " and ".join(dict.fromkeys(sample.stopped_by for sample in stopped))
        sentences.append(
            f"{len(stopped)} of {plural(len(search.samples), 'sample')} stopped early ({who}), and rank after those "
            "that came to their end."
        )
    if rivals := _rivals(search):
        names = "; ".join(rivals[:3]) + (", ..." if len(rivals) > 3 else "")
        sentences.append(f"Its interval overlaps with that of {plural(len(rivals), 'other sample')}: {names}.")
    if told.values:
        first, (share, _) = next(iter(told.values.items()))
        sentences.append(f"What matters most is {first} (importance {format_number(share)}). {told.note}")
    elif told.note:
        sentences.append(told.note)
    if len(best.final_returns) < MIN_SEEDS:
        sentences.append(f"Intervals of fewer than {MIN_SEEDS} seeds are too narrow: they decide nothing.")
    sentences.append(
        "The best of many samples looks better than it is: give its settings seeds of their own before reporting a "
        "number."
    )
    return sentences


def _rivals(search: Search) -> list[str]:
    """Names of the samples whose intervals reach that of the best, of those that came as far."""
    best = search.best
    if best is None or math.isnan(low := best.statistics.low):
        return []
    others = [sample for sample in search.measured[1:] if bool(sample.stopped) == bool(best.stopped)]
    return [sample.label for sample in others if sample.statistics.high >= low]


def ranking_table(search: Search) -> ReportTable:
    """A row per sample, the best one first."""

    def rows() -> Iterator[Row]:
        for place, sample in enumerate(search.samples, start=1):
            own, seeds = sample.statistics, len(sample.final_returns)
            settings = {name: sample.axes.get(name, "") for name in search.names}
            shown = {name: format_value(value) for name, value in settings.items()}
            plain = {name: shown[name] if isinstance(value, list) else value for name, value in settings.items()}
            numbers = {"iqm": own.iqm, "low_95": own.low, "high_95": own.high, "seeds": seeds, "epochs": sample.epochs}
            named = {"stopped_by": sample.stopped_by, "options": sample.set_options}
            end = f"{sample.epochs}, stopped by {sample.stopped_by}" if sample.stopped else str(sample.epochs)
            result = {"IQM": format_number(own.iqm), "95 %": format_ends(own.interval)}
            yield (
                {"rank": place, "sample": sample.label, **plain, **numbers, **named},
                {"rank": str(place), **shown, **result, "seeds": str(seeds), "epochs": end},
            )

    caption = f"Ranking by {search.comparison.return_metric}: those that were stopped early after the others"
    return make_table(RANKING, caption, rows(), {"rank", "IQM", "95 %", "seeds", *search.names})


# -- page --------------------------------------------------------------------------------------------------------


def _page(search: Search, figures: Sequence[Figure], table: ReportTable, sentences: Sequence[str]) -> str:
    facts = search.facts
    sections = [Section(RANKING, "Ranking", [], [table])]
    sections += [Section(figure.name, figure.title, [figure], []) for figure in figures]
    seeds = sorted({len(sample.final_returns) for sample in search.measured})
    counts = f"n = {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds" if seeds else "no seeds yet"
    return Page(
        title=facts.name,
        task=[facts.task] if facts.task else [],
        warnings=["The search still runs."] if facts.running else [],
        findings=list(sentences),
        findings_open=True,
        sections=sections,
        experiments=[{"name": facts.name, "kind": f"{facts.kind}, {facts.source}", "details": facts.details}],
        seeds=counts,
    ).render()
