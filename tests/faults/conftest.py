"""The undisturbed sweep, run once, and sweeps that leave no process behind whatever a test does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.faults.harness")
from tests.faults.harness import SweepRun, Undisturbed, run_undisturbed, write_sweep_file  # noqa: E402

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*"]  # processes are found in /proc


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The sweep that nothing happens to."""
    return run_undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., SweepRun]]:
    """Makes sweeps; what they leave behind is killed at the end."""
    runs: list[SweepRun] = []

    def make(file: Path | None = None, *arguments: str, storage: Path | None = None, **environment: str) -> SweepRun:
        own = SweepRun(file or write_sweep_file(tmp_path), storage or tmp_path / "results", arguments, environment)
        runs.append(own)
        return own

    yield make
    for own in runs:
        own.clean_up()
