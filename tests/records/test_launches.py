"""The launches of a sweep, as ``sweep.json`` tells them to whoever reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.launches import (
    begin_launch,
    close_launches,
    end_launch,
    going_on_command,
    started_at,
    total_seconds,
)
from vagram_ray.records.recorded import read_recorded
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.plan import SweepPlan

FIRST, SECOND = "2026-11-22T12:00:00+00:00", "2026-11-22T14:00:00+00:00"
FIRST_S = 1795348800.0
Begin = Callable[..., dict[str, Any]]


@pytest.fixture
def begin(tmp_path: Path, make_plan_of: Callable[..., SweepPlan]) -> Begin:
    """Begins a launch and returns the content of ``sweep.json``."""

    def begin_one(started: str, **details: Any) -> dict[str, Any]:
        recorded = read_recorded(SweepFolder(tmp_path, "here")) if (tmp_path / "sweep.json").exists() else None
        plan = make_plan_of({"a=1": [(0,)]})
        begin_launch(
            SweepFolder(tmp_path),
            plan_content(plan),
            "f00d",
            {"started": started, "git_commit": "abc", **details},
            recorded=recorded,
        )
        return SweepFolder(tmp_path).read()

    return begin_one


def test_the_end_of_a_launch_is_there_until_the_next_begins(begin: Begin, tmp_path: Path) -> None:
    info = begin(FIRST, command="first")
    assert (info["sweep_id"], info.get("storage"), info["started"], info["command"]) == ("f00d", None, FIRST, "first")
    assert (info["launches"][0]["pid"], len(info["launches"])) == (os.getpid(), 1)
    assert not {"wall_time_s", "interrupted", "failed_trials"} & set(info)
    end_launch(SweepFolder(tmp_path), 10.04, "interrupted", {"t": "error.txt"})
    info = SweepFolder(tmp_path).read()
    assert (info["wall_time_s"], info["interrupted"], info["failed_trials"]) == (10.0, True, {"t": "error.txt"})
    assert (info["launches"][0]["wall_time_s"], info["launches"][0]["ended"]) == (10.0, "interrupted")

    info = begin(SECOND, command="second", git_commit="def")
    assert not {"wall_time_s", "interrupted", "failed_trials"} & set(info)  # readers take it for running
    assert (info["started"], info["command"], info["git_commit"]) == (FIRST, "second", "def")
    assert [launch["git_commit"] for launch in info["launches"]] == ["abc", "def"]
    end_launch(SweepFolder(tmp_path), 5.0, "complete", {})
    info = SweepFolder(tmp_path).read()
    assert (info["wall_time_s"], info["interrupted"], info["failed_trials"]) == (15.0, False, {})
    assert [launch["ended"] for launch in info["launches"]] == ["interrupted", "complete"]


def test_what_an_end_is_computed_from_is_what_it_is_written_beside(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(FIRST)
    reads, read = [], SweepFolder.read
    monkeypatch.setattr(SweepFolder, "read", lambda self: reads.append(self) or read(self))
    end_launch(SweepFolder(tmp_path), 5.0, "complete", {})
    assert len(reads) == 1, "between two readings another process may have written"


def test_a_killed_launch_lasted_until_its_last_record(
    begin: Begin, tmp_path: Path, make_result: Callable[..., dict[str, Any]]
) -> None:
    begin(FIRST)
    SweepFolder(tmp_path).append("a=1,seeds=0", make_result(1, {0: 1.0}))
    os.utime(tmp_path / "sweep.json", (FIRST_S + 1, FIRST_S + 1))
    os.utime(tmp_path / "records" / "a=1,seeds=0.jsonl", (FIRST_S + 90, FIRST_S + 90))
    info = begin(SECOND)
    assert [launch.get("ended") for launch in info["launches"]] == ["killed", None]
    assert info["launches"][0]["wall_time_s"] == 90.0
    end_launch(SweepFolder(tmp_path), 10.0, "complete", {})
    assert SweepFolder(tmp_path).read()["wall_time_s"] == 100.0


def test_a_launch_that_finds_nothing_to_run_closes_the_one_before(begin: Begin, tmp_path: Path) -> None:
    begin(FIRST)  # killed after its last record
    os.utime(tmp_path / "sweep.json", (FIRST_S + 30, FIRST_S + 30))
    end_launch(SweepFolder(tmp_path), None, "complete", {})
    info = SweepFolder(tmp_path).read()
    assert (info["wall_time_s"], [launch["ended"] for launch in info["launches"]]) == (30.0, ["killed"])
    end_launch(SweepFolder(tmp_path), None, "complete", {})
    assert SweepFolder(tmp_path).read()["wall_time_s"] == 30.0


def test_the_command_to_go_on_with_sets_nothing_aside() -> None:
    command = "python -m vagram_ray.sweep x.py --restart --set 'model_loss=grid(a,b)'"
    assert going_on_command([{"command": "old"}, {"command": command}]) == command.replace("--restart ", "")
    assert going_on_command([{"command": "never 'closed"}]) == "never 'closed"
    assert going_on_command([{}]) == going_on_command([]) == ""


def test_times_that_are_not_there_count_nothing(tmp_path: Path) -> None:
    assert total_seconds([{"wall_time_s": 1.5}, {}, {"wall_time_s": None}, {"wall_time_s": 2}]) == 3.5
    assert total_seconds([], default=4.0) == 4.0
    assert started_at({"started": FIRST}, default=0.0) == FIRST_S
    assert started_at({"started": 5}, default=7.0) == started_at({}, default=7.0) == 7.0
    assert close_launches(SweepFolder(tmp_path), [{}]) == [{"wall_time_s": 0.0, "ended": "killed"}]
