"""Checkpoints: N epochs, restore, M epochs equal N + M epochs, bit for bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow.fs import LocalFileSystem
from ray.rllib.core.columns import Columns

from vagram_ray.checkpoint import CheckpointFolder, write_checkpoint
from vagram_ray.envs import EnvironmentSpecError, SeedVectorEnv
from vagram_ray.rllib import MBPO, MBPORLModule, checkpointing
from vagram_ray.rllib.checkpointing import algorithm_state, plain_content
from vagram_ray.rllib.learner import AGENT
from vagram_ray.rllib.plain_config import plain_settings


def assert_same(left: Any, right: Any, path: str = "state") -> None:
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{path}[{index}]")
    elif isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype and torch.equal(left, right), path
    else:
        assert left == right, path


def state_of(algo: MBPO) -> dict[str, Any]:
    """Everything that the run depends on: networks, optimizers, buffers, random streams, environments."""
    return algo.learner.get_state(components=AGENT)[AGENT] | {
        "environments": algo.env_runner.get_state()["environments"]
    }


def numbers_of(result: dict[str, Any]) -> dict[str, Any]:
    """The part of a result that does not depend on the clock."""
    return {key: result[key] for key in ("env_steps", "seeds", "eval", "sac", "train", "env_runners", "evaluation")}


def train(algo: MBPO, epochs: int) -> list[dict[str, Any]]:
    return [numbers_of(algo.train()) for _ in range(epochs)]


def assert_same_results(left: list[dict], right: list[dict]) -> None:
    np.testing.assert_equal(left, right)  # NaN equals NaN here


@pytest.mark.parametrize("seeds", [(3,), (3, 5)], ids=["S=1", "S=2"])
@pytest.mark.parametrize("model_loss", ["vagram", "none"])
def test_training_on_from_a_checkpoint_equals_not_having_stopped(make_config, build, tmp_path, model_loss, seeds):
    config = make_config(
        "ContinuousCartPole-v0", model_loss=model_loss, seeds=seeds, normalize_observations=True
    ).environment(num_distractors=2)
    straight, first = build(config), build(config)
    expected = train(straight, 3)
    assert_same_results(train(first, 1), expected[:1])
    path = first.save_to_path(tmp_path / "checkpoint")
    second = MBPO.from_checkpoint(path)
    try:
        assert_same(state_of(second), state_of(first))
        assert second.training_iteration == 1
        assert_same_results(train(second, 2), expected[1:])
        assert_same(state_of(second), state_of(straight))
        assert second.training_iteration == 3
    finally:
        second.stop()


def test_an_earlier_versions_paper_distractors_go_on_as_drift(make_config, build, tmp_path, monkeypatch):
    """Before there were readings of eq. 18 to choose from, "paper" was the process that is called drift now."""
    readings = ("distractor_scale", "distractor_reset")

    def as_before(settings: dict[str, Any]) -> dict[str, Any]:
        return {k: "paper" if k == "distractor_process" else v for k, v in settings.items() if k not in readings}

    config = make_config().environment(num_distractors=2, distractor_process="drift")
    straight, first = build(config), build(config)
    expected = train(straight, 2)
    train(first, 1)
    describe = SeedVectorEnv._description
    with monkeypatch.context() as earlier:
        earlier.setattr(checkpointing, "plain_settings", lambda config: as_before(plain_settings(config)))
        earlier.setattr(SeedVectorEnv, "_description", lambda envs: as_before(describe(envs)))
        path = first.save_to_path(tmp_path / "checkpoint")
    written = json.loads((Path(path) / "config.json").read_text())["settings"]
    assert written["distractor_process"] == "paper" and not set(readings) & set(written)

    second = MBPO.from_checkpoint(path)
    try:
        assert second.config.distractor_process == "drift"
        assert_same_results(train(second, 1), expected[1:])
    finally:
        second.stop()
    today = build(make_config().environment(num_distractors=2))
    with pytest.raises(EnvironmentSpecError, match=r"have spec \{.*'drift'.*these have \{.*'paper'"):
        today.restore_from_path(path)


def test_restoring_in_place_goes_back(make_config, build, tmp_path):
    algo = build(make_config(seeds=(3, 5)))
    train(algo, 1)
    path = algo.save_to_path(tmp_path / "checkpoint")
    saved, obs = state_of(algo), torch.randn(2, 4, 3)
    actions = algo.get_module().forward_inference({Columns.OBS: obs})[Columns.ACTIONS]
    expected = train(algo, 2)
    algo.restore_from_path(path)
    assert_same(state_of(algo), saved)
    assert torch.equal(algo.get_module().forward_inference({Columns.OBS: obs})[Columns.ACTIONS], actions)
    assert_same_results(train(algo, 2), expected)


def test_restoring_an_older_checkpoint_revives_a_failed_seed(make_config, build, tmp_path):
    algo = build(make_config(seeds=(3, 5)))
    train(algo, 1)
    path = algo.save_to_path(tmp_path / "checkpoint")
    expected = train(algo, 1)
    algo.learner.agent.actor.flat.data[1] = math.nan
    train(algo, 1)
    assert algo.learner.agent.failed.tolist() == [False, True]
    algo.restore_from_path(path)
    assert algo.learner.agent.failed.tolist() == [False, False]
    assert_same_results(train(algo, 1), expected)


def test_the_state_in_memory_is_a_snapshot(make_config, build):
    algo = build(make_config(seeds=(3, 5)))
    train(algo, 1)
    state, saved = algo.get_state(), state_of(algo)
    expected = train(algo, 1)
    algo.set_state(state)
    assert_same(state_of(algo), saved)
    assert_same_results(train(algo, 1), expected)


def test_weight_syncs_carry_no_buffers(make_config, build):
    algo = build(make_config())
    state = algo.learner_group.get_state(components="learner/rl_module", inference_only=True)["learner"]
    assert AGENT not in state and "rl_module" in state
    assert AGENT in algo.learner_group.get_state()["learner"]


def test_the_policy_can_be_exported_as_an_rl_module(make_config, build, tmp_path):
    algo = build(make_config())
    train(algo, 1)
    algo.get_module().save_to_path(tmp_path / "module")
    module = MBPORLModule.from_checkpoint(tmp_path / "module")
    own = algo.get_module()
    assert torch.equal(module.actor.flat, own.actor.flat)
    obs = {Columns.OBS: torch.randn(4, 3)}
    # A policy in training may be evaluated by the compiled library, which is equal but for rounding.
    expected = own.forward_inference(obs)[Columns.ACTIONS]
    torch.testing.assert_close(module.forward_inference(obs)[Columns.ACTIONS], expected, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_other_seeds_is_refused(make_config, build, tmp_path):
    algo = build(make_config(seeds=(1, 2)))
    path = algo.save_to_path(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"seeds"):
        build(make_config(seeds=(1, 3))).restore_from_path(path)


def test_what_a_checkpoint_names_is_not_executed(make_config, build, tmp_path, monkeypatch):
    """A stranger who can write a checkpoint can name modules in it; loading it imports none of them."""
    algo = build(make_config())
    path = tmp_path / "checkpoint"
    algo.save_to_path(path)
    for number, (key, value) in enumerate({"env": "evil_module:Pendulum-v1", "extensions": ["evil.py"]}.items()):
        stranger = tmp_path / f"stranger{number}"
        folder = CheckpointFolder(LocalFileSystem(), str(stranger))
        content = plain_content(algo.config)
        content["settings"] |= {key: value} | ({"model_loss": "evil"} if key == "extensions" else {})
        write_checkpoint(folder, content, algorithm_state(algo), algo.learner.agent.replay)
    for name in ("evil.py", "evil_module.py"):
        (tmp_path / name).write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"import evil_module first"):
        MBPO.from_checkpoint(tmp_path / "stranger0")
    with pytest.raises(ValueError, match=r"'evil\.py', which is not executed because a checkpoint names it"):
        MBPO.from_checkpoint(tmp_path / "stranger1")
