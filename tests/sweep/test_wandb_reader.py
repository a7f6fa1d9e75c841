"""Offline runs read back from their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep.wandb_support import HOOK, Trial, callback, own_home, result, steps, wandb_service  # noqa: F401
from vagram_ray.sweep.wandb.reader import WandbFileError, read_offline_run


def test_reader_takes_records_over_many_blocks_and_stops_before_a_cut(tmp_path: Path) -> None:
    text = "x" * 100_000  # three blocks of 32 KiB
    runs, trial = callback(tmp_path), Trial()
    trial.config = {**trial.config, "text": text, "seeds": 3}
    for env_steps in (1000, 2000):
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    runs.finish_all()
    (folder,) = runs.offline_runs()
    whole = read_offline_run(folder)
    assert whole.config["text"] == text
    assert steps(whole) == [1000, 2000]
    (file,) = folder.glob("*.wandb")
    file.write_bytes(file.read_bytes()[:-3])
    assert read_offline_run(file).exit_code is None
    assert steps(read_offline_run(file)) == [1000, 2000]

    (tmp_path / "empty").mkdir()
    with pytest.raises(WandbFileError, match=r"holds no \.wandb file"):
        read_offline_run(tmp_path / "empty")
    file.write_bytes(b"something else")
    with pytest.raises(WandbFileError, match=r"is not a \.wandb file"):
        read_offline_run(file)
