"""A published sweep says what the sweep says, without the machine, and loses nothing when it is published again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.report.synthetic import RETURN, write_sweep
from vagram_ray.records import SweepError, SweepFolder
from vagram_ray.records.publish import main, publish
from vagram_ray.records.recorded import read_recorded
from vagram_ray.records.results import SweepResults
from vagram_ray.report import load_comparison
from vagram_ray.report.tables import final_table

RETURNS = {
    "vagram": {seed: [-1234.5678901234 + seed, -200.123456789 - seed] for seed in range(4)},
    "nll": {seed: [-1300.0, -300.25 + seed / 3] for seed in range(4)},
}
LAUNCH = {
    "command": "python -m vagram_ray.sweep /home/me/files/own.py --storage=/data/results --set real_ratio=1/2",
    "started": "2026-11-30T08:31:38+00:00",
    "git_commit": "abc123",
    "machine": {"processor": "a processor", "cpus": 2, "gpus": 0, "system": "Linux-of-somebody"},
    "wandb": {"mode": "offline", "dir": "/home/me/wandb"},
    "wall_time_s": 7200.0,
    "ended": "complete",
}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    info = {**LAUNCH, "launches": [{**LAUNCH, "host": "a-host", "pid": 987654}], "storage": "s3://bucket/of/mine"}
    return write_sweep(tmp_path / "results" / "own", RETURNS, sweep_id="one", **info)


def published(folder: Path, target: Path, *options: str) -> str:
    done = CliRunner().invoke(main, [str(folder), str(target), *options])
    assert done.exit_code == 0, done.output
    return done.output


def refusal(folder: Path, target: Path) -> str:
    done = CliRunner().invoke(main, [str(folder), str(target)])
    assert done.exit_code == 2 and len(done.output.splitlines()) == 1, done.output
    return done.output


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_report_of_published_records_has_the_numbers_of_the_sweep(sweep: Path, tmp_path: Path) -> None:
    output = published(sweep, tmp_path / "kept" / "own")
    assert "16 epochs of a seed" in output and "Complete: every seed of 2 cells" in output
    before, after = (load_comparison([folder]) for folder in (sweep, tmp_path / "kept" / "own"))
    assert final_table(after).equals(final_table(before))
    assert after.experiments[0].task == before.experiments[0].task
    for a, b in zip(before.cells, after.cells, strict=True):
        assert {seed: list(curve.values) for seed, curve in a.returns.items()} == {
            seed: list(curve.values) for seed, curve in b.returns.items()
        }


def test_what_is_kept_and_what_is_not(sweep: Path, tmp_path: Path) -> None:
    (line, *_) = (sweep / "records" / "model_loss=nll,seeds=0-3.jsonl").read_text().splitlines()
    assert "model/train_loss" in line
    published(sweep, tmp_path / "plain")
    published(sweep, tmp_path / "more", "--metric", "model/train_loss")
    plain, more = (
        json.loads((tmp_path / name / "records" / "model_loss=nll,seeds=0-3.jsonl").read_text().splitlines()[0])
        for name in ("plain", "more")
    )
    assert plain["env_steps"] == 150 and plain["seeds"]["3"] == {"failed": 0, RETURN: -1300.0}
    assert more["seeds"]["3"] == {"failed": 0, RETURN: -1300.0, "model/train_loss": 1}


def test_commit_machine_hours_and_command_stand_there_and_no_place(sweep: Path, tmp_path: Path) -> None:
    published(sweep, tmp_path / "kept")
    text = (tmp_path / "kept" / "summary.md").read_text()
    assert "`python -m vagram_ray.sweep own.py --storage=results --set real_ratio=1/2`" in text
    for fact in ("Commit: abc123", "Machine: a processor, 2 CPUs, 0 GPUs", "Wall time: 2 h 0 min"):
        assert fact in text
    everything = b"".join(files(tmp_path / "kept").values()).decode()
    for place in ("/home", "/data", "bucket", "a-host", "987654", "Linux-of-somebody", "offline"):
        assert place not in everything


def test_more_epochs_and_seeds_take_the_place_of_what_was_published(sweep: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept"
    first = {loss: {seed: values[:1] for seed, values in by_seed.items()} for loss, by_seed in RETURNS.items()}
    early = write_sweep(tmp_path / "early", first, epochs=2, sweep_id="one")
    published(early, target)
    assert SweepResults.load(target).trials[0].epochs_done == 1
    published(sweep, target)
    assert SweepResults.load(target).trials[0].epochs_done == 2
    joined = write_sweep(tmp_path / "joined", RETURNS, sweep_id="one")
    info: dict[str, Any] = json.loads((joined / "sweep.json").read_text())
    info["seeds"].append(9)
    for cell, loss in enumerate(RETURNS):
        name = f"model_loss={loss},seeds=9"
        info["trials"].append({"name": name, "cell": cell, "seeds": [9]})
        record = {"training_iteration": 1, "env_steps": 150, "seeds": {"9": {RETURN: 1.0}}}
        (joined / "records" / f"{name}.jsonl").write_text(json.dumps(record) + "\n")
    (joined / "sweep.json").write_text(json.dumps(info))
    published(joined, target)
    assert load_comparison([target]).cells[0].seeds == (0, 1, 2, 3, 9)
    there = files(target)
    assert "lacks 2 epochs of a seed that" in refusal(sweep, target)
    assert files(target) == there


def test_a_trial_that_was_divided_leaves_no_records_behind(sweep: Path, tmp_path: Path) -> None:
    published(sweep, tmp_path / "kept")
    info = json.loads((sweep / "sweep.json").read_text())
    (old,) = (trial for trial in info["trials"] if "vagram" in trial["name"])
    lines = (sweep / "records" / f"{old['name']}.jsonl").read_text().splitlines()
    info["trials"].remove(old)
    for seeds in ([0, 1], [2, 3]):
        name = f"model_loss=vagram,seeds={seeds[0]}-{seeds[1]}"
        info["trials"].append({"name": name, "cell": 0, "seeds": seeds})
        own = [json.loads(line) for line in lines]
        records = [{**each, "seeds": {str(seed): each["seeds"][str(seed)] for seed in seeds}} for each in own]
        (sweep / "records" / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    (sweep / "sweep.json").write_text(json.dumps(info))
    published(sweep, tmp_path / "kept")
    names = {file.stem for file in (tmp_path / "kept" / "records").iterdir()}
    assert names == {trial["name"] for trial in info["trials"]}


def test_another_sweep_of_the_same_cells_gets_its_own_folder_and_a_report_joins_both(tmp_path: Path) -> None:
    more = {loss: {seed + 4: values for seed, values in by_seed.items()} for loss, by_seed in RETURNS.items()}
    settings = {"settings": {"env": "Pendulum-v1"}}
    write_sweep(tmp_path / "a", RETURNS, sweep_id="one", **settings)
    write_sweep(tmp_path / "b", more, sweep_id="two", **settings)
    published(tmp_path / "a", tmp_path / "kept_a")
    assert "holds another sweep than" in refusal(tmp_path / "b", tmp_path / "kept_a")
    published(tmp_path / "b", tmp_path / "kept_b")
    (vagram, nll) = load_comparison([tmp_path / "kept_a", tmp_path / "kept_b"]).cells
    assert vagram.seeds == nll.seeds == tuple(range(8))


def test_what_cannot_be_published_is_one_sentence(sweep: Path, tmp_path: Path) -> None:
    assert "is not the folder of a sweep" in refusal(tmp_path, tmp_path / "kept")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert "is there already and holds no sweep" in refusal(sweep, tmp_path / "other")
    assert "is there already" in refusal(sweep, tmp_path / "other" / "notes.txt")
    published(sweep, tmp_path / "kept")
    there = files(sweep)
    for folder in (tmp_path / "kept", sweep):  # the two swapped, and one for both
        assert "holds a sweep itself and no published copy" in refusal(folder, sweep)
    assert files(sweep) == there
    shutil.rmtree(tmp_path / "kept")
    with (sweep / "records" / "model_loss=nll,seeds=0-3.jsonl").open("a") as file:
        file.write("[1]\n")
    assert "cannot be published: records/model_loss=nll,seeds=0-3.jsonl: line 3" in refusal(sweep, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_large_numbers_of_a_seed_that_diverged_can_be_read_back(sweep: Path, tmp_path: Path) -> None:
    file = sweep / "records" / "model_loss=vagram,seeds=0-3.jsonl"
    *before, last = map(json.loads, file.read_text().splitlines())
    last["seeds"]["0"]["sac/value"] = -3.2e19
    file.write_text("".join(f"{json.dumps(record)}\n" for record in (*before, last)))
    copy = publish(SweepResults.load(sweep), tmp_path / "kept")
    assert copy.cells[0].final_returns == SweepResults.load(sweep).cells[0].final_returns
    assert copy.trials[0].records[-1]["seeds"]["0"]["sac/value"] == -3.2e19


def test_why_a_seed_is_missing_stays_the_same(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "own", {"vagram": {0: [1.0, None], 1: [1.0, 2.0]}}, failed={("vagram", 0): 2})
    file = next((folder / "records").iterdir())
    *before, last = map(json.loads, file.read_text().splitlines())
    last["seeds"]["0"]["environment_fault"] = 1
    file.write_text("".join(f"{json.dumps(record)}\n" for record in (*before, last)))
    copy = publish(SweepResults.load(folder), tmp_path / "kept")
    assert copy.cells[0].missing == {0: "got no finite number from the environment in epoch 2"}


def test_a_published_copy_does_not_go_on(sweep: Path, tmp_path: Path) -> None:
    published(sweep, tmp_path / "kept")
    with pytest.raises(SweepError, match="is a published copy without checkpoints, which cannot go on: start anew"):
        read_recorded(SweepFolder(tmp_path / "kept"))


def test_publishing_what_is_published_changes_nothing(sweep: Path, tmp_path: Path) -> None:
    publish(SweepResults.load(sweep), tmp_path / "kept")
    there = files(tmp_path / "kept")
    publish(SweepResults.load(tmp_path / "kept"), tmp_path / "kept")
    assert files(tmp_path / "kept") == there
