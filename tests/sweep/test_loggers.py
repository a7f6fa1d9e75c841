"""TensorBoard, CSV and JSON files of trials, by Tune's own loggers, read back."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.conftest import result_of
from vagram_ray.sweep.run.loggers import TrialLoggers, make_loggers
from vagram_ray.sweep.spec import SweepError


class Trial:
    """One of Tune's, whose own folder is elsewhere."""

    trial_id = "x"
    local_path = "/nowhere"

    def __init__(self, name: str) -> None:
        self.name, self.config = name, {"model_lr": 0.1}

    def __str__(self) -> str:
        return self.name


def logged(folder: Path, epochs: range, kinds: tuple[str, ...], done: int = 0) -> None:
    loggers = TrialLoggers(
        make_loggers(kinds), folder, lambda name: {"model_lr": 0.1}, {"t": done}, lambda sentence: None
    )
    for epoch in epochs:
        loggers.result(Trial("t"), result_of(epoch, {0: float(epoch)}, config={"large": 1}, eval={"iqm": float(epoch)}))
    loggers.end("t")


def test_each_epoch_is_logged_once_over_all_launches(tmp_path: Path) -> None:
    logged(tmp_path, range(1, 4), ("csv", "json"))
    logged(tmp_path, range(2, 6), ("csv", "json"), done=3)  # goes on from a checkpoint of epoch 1
    with (tmp_path / "t" / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["training_iteration"], row["eval/iqm"]) for row in rows] == [(str(n), f"{n}.0") for n in range(1, 6)]
    lines = [json.loads(line) for line in (tmp_path / "t" / "result.json").read_text().splitlines()]
    assert [line["seeds"]["seed_0"]["eval"]["episode_return"] for line in lines] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert all("config" not in line for line in lines)


def test_tensorboard_has_environment_steps_as_its_axis(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    logged(tmp_path, range(1, 3), ("tensorboard",))
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401  # its file format, read below
    from tensorboardX.proto.event_pb2 import Event

    (file,) = (tmp_path / "t").glob("events.out.tfevents.*")
    content, found, position = file.read_bytes(), [], 0
    while position < len(content):  # length, its checksum, the event, its checksum
        size = int.from_bytes(content[position : position + 8], "little")
        event = Event.FromString(content[position + 12 : position + 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        position += size + 16
    assert {(150, "ray/tune/eval/iqm", 1.0), (250, "ray/tune/eval/iqm", 2.0)} <= set(found)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tensorboardX":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SweepError, match="pip install tensorboardX"):
        make_loggers(["tensorboard"])


def test_a_full_disk_is_told_of_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("in the way of the folder")
    told: list[str] = []
    loggers = TrialLoggers(make_loggers(["csv"]), tmp_path, lambda name: {}, {}, told.append)
    loggers.result(Trial("t"), result_of(1, {0: 1.0}))
    loggers.close()
    assert told and "cannot write" in told[0]
