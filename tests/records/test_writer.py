"""Records on a disk that takes no more of them for a while."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.records.folder import RecordWriter, SweepFolder


def result(epoch: int) -> dict[str, Any]:
    return {"training_iteration": epoch, "env_steps": 100 * epoch, "seeds": {"seed_3": {"failed": 0}}, "config": {}}


class FullDisk:
    """Takes part of a line and fails, while ``full``."""

    def __init__(self, after: Callable[..., None] = SweepFolder.append) -> None:
        self.full, self.attempts, self._append = True, 0, after

    def append(self, folder: SweepFolder, trial_name: str, own: dict[str, Any]) -> None:
        self.attempts += 1
        if not self.full:
            self._append(folder, trial_name, own)
            return
        path = folder.records_file(trial_name)
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps({"training_iteration": own["training_iteration"], "seeds": {}})[:-3])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    own = FullDisk()
    monkeypatch.setattr(SweepFolder, "append", lambda *arguments: own.append(*arguments))
    return own


def test_lines_wait_in_order_and_are_written_with_the_next(tmp_path: Path, disk: FullDisk) -> None:
    warnings: list[str] = []
    writer = RecordWriter(tmp_path, warnings.append)
    writer.append("one", result(1))
    writer.append("two", result(1))
    writer.append("one", result(2))
    assert writer.unwritten == 3
    assert writer.flush() == 3
    disk.full = False
    writer.append("one", result(3))
    assert [record["training_iteration"] for record in SweepFolder(tmp_path).records("one")] == [1, 2, 3]
    assert writer.unwritten == 1
    assert writer.flush() == 0
    assert [record["training_iteration"] for record in SweepFolder(tmp_path).records("two")] == [1]
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]


def test_what_stays_unwritten_is_counted_and_nothing_is_damaged(tmp_path: Path, disk: FullDisk) -> None:
    disk.full = False
    writer = RecordWriter(tmp_path)
    writer.append("one", result(1))
    disk.full = True
    for epoch in (2, 3):
        writer.append("one", result(epoch))
    assert writer.flush() == 2
    assert [record["training_iteration"] for record in SweepFolder(tmp_path).records("one")] == [1]
    assert not writer.attempt("sweep.json", lambda: disk.append(SweepFolder(tmp_path), "one", result(4)))
    assert writer.describe_unwritten() == (
        f"Not written, because {tmp_path} cannot be written (No space left on device): the records of 2 epochs of "
        "1 trial, sweep.json. Once it can be, run the same command again."
    )
    disk.full = False
    assert writer.attempt("sweep.json", lambda: None)
    assert writer.flush() == 0
    assert writer.describe_unwritten() == ""
