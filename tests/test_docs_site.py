"""The documentation site: it builds without a warning, needs no other server, and README's links work on it too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import vagram_ray.envs
import vagram_ray.report
import vagram_ray.rllib
import vagram_ray.sweep

pytestmark = pytest.mark.ci

for package in ("mkdocs", "material", "mkdocstrings"):
    pytest.importorskip(package, reason="the site is built with the extra `docs`")

ROOT = Path(__file__).resolve().parents[1]
LOADING = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "link": "href", "object": "data", "script": "src",
    "source": "src", "video": "src",
}  # fmt: skip
"""Attributes whose address a browser loads by itself, by tag."""


class Page(HTMLParser):
    """What a page loads, what can be linked to, its text, and that part of the text that is no code."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.text = self.prose = ""
        self._inert = self._code = 0
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.add(str(values["id"]))
        if LOADING.get(tag) in values and values.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(str(values[LOADING[tag]]))
        self._inert += tag in ("script", "style")
        self._code += tag in ("code", "pre")

    def handle_endtag(self, tag: str) -> None:
        self._inert -= tag in ("script", "style")
        self._code -= tag in ("code", "pre")

    def handle_data(self, data: str) -> None:
        if not self._inert:
            self.text += data
            self.prose += "" if self._code else data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; that a warning stops the build is what ``--strict`` says."""
    folder = tmp_path_factory.mktemp("site")
    finished = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # the theme's advertisement, not about this site
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, output[-4000:]
    assert "WARNING" not in output
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {file.relative_to(site).as_posix(): Page(file) for file in site.rglob("*.html")}


def test_no_page_loads_anything_from_another_server(site: Path, pages: dict[str, Page]) -> None:
    assert len(pages) > 10
    for name, page in pages.items():
        assert page.loaded
        for address in page.loaded:
            assert not re.match(r"(\w+:)?//", address), f"{name} loads {address}"
            if name != "404.html" and not address.startswith("data:"):  # served at any depth, so with absolute paths
                assert ((site / name).parent / address.partition("?")[0]).exists(), f"{name} loads {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), f"{sheet.name} loads"


def test_search_works_from_disk(site: Path, pages: dict[str, Page]) -> None:
    assert "vagram" in (site / "search" / "search_index.js").read_text()
    assert "assets/javascripts/iframe-worker.js" in pages["index.html"].loaded


def test_readmes_links_work_on_the_site(pages: dict[str, Page]) -> None:
    links = re.findall(r"\]\(docs/([\w/]+)\.md(?:#([\w-]+))?\)", (ROOT / "README.md").read_text())
    assert links
    for target, anchor in links:
        assert f"{target}.html" in pages
        assert not anchor or anchor in pages[f"{target}.html"].ids


def test_every_public_name_is_in_the_api(pages: dict[str, Page]) -> None:
    documented = {name for page in pages.values() for name in page.ids}
    for package in (vagram_ray.rllib, vagram_ray.sweep, vagram_ray.report, vagram_ray.envs):
        for name in package.__all__:
            assert f"{package.__name__}.{name}" in documented, "add it to docs/api/"


def test_every_example_is_shown_as_it_is(pages: dict[str, Page]) -> None:
    text = " ".join(pages["examples.html"].text.split())
    for example in (ROOT / "examples").glob("*.py"):
        assert example.name in text
        assert " ".join(example.read_text().split()) in text


def test_equations_are_left_to_katex_which_lies_beside_the_pages(site: Path, pages: dict[str, Page]) -> None:
    losses = (site / "losses.html").read_text()
    assert r'<span class="arithmatex">\(\langle (g_k \cdot e)^2 \rangle\)</span>' in losses
    assert {"assets/katex/katex.min.js", "assets/katex/katex.min.css"} < set(pages["losses.html"].loaded)
    sheet = (site / "assets/katex/katex.min.css").read_text()
    fonts = re.findall(r"url\(([^)]*)\)", sheet)
    assert fonts and all((site / "assets/katex" / font).is_file() for font in fonts)


def test_docstrings_have_subscripts_and_names_do_not(site: Path) -> None:
    core = (site / "api/core.html").read_text()
    assert "w<sub>d</sub> (f<sub>d</sub> - (s' - s)<sub>d</sub>)<sup>2</sup>" in core  # vagram's docstring
    assert "rollout_length_at" in core
    assert "length<sub>" not in core


def test_nothing_is_left_unrendered(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        for leftover in ("--8<--", "```", "](", "::", ":class:", "| ---"):
            assert leftover not in page.prose, f"{leftover} in {name}"
