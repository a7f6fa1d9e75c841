"""Which checkpoint is meant by a folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from vagram_ray.commands import InputError
from vagram_ray.play.locate import find_checkpoint

LABELS = ["num_distractors=5, model_loss=vagram", "num_distractors=5, model_loss=nll", "num_distractors=15, model_loss=nll"]  # fmt: skip  # noqa: E501


@pytest.fixture
def sweep(tmp_path: Path, trial: Path) -> Path:
    """Three cells; the first has two trials, of seeds 0 and 1 and of seeds 2 and 3; the last has not started."""
    names = ["a,seeds=0-1", "a,seeds=2-3", "b,seeds=0-3", "c,seeds=0-3"]
    cells, seeds = [0, 0, 1, 2], [[0, 1], [2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    info = {
        "epochs": 10,
        "seeds": [0, 1, 2, 3],
        "cells": [{"label": label} for label in LABELS],
        "trials": [{"name": n, "cell": c, "seeds": s} for n, c, s in zip(names, cells, seeds, strict=True)],
    }
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(info))
    for name in names[:3]:
        shutil.copytree(trial, tmp_path / "sweep" / name)
    return tmp_path / "sweep"


def change_info(sweep: Path, **changes) -> None:
    info = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps({**info, **changes}))


def test_a_checkpoint_is_itself(pendulum, sweep: Path) -> None:
    assert find_checkpoint(pendulum.folder) == pendulum.folder
    older = sweep / "b,seeds=0-3" / "checkpoint_000008"
    assert find_checkpoint(older) == older
    (older / "manifest.json").unlink()  # what is wrong with it is said when it is read
    assert find_checkpoint(older) == older


@pytest.mark.parametrize("as_given", ["absolute", "relative", "here"])
def test_the_newest_checkpoint_of_a_trial(sweep: Path, monkeypatch: pytest.MonkeyPatch, as_given: str) -> None:
    trial = sweep / "b,seeds=0-3"
    monkeypatch.chdir(trial if as_given == "here" else sweep)
    given = {"absolute": trial, "relative": Path(trial.name), "here": Path(".")}[as_given]
    notes: list[str] = []
    found = find_checkpoint(given, tell=notes.append)
    assert found.samefile(trial / "checkpoint_000010") and found.is_absolute() == (as_given == "absolute")
    assert notes == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("config.json", r"checkpoint_000010' is damaged: config.json is missing\. It is passed over\."),
        ("manifest.json", r"checkpoint_000010' is not complete: it has no manifest.json\. It is passed over\."),
        ("a byte of agent.safetensors", r"has not the size or checksum that was written\. It is passed"),
        ("imagined.safetensors", r"a buffer's file is missing or cut short\. It is passed over\."),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(sweep: Path, damage: str, says: str) -> None:
    trial = sweep / "b,seeds=0-3"
    file = trial / "checkpoint_000010" / damage.removeprefix("a byte of ")
    if file.name == damage:
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    notes: list[str] = []
    assert find_checkpoint(trial, tell=notes.append).name == "checkpoint_000009"
    (note,) = notes
    assert re.search(says, note)


def test_without_a_whole_checkpoint_the_newest_is_named(sweep: Path) -> None:
    trial = sweep / "b,seeds=0-3"
    shutil.rmtree(trial / "replay")
    with pytest.raises(InputError, match=r"checkpoint_000010' is damaged: a buffer's file is missing.*no other that"):
        find_checkpoint(trial)
    for number in (8, 9):
        shutil.rmtree(trial / f"checkpoint_{number:06d}")
    (trial / "checkpoint_000010" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"state.json has not the size or checksum that was written\.$"):
        find_checkpoint(trial)


@pytest.mark.parametrize(
    ("label", "seed", "trial_name"),
    [
        (LABELS[0], None, "a,seeds=0-1"),
        (LABELS[0], 3, "a,seeds=2-3"),
        ("num_distractors=5,model_loss=nll", 3, "b,seeds=0-3"),
        ("model_loss=nll,num_distractors=5", None, "b,seeds=0-3"),
        ("model_loss=vagram", None, "a,seeds=0-1"),
        ("VaGraM", None, "a,seeds=0-1"),
        ("rs=5,NLL", None, "b,seeds=0-3"),
    ],
)
def test_a_cell_of_a_sweep(sweep: Path, label: str, seed: int | None, trial_name: str) -> None:
    assert find_checkpoint(sweep, label, seed).parent.name == trial_name


def test_a_sweep_of_one_cell_needs_no_label(sweep: Path) -> None:
    info = json.loads((sweep / "sweep.json").read_text())
    change_info(sweep, cells=info["cells"][:1], trials=info["trials"][:2])
    assert find_checkpoint(sweep).parent.name == "a,seeds=0-1"


@pytest.mark.parametrize(
    ("label", "seed", "says"),
    [
        (None, None, "is a sweep of 3 cells; choose one with --cell 'num_distractors=5, model_loss=vagram' or"),
        (
            "model_loss=mse",
            None,
            "of which none fits --cell 'model_loss=mse'; choose one with --cell 'num_dis",
        ),
        (
            "model_loss=nll",
            None,
            "of which 2 fit --cell 'model_loss=nll'; choose one with --cell 'num_dis",
        ),
        (LABELS[0], 7, "--seed 7 is not in 'num_distractors=5, model_loss=vagram'; its seeds are 0, 1, 2, 3."),
        (LABELS[2], None, "There is no trial's folder at"),
    ],
)
def test_a_sweep_without_what_is_asked_for(sweep: Path, label: str | None, seed: int | None, says: str) -> None:
    with pytest.raises(InputError) as caught:
        find_checkpoint(sweep, label, seed)
    assert says in str(caught.value)


def test_checkpoints_in_another_storage_are_named(sweep: Path) -> None:
    change_info(sweep, storage="s3://bucket/path/sweep?endpoint_override=localhost:9000")
    with pytest.raises(InputError) as caught:
        find_checkpoint(sweep, LABELS[2])
    place = "s3://bucket/path/sweep/c,seeds=0-3?endpoint_override=localhost:9000"
    assert f"not on this machine; copy {place!r} here" in str(caught.value)
    (sweep / "c,seeds=0-3").mkdir()
    (sweep / "c,seeds=0-3" / "error.txt").write_text("of a trial that failed once")
    with pytest.raises(InputError, match="not on this machine; copy"):
        find_checkpoint(sweep, LABELS[2])
    assert find_checkpoint(sweep, LABELS[1]).name == "checkpoint_000010"  # somebody has copied this one


def test_folders_without_a_checkpoint(sweep: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is nothing at"):
        find_checkpoint(tmp_path / "missing")
    with pytest.raises(InputError, match="is a file; give the folder"):
        find_checkpoint(sweep / "sweep.json")
    with pytest.raises(InputError, match="is not on this machine; copy"):
        find_checkpoint("s3://bucket/sweep")
    with pytest.raises(InputError, match="holds no checkpoint; give the folder of"):
        find_checkpoint(tmp_path)
    with pytest.raises(InputError, match="--cell 'x' goes with a sweep"):
        find_checkpoint(sweep / "b,seeds=0-3", "x")
    (tmp_path / "new" / "trial").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no checkpoint; give the folder of"):
        find_checkpoint(tmp_path / "new" / "trial")
    (tmp_path / "new" / "trial" / "own_checkpoints").mkdir()
    with pytest.raises(InputError, match="holds no checkpoint yet"):
        find_checkpoint(tmp_path / "new" / "trial")


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": 3, "trials": []}', '{"cells": [], "trials": [{}]}'])
def test_a_broken_sweep_file(sweep: Path, content: str) -> None:
    (sweep / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=r"its sweep\.json is damaged"):
        find_checkpoint(sweep)
