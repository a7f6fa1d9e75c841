"""The page: what stands on it, that it needs nothing else, and how a real browser shows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.report.chromium import Browser, find_chromium, headless_chromium
from tests.report.synthetic import cell_of, comparison_of
from vagram_ray.report.curves import CellCurves, Comparison, ExperimentFacts
from vagram_ray.report.dashboard import panel_sections
from vagram_ray.report.figures import draw_figures
from vagram_ray.report.page import at_a_glance, render_page, write_page
from vagram_ray.report.text import task_lines
from vagram_ray.report.verdict import next_step, verdict, warnings_in_short

COMMAND = "python -m vagram_ray.sweep tune_configs/distractors.py --set 'num_distractors=grid(0, 5, 10)' --name <final>"


REPLACED = "laptop scale: Pendulum-v1 instead of the paper scale's Hopper-v4"


def finals(mean: float, seed: int) -> list[float]:
    return (mean + np.random.default_rng(seed).normal(size=8)).tolist()


def make_comparison() -> Comparison:
    """Two panels, a seed that is missing, and names that are no good HTML."""
    cells: list[CellCurves] = []
    for place, number in enumerate((5, 10)):
        cells += [
            cell_of(finals(10.0, place), num_distractors=number, model_loss="vagram"),
            cell_of(finals(0.0, place + 9), num_distractors=number, model_loss='<b>mse</b> & "more"'),
            cell_of(finals(10.0, place + 5), num_distractors=number, model_loss="none"),
        ]
    returns = {seed: value for seed, value in cells[-1].final_returns.items() if seed != 3}
    cells[-1] = replace(cells[-1], final_returns=returns, missing={3: "became NaN in epoch 7"})
    cells = [replace(cell, metrics={"model/unexplained_real": cell.returns}) for cell in cells]
    comparison = comparison_of(*cells)
    details = {"Command": COMMAND, "Commit": "0123456789abcdef" * 3, "GPU hours": "0.1"}
    facts = ExperimentFacts("a sweep", Path("results/a"), "sweep", details, replaced_task=REPLACED)
    return replace(comparison, experiments=(facts,))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return make_comparison()


@pytest.fixture(scope="module")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_page(comparison, draw_figures(comparison, folder), folder)


class Outline(HTMLParser):
    """What a page says, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_everything_stands_on_the_page(page: Path, comparison: Comparison) -> None:
    text = Outline(page.read_text()).text
    for sentence in verdict(comparison):
        assert " ".join(sentence.split()) in text
    for cell in comparison.cells:
        assert cell.label in text
    assert "seed 3 became NaN in epoch 7; seed 3 counts as the worst final return of the cell, " in text
    assert COMMAND in text
    assert "GPU hours 0.1" in text
    # On the first screen, before the first figure: what was run, what is amiss, what comes next.
    first_screen = text[: text.index("Learning curves")]
    for sentence in (REPLACED, *warnings_in_short(comparison), *next_step(comparison)):
        assert sentence in first_screen
    assert "47 of 48 seeds came to their end" in first_screen and "Next: " in first_screen
    assert "learning_curves_mean.pdf" in text
    dashboard = text[text.index("Dashboard: ") :]
    for panel in (panel for own in panel_sections(comparison) for panel in own.panels):
        assert panel.title in dashboard and panel.says in dashboard
    assert "2 panels, as --wandb builds them" in dashboard
    assert "a sweep" in text and task_lines(comparison)[0] in text and "n = 8 seeds" in text


def test_the_same_results_give_the_same_page(comparison: Comparison) -> None:
    assert render_page(comparison, []) == render_page(make_comparison(), [])


