"""What tests of sweep folders share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.records.damage import content, lines, records
from tests.sweep.conftest import make_plan_of, make_result
from vagram_ray.report import figures

__all__ = ["make_plan_of", "make_result"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep that is complete."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results" / "x"
    (path / "records").mkdir(parents=True)
    (path / "sweep.json").write_text(json.dumps(content(), indent=2))
    for trial in content()["trials"]:
        (path / "records" / f"{trial['name']}.jsonl").write_text(lines(*records(tuple(trial["seeds"]))))
    (tmp_path / "outside.jsonl").write_text(lines(*records((0, 1))))
    return path


@pytest.fixture(scope="module")
def no_figures() -> Iterator[None]:
    """Figures take seconds, and draw what has been read."""
    patch = pytest.MonkeyPatch()
    patch.setattr(figures, "draw_figures", lambda *arguments: [])
    yield
    patch.undo()
