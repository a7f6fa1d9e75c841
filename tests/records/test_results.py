"""Records of a sweep: written as results come, read back as one row per epoch."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.synthetic import write_sweep
from vagram_ray.files import write_atomically
from vagram_ray.records import SweepResults, TrialRecords
from vagram_ray.records.folder import SweepFolder, make_record, whole_epochs
from vagram_ray.sweep.plan.content import plan_content, rewrite_plan
from vagram_ray.sweep.plan.plan import SweepPlan


def test_a_record_keeps_finite_numbers_by_seed() -> None:
    record = make_record(
        {
            "training_iteration": 3,
            "env_steps": np.int64(350),
            "time_total_s": 1.5,
            "config": {"env": "X"},
            "time": {"sac_s": 1.0},
            "seeds": {
                "seed_4": {
                    "eval": {"episode_return": np.float32(-1.5), "episode_length": math.nan},
                    "sac": {"critic_loss": math.inf},
                    "failed": 1,
                }
            },
        }
    )
    assert record == {
        "training_iteration": 3,
        "env_steps": 350,
        "time_total_s": 1.5,
        "time": {"sac_s": 1.0},
        "perf": {},
        "seeds": {"4": {"eval/episode_return": -1.5, "failed": 1}},
    }
    json.dumps(record, allow_nan=False)


def test_a_later_line_replaces_its_epoch_and_what_came_after(
    tmp_path: Path, make_result: Callable[..., dict[str, Any]]
) -> None:
    for epoch, value in [(1, 10.0), (2, 20.0), (3, 30.0), (2, 21.0)]:  # went on from the checkpoint after epoch 1
        SweepFolder(tmp_path).append("t", make_result(epoch, {0: value}))
    records = SweepFolder(tmp_path).records("t")
    assert [record["training_iteration"] for record in records] == [1, 2]
    assert records[1]["seeds"]["0"]["eval/episode_return"] == 21.0


def test_what_the_records_lack_comes_with_the_first_result_after_a_resume(
    tmp_path: Path, make_result: Callable[..., dict[str, Any]]
) -> None:
    """The trial's checkpoint of epoch 6 reached the storage, the records of epochs 3 to 6 did not."""
    for epoch in (1, 2):
        SweepFolder(tmp_path).append("t", make_result(epoch, {0: 10.0 * epoch}))
    earlier = [make_result(epoch, {0: 10.0 * epoch}) for epoch in range(1, 6)]
    SweepFolder(tmp_path).append("t", make_result(6, {0: 60.0}) | {"earlier_results": earlier})
    records = SweepFolder(tmp_path).records("t")
    assert [record["training_iteration"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["seeds"]["0"]["eval/episode_return"] for record in records] == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert len((tmp_path / "records" / "t.jsonl").read_text().splitlines()) == 6  # what was there is not written again
    SweepFolder(tmp_path).append("t", make_result(5, {0: 50.0}) | {"earlier_results": earlier[:4]})
    assert whole_epochs(SweepFolder(tmp_path).records("t")) == 5


def test_whole_epochs_end_at_a_gap(make_result: Callable[..., dict[str, Any]]) -> None:
    def records(*epochs: int) -> list[dict[str, Any]]:
        return [make_record(make_result(epoch, {0: 1.0})) for epoch in epochs]

    assert [whole_epochs(records(*epochs)) for epochs in ((), (1,), (1, 2, 3), (1, 2, 4, 5), (2, 3))] == [0, 1, 3, 2, 0]
    trial = TrialRecords("t", 0, (0,), tuple(records(1, 2, 4, 5)))
    assert [trial.unfinished(epochs) for epochs in (2, 4, 6)] == [False, True, True]
    assert replace(trial, damage="line 3").unfinished(2)


def test_half_a_line_of_a_killed_process_is_passed_over(
    tmp_path: Path, make_result: Callable[..., dict[str, Any]]
) -> None:
    SweepFolder(tmp_path).append("t", make_result(1, {0: 10.0}))
    path = tmp_path / "records" / "t.jsonl"
    path.write_text(path.read_text() + '{"training_iteration": 2, "env_st')
    SweepFolder(tmp_path).append("t", make_result(2, {0: 20.0}))
    assert [record["training_iteration"] for record in SweepFolder(tmp_path).records("t")] == [1, 2]
    assert SweepFolder(tmp_path).records("another") == ()


@pytest.fixture
def sweep_folder(
    tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> Path:
    plan = make_plan_of({"loss=vagram": [(0, 1), (2,)], "loss=nll": [(0, 1, 2)]}, epochs=2)
    SweepFolder(tmp_path).write(plan_content(plan) | {"command": "the command"})
    for epoch in (1, 2):
        SweepFolder(tmp_path).append("loss=vagram,seeds=0-1", make_result(epoch, {0: 1.0 * epoch, 1: 2.0 * epoch}))
    SweepFolder(tmp_path).append("loss=vagram,seeds=2", make_result(1, {2: math.nan}))
    return tmp_path


def test_a_sweep_reads_back_as_arrays(sweep_folder: Path) -> None:
    results = SweepResults.load(sweep_folder)
    assert results.labels == ["loss=vagram", "loss=nll"]
    assert results.info["command"] == "the command"
    curves = results.curves(0, "eval/episode_return")
    assert list(curves) == [0, 1]  # seed 2 was not measured
    steps, values = curves[1]
    np.testing.assert_array_equal(steps, [150, 250])
    np.testing.assert_array_equal(values, [2.0, 4.0])
    assert results.curves(1, "eval/episode_return") == {}
    assert [trial.epochs_done for trial in results.trials] == [2, 1, 0]


def test_cells_without_a_return_are_ranked_last(tmp_path: Path) -> None:
    """A stopper has ended the sweep while two of its three cells ran."""
    returns = {0.1: {0: [-300.0, -200.0]}, 0.2: {0: [-300.0, -100.0]}, 0.3: {0: [None, None]}}
    folder = write_sweep(tmp_path, returns, axis="lr", epochs=4, stopped_by="TimeoutStopper")
    next((folder / "records").glob("*0.3*")).unlink()
    results = SweepResults.load(folder)
    assert [cell.label for cell in results.ranking()] == ["lr=0.2", "lr=0.1", "lr=0.3"]
    assert results.best().final_returns == {0: -100.0}


def test_the_table_has_a_row_per_seed_and_epoch(sweep_folder: Path) -> None:
    path = SweepResults.load(sweep_folder).write_csv()
    rows = list(csv.DictReader(path.open()))
    assert [(row["cell"], row["loss"], row["seed"], row["training_iteration"]) for row in rows] == [
        ("loss=vagram", "vagram", "0", "1"),
        ("loss=vagram", "vagram", "1", "1"),
        ("loss=vagram", "vagram", "0", "2"),
        ("loss=vagram", "vagram", "1", "2"),
        ("loss=vagram", "vagram", "2", "1"),
    ]
    assert [row["eval/episode_return"] for row in rows] == ["1.0", "2.0", "2.0", "4.0", ""]


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b.txt", "one")
    write_atomically(tmp_path / "a" / "b.txt", "two")
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["b.txt"]
    assert (tmp_path / "a" / "b.txt").read_text() == "two"


def test_the_sweep_file_is_completed_at_the_end(sweep_folder: Path) -> None:
    SweepFolder(sweep_folder).update(lambda _: {"wall_time_s": 3.0})
    info = SweepResults.load(sweep_folder).info
    assert (info["wall_time_s"], info["command"]) == (3.0, "the command")


def test_a_plan_that_changed_takes_the_place_of_the_old_one(
    sweep_folder: Path, make_plan_of: Callable[..., SweepPlan]
) -> None:
    plan = make_plan_of({"loss=vagram": [(0, 1), (2,)], "loss=nll": [(0, 1), (2,)]}, epochs=2)
    path = sweep_folder / "sweep.json"
    before = json.loads(path.read_text())
    kept = {"CPU": 0.5, "GPU": 0.25, "accelerator_type": "A100"}
    assert [trial["resources"] for trial in before["trials"]] == [{"CPU": 1.0, "GPU": 0.0}] * len(before["trials"])
    path.write_text(json.dumps({**before, "trials": [{**trial, "resources": kept} for trial in before["trials"]]}))
    rewrite_plan(SweepFolder(sweep_folder), plan, ["loss=nll,seeds=2"])
    info = SweepResults.load(sweep_folder).info
    assert info["command"] == "the command"
    resources = {trial["name"]: trial.get("resources") for trial in info["trials"]}
    assert resources == {
        "loss=vagram,seeds=0-1": kept,
        "loss=vagram,seeds=2": kept,
        "loss=nll,seeds=0-1": None,  # it has not run
        "loss=nll,seeds=2": {"CPU": 1.0, "GPU": 0.0},
    }
    assert [trial["name"] for trial in info["trials"]] == [trial.name for trial in plan.trials]
    assert info["cells"][1]["trials"] == ["loss=nll,seeds=0-1", "loss=nll,seeds=2"]


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no sweep\.json"):
        SweepResults.load(tmp_path)