def test_the_page_needs_nothing_from_elsewhere(page: Path) -> None:
    html = page.read_text()
    outline = Outline(html)
    links = [value for _, attributes in outline.elements for key, value in attributes.items() if key in ("href", "src")]
    assert links and all(link and link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\((?!#)|@import|https?://", html)
    assert not [tag for tag, _ in outline.elements if tag in ("script", "iframe", "object", "embed", "b")]


def test_the_page_has_headings_texts_for_figures_and_distinct_ids(page: Path, comparison: Comparison) -> None:
    outline = Outline(page.read_text())
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"] for tag, attributes in outline.elements if tag == "a"]
    assert targets and {str(target)[1:] for target in targets} <= set(ids)
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels[:-1], levels[1:], strict=True))
    images = [attributes for _, attributes in outline.elements if attributes.get("role") == "img"]
    assert len(images) >= 6 * 2 and all(str(image["aria-label"]).endswith(".") for image in images)
    assert [attributes.get("lang") for tag, attributes in outline.elements if tag == "html"] == ["en"]


def test_the_glance_tells_who_is_ahead(comparison: Comparison) -> None:
    glance = at_a_glance(comparison)
    assert glance is not None and glance.title == "vagram against"
    assert glance.columns[1] == "plain SAC"
    assert [row[0] for row in glance.rows] == ["5 distractors", "10 distractors"]
    for _, standings in glance.rows:
        against_mse = standings[0]
        assert against_mse is not None
        assert (against_mse.end[0], against_mse.way[0]) == ("better, firm", "better, firm")
        assert against_mse.end[1].startswith("1") and against_mse.end[1].endswith("]")
    turned = [cell_of(finals(mean, 7), model_loss=loss) for mean, loss in ((0.0, "vagram"), (9.0, "nll"), (9.0, "mse"))]
    worse = at_a_glance(comparison_of(*turned))
    assert worse is not None and [row[0] for row in worse.rows] == ["all"]
    assert [standing and standing.end for standing in worse.rows[0][1]] == 2 * [("worse, firm", "-9.00 [-9.00, -9.00]")]
    assert at_a_glance(comparison_of(turned[0])) is None


class FirstTable(HTMLParser):
    """Rows of a page's first table: text and span of each cell."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, dict[str, str | None]]]] = []
        self._is_over = self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr" and not self._is_over:
            self.rows.append([])
        elif tag in ("th", "td") and not self._is_over:
            self.rows[-1].append(("", dict(attrs)))
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._is_over |= tag == "table"
        self._in_cell &= tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        if self._in_cell and not self._is_over:
            text, attributes = self.rows[-1][-1]
            self.rows[-1][-1] = (text + data, attributes)

    @property
    def texts(self) -> list[list[str]]:
        return [[text for text, _ in row] for row in self.rows]


def test_the_glance_has_two_rows_per_panel_and_a_column_per_method() -> None:
    """However many panels there are: the table grows down, as the page does."""
    cells = [
        cell_of(finals(mean, place), num_distractors=place, model_loss=loss)
        for place in range(1, 19)
        for mean, loss in ((10.0, "vagram"), (0.0, "mse"), (5.0, "none"))
    ]
    comparison = comparison_of(*cells)
    glance = at_a_glance(comparison)
    assert glance is not None
    table = FirstTable(render_page(comparison, []))
    head, *rows = table.texts
    assert head == ["vagram against", "mse", "plain SAC"]
    assert len(rows) == 2 * 18
    for (panel, standings), end, way in zip(glance.rows, rows[::2], rows[1::2], strict=True):
        assert end == [panel, "at the end", *(" ".join(standing.end) for standing in standings if standing)]
        assert way == ["along the way", *(" ".join(standing.way) for standing in standings if standing)]
    assert [attributes.get("rowspan") for row in table.rows[1:] for text, attributes in row[:1]] == 18 * ["2", None]


def test_a_comparison_without_results_has_a_page() -> None:
    cells = [cell_of([], missing={0: "never reported"}, model_loss=loss) for loss in ("vagram", "nll")]
    text = Outline(render_page(comparison_of(*cells), [])).text
    assert "2 of 2 seeds do not count" not in text  # that stands with the figure of the seeds, and there is none
    assert "seed 0 never reported" in text


# -- in a browser ------------------------------------------------------------------------------------------------

CHROMIUM = find_chromium()
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to show the page with")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with headless_chromium(CHROMIUM) as running:
        yield running


@needs_chromium
@pytest.mark.parametrize("width", [1280, 360, 320])
def test_the_page_fits_every_screen(browser: Browser, page: Path, width: int) -> None:
    tab = browser.new_page()
    tab.open(page, width=width)
    assert tab.problems == []
    assert tab.requests == [page.as_uri()]
    assert tab.evaluate("innerWidth") == width
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
    visible = "[...document.querySelectorAll('.panel svg')].filter(svg => svg.checkVisibility())"
    shown = f"{visible}.map(svg => svg.getBoundingClientRect())"
    assert tab.evaluate(f"{shown}.length") >= 10
    assert tab.evaluate(f"{shown}.every(box => box.width >= 150 && box.height >= 60 && box.right <= innerWidth)")
    wide = (
        "[...document.querySelectorAll('table')].filter(table => table.offsetWidth > table.parentElement.clientWidth)"
    )
    assert tab.evaluate(f"{wide}.every(table => getComputedStyle(table.parentElement).overflowX == 'auto')")


@needs_chromium
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_the_first_figure_is_on_the_first_screen(browser: Browser, page: Path, width: int, height: int) -> None:
    tab = browser.new_page()
    tab.open(page, width=width)
    first = "[...document.querySelectorAll('.panel svg')].find(svg => svg.checkVisibility()).getBoundingClientRect()"
    assert tab.evaluate(f"{first}.{'bottom' if width > 500 else 'top'}") < height


@needs_chromium
def test_the_curves_switch_between_interquartile_mean_and_mean(browser: Browser, page: Path) -> None:
    tab = browser.new_page()
    tab.open(page, width=1280)
    visible = "[...document.querySelectorAll('.choice')].map(choice => choice.checkVisibility())"
    assert tab.evaluate(visible) == [True, False]
    tab.evaluate("document.querySelector('label[for=show-learning_curves_mean]').click()")
    assert tab.evaluate(visible) == [False, True]


CONTRASTS = """(() => {
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => parts(color).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const background = element => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = [...document.body.querySelectorAll('*')].filter(element =>
    [...element.childNodes].some(node => node.nodeType == 3 && node.data.trim()));
  return texts.map(element => {
    const style = getComputedStyle(element);
    const colors = [element instanceof SVGElement ? style.fill : style.color, background(element)].map(luminance);
    return [(Math.max(...colors) + 0.05) / (Math.min(...colors) + 0.05), element.textContent.slice(0, 40)];
  });
})()"""


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_in_dark(browser: Browser, page: Path, dark: bool) -> None:
    tab = browser.new_page()
    tab.open(page, width=1280, dark=dark)
    red = int(tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"))
    assert red < 64 if dark else red > 192
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [(ratio, text) for ratio, text in contrasts if ratio < 4.5] == []
