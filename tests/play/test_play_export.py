"""An exported agent acts, values and predicts as the one it was taken from, and is nothing that goes on training."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from pyarrow.fs import LocalFileSystem
from safetensors.torch import load_file

from tests.play.conftest import Saved, train
from vagram_ray.checkpoint import CheckpointError, CheckpointFolder, read_checkpoint
from vagram_ray.commands import InputError
from vagram_ray.play.checkpoint import read_agent
from vagram_ray.play.commandline import main as play
from vagram_ray.play.export import main as export
from vagram_ray.rllib import MBPO

ROOT = Path(__file__).resolve().parents[2]
FILES = {"README.md", "agent.safetensors", "config.json", "manifest.json", "state.json"}


def exported(source: Path, folder: Path, *options: str) -> str:
    done = CliRunner().invoke(export, [str(source), str(folder), "--episodes", "2", *options])
    assert done.exit_code == 0, done.output
    return done.output


def refusal(done: Result) -> str:
    assert done.exit_code == 2 and len(done.output.splitlines()) == 1, done.output
    return done.output


@pytest.fixture(scope="module")
def folder(pendulum: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "own"
    exported(pendulum.folder, target, "--seed", "5")
    return target


def test_it_acts_values_and_predicts_as_before(folder: Path, pendulum: Saved) -> None:
    agent, before = read_agent(folder), read_agent(pendulum.folder, 5)
    assert (agent.seed, agent.env_steps, agent.title) == (5, before.env_steps, before.title)
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(1, 20, agent.dimensions[0], generator=generator)
    action = torch.rand(1, 20, agent.dimensions[1], generator=generator)
    assert torch.equal(agent.actor().mean_action(obs), before.actor().mean_action(obs))
    assert torch.equal(agent.values().values(obs), before.values().values(obs))
    members = agent.settings.ensemble_size
    inputs = (each[:, None].expand(-1, members, -1, -1) for each in (obs, action))
    one, other = (own.dynamics() for own in (agent, before))
    pair = tuple(inputs)
    assert torch.equal(one.predict(*pair).delta, other.predict(*pair).delta)
    assert torch.equal(one.elites, other.elites)


def test_optimizers_buffers_and_other_seeds_are_left_out(folder: Path, pendulum: Saved) -> None:
    assert {file.name for file in folder.iterdir()} == FILES
    names = set(load_file(folder / "agent.safetensors"))
    assert not [name for name in names if "optim" in name or "replay" in name or "imagined" in name]
    (own,) = (tensor for name, tensor in load_file(folder / "agent.safetensors").items() if name.endswith("sac/critic"))
    assert torch.equal(own, pendulum.agent.sac.critic.network.flat[2:4].detach())  # two rows for each seed
    assert json.loads((folder / "state.json").read_text())["agent"]["seeds"] == [5]


def test_the_card_says_what_it_is_and_what_it_reaches(folder: Path) -> None:
    _, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    described = yaml.safe_load(metadata)
    assert described["library_name"] == "vagram_ray" and "Pendulum-v1" in described["tags"]
    evaluation = json.loads((folder / "state.json").read_text())["origin"]["evaluation"]
    a, b = evaluation["returns"]
    assert evaluation["mean_return"] == pytest.approx((a + b) / 2, abs=1e-3)
    # Two values: the standard error of their mean is half their distance, and t with one degree of freedom is 12.706.
    assert evaluation["high_95"] - evaluation["mean_return"] == pytest.approx(12.7062 * abs(a - b) / 2, rel=1e-3)
    value = described["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert value == f"{(a + b) / 2:.2f} +/- {abs(a - b) / math.sqrt(2):.2f}"
    for fact in ("| seed | 5 |", "| distractors | 4 (paper) |", "| commit | not recorded |", "over 2 episodes |"):
        assert fact in text


def test_command_and_commit_come_from_the_sweep(trial: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "results" / "own"
    shutil.copytree(trial, sweep / trial.name)
    info = {
        "name": "own",
        "epochs": 1,
        "seeds": [3, 5],
        "cells": [{"label": "num_distractors=4"}],
        "trials": [{"name": trial.name, "cell": 0, "seeds": [3, 5]}],
        "command": f"python -m vagram_ray.sweep {tmp_path}/own.py --storage {tmp_path}",
        "git_commit": "abc123",
    }
    info["launches"] = [
        {"command": "first", "git_commit": "abc122"},
        {key: info[key] for key in ("command", "git_commit")},
    ]
    (sweep / "sweep.json").write_text(json.dumps(info))
    exported(sweep, tmp_path / "kept" / "own", "--seed", "3")
    text = (tmp_path / "kept" / "own" / "README.md").read_text()
    assert f"| command | first, then python -m vagram_ray.sweep own.py --storage {tmp_path.name} |" in text
    assert "| commit | abc122, then abc123 |" in text and "| sweep | own, num_distractors=4 |" in text
    assert str(tmp_path) not in "".join(file.read_text() for file in (tmp_path / "kept" / "own").glob("*.[jm][sd]*"))
    exported(tmp_path / "kept" / "own", tmp_path / "kept" / "again")  # an exported agent keeps where it came from
    assert "| commit | abc122, then abc123 |" in (tmp_path / "kept" / "again" / "README.md").read_text()


def test_the_source_of_a_start_is_named_without_its_folder(pendulum: Saved, rewrite_config, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(pendulum.folder, tmp_path / "copy"))
    rewrite_config(copy, initial_checkpoint="/home/me/results/checkpoint_000004")
    exported(copy, tmp_path / "own")
    assert (
        json.loads((tmp_path / "own" / "config.json").read_text())["settings"]["initial_checkpoint"]
        == "checkpoint_000004"
    )


def test_plain_sac_has_no_model(save_checkpoint, make_checkpoint, tmp_path: Path) -> None:
    saved = make_checkpoint(model_loss="none")
    exported(saved.folder, tmp_path / "sac")
    assert "--model" not in (tmp_path / "sac" / "README.md").read_text()
    done = CliRunner().invoke(play, [str(tmp_path / "sac"), "--model", "--episodes", "1"])
    assert "plain SAC learns no model" in refusal(done)


def test_play_shows_it_and_draws_here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(play, [str(folder), "--model", "--episodes", "1", "--horizon", "3"])
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "play").glob("*-model.png"))
    assert {file.name for file in folder.iterdir()} == FILES and len(list(folder.parent.iterdir())) == 1


def test_nothing_is_trained_on_from_it(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="is an exported agent without buffers and optimizers"):
        read_checkpoint(CheckpointFolder(LocalFileSystem(), str(folder)))


def test_rllib_refuses_it_in_one_sentence(folder: Path, ray_session: None) -> None:
    with pytest.raises(ValueError, match="is an exported agent without buffers"):
        MBPO.from_checkpoint(str(folder))


@pytest.mark.parametrize("name", sorted(FILES - {"README.md"}))
@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_a_damaged_one_is_one_sentence(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).unlink()
    if damage != "gone":
        (copy / name).write_bytes(content[: len(content) // 3] if damage == "cut" else content)
    text = refusal(CliRunner().invoke(play, [str(copy), "--episodes", "1"]))
    assert "copy" in text


def test_a_card_may_be_edited(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "README.md").write_text("mine")
    assert read_agent(copy).seed == 5


def test_a_folder_that_is_there_is_kept(folder: Path, pendulum: Saved, tmp_path: Path) -> None:
    for target in (folder, tmp_path / "file"):
        (tmp_path / "file").touch()
        done = CliRunner().invoke(export, [str(pendulum.folder), str(target)])
        assert "is there already; give a folder that is not there" in refusal(done)
    with pytest.raises(InputError, match="--seed 4 is not in"):
        read_agent(pendulum.folder, 4)


@pytest.mark.parametrize("own", sorted((ROOT / "pretrained").glob("*/")), ids=lambda path: path.name)
def test_what_ships_is_small_and_whole_and_has_a_card(own: Path) -> None:
    assert {file.name for file in own.iterdir()} == FILES
    assert sum(file.stat().st_size for file in own.iterdir()) < 2_000_000
    agent = read_agent(own)
    text = (own / "README.md").read_text()
    assert f"# {agent.title}" in text and "not recorded" not in text
    actions = agent.actor().mean_action(torch.zeros(1, 1, agent.dimensions[0]))
    assert np.isfinite(actions.numpy(force=True)).all()
    if agent.settings.model_based:
        agent.dynamics()
        agent.values()


def test_an_agent_of_a_run_that_goes_on_is_not_changed(pendulum: Saved, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in pendulum.folder.iterdir() if file.is_file()}
    exported(pendulum.folder, tmp_path / "own")
    assert {file.name: file.read_bytes() for file in pendulum.folder.iterdir() if file.is_file()} == before
    assert train(pendulum.config).env_steps == read_agent(tmp_path / "own").env_steps
