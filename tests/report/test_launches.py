"""What a report says of a sweep that was launched several times, and what it takes from the settings kept with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.synthetic import write_sweep
from vagram_ray.commands import InputError
from vagram_ray.report import load_comparison

TWO = {"vagram": {0: [1.0, 2.0], 1: [1.0, 2.0]}, "nll": {0: [1.0, 2.0], 1: [1.0, 2.0]}}
STARTED = "2026-11-22T12:00:00+00:00"


def launch(ended: str | None, **details: Any) -> dict[str, Any]:
    return {"started": STARTED, **({"ended": ended, "wall_time_s": 30.0} if ended else {}), **details}


def test_launches_and_commits_are_told(tmp_path: Path) -> None:
    launches = [
        launch("killed", git_commit="abc"),
        launch("interrupted", git_commit="abc"),
        launch("complete", git_commit="def"),
    ]
    folder = write_sweep(tmp_path / "s", TWO, launches=launches, wall_time_s=75.0, git_commit="def", started=STARTED)
    details = load_comparison([folder]).experiments[0].details
    assert details["Launches"] == "3; those before the last: 1 killed, 1 interrupted"
    assert details["Commit"] == "abc, then def"
    assert details["Wall time"] == "75 s"
    once = write_sweep(tmp_path / "t", TWO, launches=launches[:1], git_commit="abc")
    details = load_comparison([once]).experiments[0].details
    assert "Launches" not in details
    assert details["Commit"] == "abc"


def test_a_sweep_that_goes_on_is_running(tmp_path: Path) -> None:
    launches = [launch("interrupted"), launch(None)]
    folder = write_sweep(tmp_path / "s", {"vagram": {0: [1.0]}}, epochs=4, ended=False, launches=launches)
    comparison = load_comparison([folder])
    assert comparison.cells[0].missing == {0: "at epoch 1 of 4"}
    assert comparison.experiments[0].details["Wall time"].startswith("no end recorded")


def with_settings(folder: Path, returns: Any, shared: dict[str, Any], own: dict[str, Any]) -> Path:
    """A sweep of one cell as it is written now: its settings stand in ``sweep.json``, and Tune wrote nothing."""
    cells = [
        {"index": 0, "label": "model_loss=vagram", "axes": {"model_loss": "vagram"}, "settings": own,
         "trials": ["model_loss=vagram,seeds=0-1"], "epoch_length": 100, "warmup_steps": 50}
    ]  # fmt: skip
    return write_sweep(folder, {"vagram": returns}, settings=shared, cells=cells)


def test_seeds_of_two_sweeps_are_joined_when_their_settings_are_equal(tmp_path: Path) -> None:
    shared, own = {"env": "Pendulum-v1", "hidden_size": 64}, {"model_loss": "vagram"}
    first = with_settings(tmp_path / "a", {0: [1.0, 2.0]}, shared, own)
    more = with_settings(tmp_path / "b", {1: [1.0, 4.0]}, {"env": "Pendulum-v1"}, {**own, "hidden_size": 64})
    other = with_settings(tmp_path / "c", {2: [1.0, 9.0]}, {**shared, "hidden_size": 32}, own)
    (cell,) = load_comparison([first, more]).cells
    assert cell.final_returns == {0: 2.0, 1: 4.0}
    assert len(load_comparison([first, other]).cells) == 2


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"launches": [5]}, "launches.0. is 5, not a table"),
        ({"launches": 5}, "launches is 5, not a list"),
        ({"settings": [1]}, "settings is .*, not a table"),
        ({"resources": "GPU"}, "resources is .*, not a table"),
    ],
)
def test_damage_is_one_sentence(tmp_path: Path, damage: dict[str, Any], says: str) -> None:
    folder = write_sweep(tmp_path / "s", TWO, **damage)
    with pytest.raises(InputError, match=says) as error:
        load_comparison([folder])
    assert "\n" not in error.value.message


def test_gpu_hours_follow_from_what_a_trial_was_given(tmp_path: Path) -> None:
    machine = {"processor": "A chip", "cpus": 2, "gpus": 1}
    folder = write_sweep(tmp_path / "s", TWO, machine=machine, resources={"CPU": 1.0, "GPU": 0.5})
    # Two trials of 72 s with half a GPU each.
    assert load_comparison([folder]).experiments[0].details["GPU hours"] == "0.02"


def test_each_trial_counts_with_its_own_share_of_a_gpu(tmp_path: Path) -> None:
    returns = {"vagram": {0: [1.0]}, "nll": {0: [1.0]}, "none": {0: [1.0]}}
    machine = {"processor": "A chip", "cpus": 2, "gpus": 0}  # of the newest launch, elsewhere
    folder = write_sweep(tmp_path / "s", returns, machine=machine, resources={"CPU": 1.0, "GPU": 1.0})
    info = json.loads((folder / "sweep.json").read_text())
    own = [{"CPU": 0.25, "GPU": 0.05}, {"CPU": 1.0, "GPU": 1.0, "accelerator_type": "A100"}, {"CPU": 1.0, "GPU": 0.0}]
    for trial, resources in zip(info["trials"], own, strict=True):
        trial["resources"] = resources
        path = folder / "records" / f"{trial['name']}.jsonl"
        record = json.loads(path.read_text().splitlines()[0])
        path.write_text(json.dumps({**record, "time_total_s": 36_000.0}) + "\n")
    (folder / "sweep.json").write_text(json.dumps(info))
    details = load_comparison([folder]).experiments[0].details
    assert details["GPU hours"] == "10.5"  # ten hours each: 0.5 + 10 + 0
    assert details["Trial hours"] == "30.0 (time of all trials, 22.5 hours of cores)"


def test_resources_of_a_trial_that_are_no_table_are_one_sentence(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", TWO)
    info = json.loads((folder / "sweep.json").read_text())
    info["trials"][0]["resources"] = [1]
    (folder / "sweep.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"trials\[0\]\.resources is \[1\], not a table"):
        load_comparison([folder])
