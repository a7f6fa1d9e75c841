"""``--from``: every trial starts with the networks of a finished run, and the sweep's records say of which."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from pyarrow.fs import LocalFileSystem

from tests.sweep.test_commandline import invoke, run, write_files
from vagram_ray.checkpoint import CheckpointFolder, newest_whole, write_checkpoint
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.envs import never_terminates
from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.recorded import read_recorded
from vagram_ray.rllib.checkpointing import plain_content
from vagram_ray.sweep.plan import probe
from vagram_ray.sweep.sweep_file import load_sweep_file

pytestmark = pytest.mark.ci


@pytest.fixture
def sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(probe, "measure_costs", lambda machine, extensions, work, on_gpu: ([None] * len(work), ""))
    return write_files(tmp_path)


@pytest.fixture
def source(sweep_file: Path, tmp_path: Path) -> Path:
    """The checkpoint of an untrained agent of the sweep's settings with ``vagram``, seeds 0 and 1."""
    config = load_sweep_file(sweep_file).config.copy(copy_frozen=False)
    config.training(model_loss="vagram", seeds=(0, 1), extensions=())
    agent = MBPOAgent(config.to_settings(), seeds=(0, 1), obs_dim=3, action_dim=1, termination=never_terminates)
    folder = CheckpointFolder(LocalFileSystem(), str(tmp_path / "trial" / "checkpoint_000007"))
    write_checkpoint(folder, plain_content(config), {"agent": agent.state_dict(False)}, agent.replay)
    return Path(folder.path)


def planned(file: Path, *arguments: str) -> Result:
    return invoke(file, "--dry-run", "--scale", "smoke", "--seeds", "1", "--set", "model_loss=vagram", *arguments)


def test_a_trials_folder_is_its_newest_checkpoint(sweep_file: Path, source: Path) -> None:
    result = planned(sweep_file, "--from", "trial")
    assert result.exit_code == 0, result.output
    assert "starts from  trial/checkpoint_000007 (actor, critics, model, normalizer)" in " ".join(
        result.output.split("\n")
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "trial", "--set", "hidden_size=4"], "does not fit (hidden_size=8 there and 4 here)"),
        (["--from", "trial", "--set", "num_distractors=2"], "does not fit (num_distractors=0 there and 2 here)"),
        (["--from", "trial", "--set", "model_loss=grid(vagram,nll)"], "In the cell model_loss=nll: initialize_from("),
        (["--from", "trial", "--from-parts", "actor,critic"], "there is no part 'critic', did you mean 'critics'?"),
        (["--from-parts", "actor"], "--from-parts actor needs --from CHECKPOINT"),
        (["--from", "nowhere"], "is no checkpoint of MBPO"),
    ],
)
def test_what_cannot_start_is_said_before_anything_does(
    sweep_file: Path, source: Path, arguments: list[str], says: str
) -> None:
    result = planned(sweep_file, *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_sweep_records_its_source_and_goes_on_with_no_other(sweep_file: Path, source: Path, tmp_path: Path) -> None:
    arguments = ("--scale", "smoke", "--seeds", "1", "--set", "model_loss=vagram", "--from", "trial")
    done = run(sweep_file, *arguments, "--wandb", "disabled")
    assert done.returncode == 0, done.stderr + done.stdout
    folder = tmp_path / "results" / "small-smoke"
    recorded = read_recorded(SweepFolder(folder))
    assert [cell.settings["initial_checkpoint"] for cell in recorded.cells] == [str(source)]
    saved = newest_whole(LocalFileSystem(), str(folder / recorded.trials[0].name))
    assert saved is not None and saved.read_config()["settings"]["initial_checkpoint"] == str(source)
    again = planned(sweep_file, "--from", "trial")
    assert again.exit_code == 0 and "nothing is left to run" in again.output, again.output
    other = planned(sweep_file)
    assert other.exit_code == 2
    assert "was started with other settings" in other.stderr and "initial_checkpoint: /" in other.stderr
