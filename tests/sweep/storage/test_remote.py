"""The driver's files at a URI: copied as the sweep goes on, fetched where they are not."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.conftest import with_settings
from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.launches import begin_launch, end_launch
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.resume.continuation import Continuation, continue_sweep
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage import lease, remote
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lock import DriverLock
from vagram_ray.sweep.storage.remote import DriverFiles, fetch, has_sweep, upload_all

TRIAL = "utd_ratio=1,seeds=0-1"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SETTLE_S", 0.0)
    monkeypatch.setattr(remote, "check_held", lambda storage: None)  # files are copied without a driver


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepStorage:
    (tmp_path / "head").mkdir()
    monkeypatch.chdir(tmp_path / "head")
    return SweepStorage(f"file://{tmp_path}/bucket/below", "run")


@pytest.fixture
def plan(make_plan_of: Callable[..., SweepPlan]) -> SweepPlan:
    return with_settings(make_plan_of({"utd_ratio=1": [(0, 1)]}, epochs=5), {"env": "X", "utd_ratio": 1})


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket" / "below" / "run"


Run = Callable[..., None]


@pytest.fixture
def run(plan: SweepPlan, storage: SweepStorage, make_result: Callable[..., dict[str, Any]]) -> Run:
    """A launch that records these epochs."""

    def run_once(*epochs: int, end: bool = False) -> None:
        found = again(plan, storage)
        details = {"started": "2026-11-22T12:00:00+00:00"}
        begin_launch(
            SweepFolder(storage.folder),
            plan_content(plan),
            found.sweep_id,
            details,
            recorded=found.recorded,
            storage=storage.uri,
        )
        for epoch in epochs:
            SweepFolder(storage.folder).append(TRIAL, make_result(epoch, {0: 1.0, 1: 2.0}))
        if end:
            end_launch(SweepFolder(storage.folder), 1.0, "interrupted", {})

    return run_once


def again(plan: SweepPlan, storage: SweepStorage, *, dry: bool = False) -> Continuation:
    if dry:
        return continue_sweep(plan, storage, None, restart=False, seeds_per_trial=None)
    with DriverLock(storage) as lock:
        return continue_sweep(plan, storage, lock, restart=False, seeds_per_trial=None)


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_only_what_changed_is_copied(run: Run, storage: SweepStorage, bucket: Path, plan: SweepPlan) -> None:
    run(1, 2)
    (storage.folder / "wandb").mkdir()
    (storage.folder / "wandb" / "large.wandb").write_text("large")
    (storage.folder / "half.tmp").write_text("half")
    copies = DriverFiles(storage)
    copies.upload()
    assert files(bucket) == {"sweep.json", f"records/{TRIAL}.jsonl"}
    (bucket / "sweep.json").unlink()
    SweepFolder(storage.folder).append(TRIAL, {"training_iteration": 3, "seeds": {}})
    copies.upload()
    assert files(bucket) == {f"records/{TRIAL}.jsonl"}
    assert len(SweepFolder(bucket).records(TRIAL)) == 3
    upload_all(storage)
    assert files(bucket) == {"sweep.json", f"records/{TRIAL}.jsonl", "wandb/large.wandb"}


def test_another_machine_goes_on_with_what_was_copied(
    run: Run, storage: SweepStorage, bucket: Path, plan: SweepPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(1, 2, 3)
    DriverFiles(storage).upload()
    os.utime(bucket / "sweep.json", (1795348801, 1795348801))
    os.utime(bucket / "records" / f"{TRIAL}.jsonl", (1795348890, 1795348890))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert not storage.folder.exists()
    looked = again(plan, storage, dry=True)
    assert looked.epochs_done(plan.trials[0]) == 3
    assert list((tmp_path / "other").iterdir()) == []
    found = again(plan, storage)
    assert found.sweep_id == looked.sweep_id == SweepFolder(bucket).read()["sweep_id"]
    assert found.epochs_done(plan.trials[0]) == 3
    run(4, 5)
    launches = SweepFolder(storage.folder).read()["launches"]
    assert (launches[0]["ended"], launches[0]["wall_time_s"]) == ("killed", 90.0)  # by when the records were copied
    assert len(SweepFolder(storage.folder).records(TRIAL)) == 5


def test_the_records_that_reach_further_are_taken(run: Run, storage: SweepStorage, bucket: Path) -> None:
    run(1, 2)
    DriverFiles(storage).upload()
    run(3, 4)
    fetch(storage, storage.folder)
    assert len(SweepFolder(storage.folder).records(TRIAL)) == 4
    assert len(SweepFolder(storage.folder).read()["launches"]) == 2
    DriverFiles(storage).upload()
    (storage.folder / "records" / f"{TRIAL}.jsonl").write_bytes(b"\xff")  # damaged here
    (storage.folder / "sweep.json").write_text("{")
    fetch(storage, storage.folder)
    assert len(SweepFolder(storage.folder).records(TRIAL)) == 4
    assert len(SweepFolder(storage.folder).read()["launches"]) == 2
    assert not [name for name in files(storage.folder) if "remote" in name]


def test_an_end_that_was_recorded_here_is_kept(run: Run, storage: SweepStorage) -> None:
    run(1)
    DriverFiles(storage).upload()
    end_launch(SweepFolder(storage.folder), 7.0, "interrupted", {})
    fetch(storage, storage.folder)
    assert SweepFolder(storage.folder).read()["wall_time_s"] == 7.0


def test_two_sweeps_of_one_name_are_not_mixed(run: Run, storage: SweepStorage, plan: SweepPlan) -> None:
    run(1, end=True)
    DriverFiles(storage).upload()
    info = SweepFolder(storage.folder).read()
    (storage.folder / "sweep.json").write_text(json.dumps(info | {"sweep_id": "another"}))
    with pytest.raises(SweepError, match=r"results/run and file://.*/run hold different sweeps"):
        again(plan, storage)
    assert SweepFolder(storage.folder).read()["sweep_id"] == "another"


def test_a_place_that_holds_something_else_is_refused(storage: SweepStorage, bucket: Path, plan: SweepPlan) -> None:
    assert not has_sweep(storage)
    bucket.mkdir(parents=True)
    (bucket / "thesis.tex").write_text("")
    with pytest.raises(SweepError, match=r"something at file://.* that is no sweep; give another --name"):
        again(plan, storage)


def test_a_sweep_that_was_copied_to_another_place_goes_on_there(
    run: Run, storage: SweepStorage, bucket: Path, plan: SweepPlan, tmp_path: Path
) -> None:
    run(1, 2, end=True)
    DriverFiles(storage).upload()
    shutil.copytree(bucket, tmp_path / "copy" / "run")
    copy = SweepStorage(f"file://{tmp_path}/copy", "run")
    assert again(plan, copy).epochs_done(plan.trials[0]) == 2
    with pytest.raises(SweepError, match=r"--storage: file://.*below/run -> file://.*elsewhere/run"):
        again(plan, SweepStorage(f"file://{tmp_path}/elsewhere", "run"))
    with pytest.raises(SweepError, match=r"--storage: file://.*below/run -> this machine"):
        again(plan, SweepStorage("results", "run"))


def test_copying_goes_on_beside_the_sweep(run: Run, storage: SweepStorage, bucket: Path) -> None:
    run(1)
    with DriverFiles(storage).uploading(every_s=0.01):
        SweepFolder(storage.folder).append(TRIAL, {"training_iteration": 2, "seeds": {}})
        deadline = time.monotonic() + 60
        while len(SweepFolder(bucket).records(TRIAL)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(SweepFolder(bucket).records(TRIAL)) == 2


def test_a_storage_that_does_not_answer_stops_nothing(
    run: Run, storage: SweepStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run(1)
    tried: list[int] = []

    def fail(self: DriverFiles, *, everything: bool = False) -> None:
        tried.append(1)
        raise OSError("When uploading: Could not connect to endpoint")

    monkeypatch.setattr(remote.DriverFiles, "upload", fail)
    with caplog.at_level(logging.WARNING), DriverFiles(storage).uploading(every_s=0.01):
        deadline = time.monotonic() + 60
        while len(tried) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(tried) >= 3
    assert [record.getMessage() for record in caplog.records] == [
        f"The driver's files are not copied to {storage.uri} (When uploading: Could not connect to endpoint)."
    ]
    upload_all(storage)
    assert "run the same command again to copy them" in caplog.records[-1].getMessage()
