"""Which checkpoint is meant by a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vagram_ray.play.checkpoint import AGENT_FILE, CONFIG_FILE
from vagram_ray.play.errors import PlayError
from vagram_ray.play.locate import find_checkpoint

LABELS = ["num_distractors=5, model_loss=vagram", "num_distractors=5, model_loss=nll", "num_distractors=15, model_loss=nll"]  # fmt: skip  # noqa: E501


def empty_checkpoint(folder: Path) -> Path:
    (folder / AGENT_FILE).parent.mkdir(parents=True)
    (folder / AGENT_FILE).touch()
    (folder / CONFIG_FILE).touch()
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three cells; the first has two trials, of seeds 0 and 1 and of seeds 2 and 3."""
    names = ["a,seeds=0-1", "a,seeds=2-3", "b,seeds=0-3", "c,seeds=0-3"]
    cells, seeds = [0, 0, 1, 2], [[0, 1], [2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    info = {
        "cells": [{"label": label} for label in LABELS],
        "trials": [{"name": n, "cell": c, "seeds": s} for n, c, s in zip(names, cells, seeds, strict=True)],
    }
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(info))
    for name in names[:3]:
        for number in (8, 9, 10):
            empty_checkpoint(tmp_path / "sweep" / name / f"checkpoint_{number:06d}")
    return tmp_path / "sweep"


def test_a_checkpoint_is_itself(tmp_path: Path) -> None:
    folder = empty_checkpoint(tmp_path / "anything")
    assert find_checkpoint(folder) == folder


def test_the_newest_whole_checkpoint_of_a_trial(sweep: Path) -> None:
    trial = sweep / "b,seeds=0-3"
    assert find_checkpoint(trial).name == "checkpoint_000010"
    (trial / "checkpoint_000010" / CONFIG_FILE).unlink()  # being written, or cut short
    assert find_checkpoint(trial).name == "checkpoint_000009"


@pytest.mark.parametrize(
    ("label", "seed", "trial"),
    [
        (LABELS[0], None, "a,seeds=0-1"),
        (LABELS[0], 3, "a,seeds=2-3"),
        ("num_distractors=5,model_loss=nll", 3, "b,seeds=0-3"),
        ("model_loss=nll,num_distractors=5", None, "b,seeds=0-3"),
        ("model_loss=vagram", None, "a,seeds=0-1"),
    ],
)
def test_a_cell_of_a_sweep(sweep: Path, label: str, seed: int | None, trial: str) -> None:
    assert find_checkpoint(sweep, label, seed).parent.name == trial


def test_a_sweep_of_one_cell_needs_no_label(sweep: Path) -> None:
    info = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps({"cells": info["cells"][:1], "trials": info["trials"][:2]}))
    assert find_checkpoint(sweep).parent.name == "a,seeds=0-1"


@pytest.mark.parametrize(
    ("label", "seed", "says"),
    [
        (None, None, "is a sweep of 3 cells; choose one with --cell 'num_distractors=5, model_loss=vagram' or"),
        ("model_loss=mse", None, "--cell 'model_loss=mse' is no cell of"),
        ("model_loss=nll", None, "is in 2 cells: 'num_distractors=5, model_loss=nll' or"),
        (LABELS[0], 7, "--seed 7 is not in 'num_distractors=5, model_loss=vagram'; its seeds are 0, 1, 2, 3."),
        (LABELS[2], None, "There is no trial's folder at"),
    ],
)
def test_a_sweep_without_what_is_asked_for(sweep: Path, label: str | None, seed: int | None, says: str) -> None:
    with pytest.raises(PlayError) as caught:
        find_checkpoint(sweep, label, seed)
    assert says in str(caught.value)


def test_folders_without_a_checkpoint(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(PlayError, match="There is nothing at"):
        find_checkpoint(tmp_path / "missing")
    with pytest.raises(PlayError, match="is a file; give the folder"):
        find_checkpoint(sweep / "sweep.json")
    with pytest.raises(PlayError, match="is not on this machine; copy"):
        find_checkpoint("s3://bucket/sweep")
    with pytest.raises(PlayError, match=r"holds no checkpoint, but sweeps: give '.*sweep'\."):
        find_checkpoint(tmp_path)
    with pytest.raises(PlayError, match="--cell 'x' goes with a sweep"):
        find_checkpoint(sweep / "b,seeds=0-3", "x")
    (tmp_path / "new" / "trial").mkdir(parents=True)
    with pytest.raises(PlayError, match="holds no checkpoint; give the folder of"):
        find_checkpoint(tmp_path / "new" / "trial")
    (tmp_path / "new" / "trial" / "params.json").touch()
    with pytest.raises(PlayError, match="holds no checkpoint yet"):
        find_checkpoint(tmp_path / "new" / "trial")


def test_a_checkpoint_of_something_else(sweep: Path) -> None:
    folder = sweep / "b,seeds=0-3" / "checkpoint_000008"
    shutil.rmtree(folder / "learner_group")
    (folder / "rllib_checkpoint.json").touch()
    with pytest.raises(PlayError, match="is a checkpoint of RLlib, but not a whole one of MBPO"):
        find_checkpoint(folder)


def test_a_broken_sweep_file(sweep: Path) -> None:
    (sweep / "sweep.json").write_text("{")
    with pytest.raises(PlayError, match=r"sweep.json' cannot be read"):
        find_checkpoint(sweep)
