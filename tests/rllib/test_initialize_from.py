"""A run that starts with what a finished one has learned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow.fs import LocalFileSystem
from ray.tune import Checkpoint

from vagram_ray.checkpoint import CheckpointError
from vagram_ray.core.initialization import PARTS
from vagram_ray.rllib import MBPO, MBPOConfig, initialization
from vagram_ray.rllib.checkpointing import TrialCheckpoints
from vagram_ray.rllib.initialization import find_source
from vagram_ray.rllib.plain_config import config_from_plain, plain_settings


@pytest.fixture
def source(make_config, build, tmp_path):
    """A trained cohort of seeds 3 and 5, and the path of its checkpoint."""
    algo = build(make_config(seeds=(3, 5), normalize_observations=True))
    algo.train()
    return algo, algo.save_to_path(tmp_path / "source")


def parts_of(algo: MBPO) -> dict[str, torch.Tensor]:
    agent = algo.learner.agent
    critics = (agent.sac.critic, agent.sac.target_critic)
    return {
        "actor": agent.actor.network.flat.detach().clone(),
        "critics": torch.stack([own.network.flat.detach().clone() for own in critics]),
        "model": agent.dynamics.network.flat.detach().clone(),
        "normalizer": torch.cat([agent.actor.scale.obs_mean, agent.actor.scale.obs_std]).clone(),
        "buffer": agent.replay.rows.clone(),
    }


@pytest.mark.parametrize("parts", [None, ("buffer",), ("actor",), ("critics", "model"), PARTS], ids=str)
def test_the_parts_that_are_asked_for_are_the_sources_and_no_others(source, make_config, build, parts):
    algo, path = source
    config = make_config(seeds=(3, 5), normalize_observations=True, actor_lr=0.01, utd_ratio=2)
    new = build(config.copy().initialize_from(path) if parts is None else config.copy().initialize_from(path, parts))
    theirs, plain, own = parts_of(algo), parts_of(build(config)), parts_of(new)
    wanted = set(PARTS[:4] if parts is None else parts)
    for part in PARTS:
        assert torch.equal(own[part], (theirs if part in wanted else plain)[part]), part
    agent = new.learner.agent
    assert (agent.env_steps, agent.epoch, agent.sac.num_updates) == (0, 0, 0)
    assert agent.sac.actor_optimizer.lr == 0.01 and not agent.sac.actor_optimizer.exp_avg.any()
    assert new.train()["env_steps"] == 110
    assert len(agent.replay) == 110 + (110 if "buffer" in wanted else 0)


@pytest.mark.parametrize("warm_up", [0, 20])
def test_a_normalizer_stays_what_the_networks_have_learned_with(source, make_config, build, tmp_path, warm_up):
    algo, path = source
    config = make_config(seeds=(3, 5), normalize_observations=True, num_steps_sampled_before_learning_starts=warm_up)
    new = build(config.copy().initialize_from(path, parts=("actor", "normalizer")))
    new.train()
    assert torch.equal(parts_of(new)["normalizer"], parts_of(algo)["normalizer"])
    again = build(config)
    again.restore_from_path(new.save_to_path(tmp_path / "new"))
    again.train()
    assert torch.equal(parts_of(again)["normalizer"], parts_of(algo)["normalizer"])
    for parts in (("actor",), PARTS):  # the source's transitions are there, or nothing of it is known
        other = build(config.copy().initialize_from(path, parts=parts))
        other.train()
        assert not torch.equal(parts_of(other)["normalizer"], parts_of(algo)["normalizer"])


def test_seeds_start_from_the_same_seed_or_the_others_in_turn(source, make_config, build):
    algo, path = source
    new = build(make_config(seeds=(5, 9, 11), normalize_observations=True).initialize_from(path))
    theirs = parts_of(algo)["actor"]
    assert torch.equal(parts_of(new)["actor"], theirs[[1, 1, 0]])


def test_a_seed_that_has_failed_starts_nobody(source, make_config, build, tmp_path):
    algo, _ = source
    algo.learner.agent.give_up([0])
    path = algo.save_to_path(tmp_path / "one_failed")
    new = build(make_config(seeds=(3,), normalize_observations=True).initialize_from(path))
    assert torch.equal(parts_of(new)["actor"], parts_of(algo)["actor"][[1]])
    algo.learner.agent.give_up([1])
    path = algo.save_to_path(tmp_path / "all_failed")
    with pytest.raises(ValueError, match="all its seeds have failed"):
        build(make_config(seeds=(3,), normalize_observations=True).initialize_from(path))


def test_a_smaller_buffer_takes_the_newest_transitions(source, make_config, build):
    algo, path = source
    config = make_config(seeds=(3, 5), normalize_observations=True, replay_capacity=70)
    new = build(config.initialize_from(path, parts=("buffer",)))
    replay = new.learner.agent.replay
    assert torch.equal(replay.rows, parts_of(algo)["buffer"][:, -70:])
    assert torch.equal(replay.arrivals(0, 70), replay.rows)
    new.train()
    new.restore_from_path(new.save_to_path())  # the segments on disk fit the ring


@pytest.mark.parametrize(
    ("settings", "parts", "difference"),
    [
        ({"hidden_size": 8}, None, "hidden_size=16 there and 8 here"),
        ({"actor_hidden_sizes": (8,)}, None, r"actor_hidden_sizes=\[32, 32\] there and \[8\] here"),
        ({"critic_hidden_sizes": (8,)}, ("critics",), r"critic_hidden_sizes=\[32, 32\] there and \[8\] here"),
        ({"model_loss": "nll"}, ("model",), "model_loss='vagram' there and 'nll' here"),
        ({"termination": "learned"}, ("model",), "termination='function' there and 'learned' here"),
        ({"normalize_observations": False}, ("actor",), "normalize_observations=True there and False here"),
        ({"num_distractors": 2}, ("actor",), "num_distractors=0 there and 2 here"),
        ({"num_distractors": 2}, ("buffer",), "num_distractors=0 there and 2 here"),
        ({"env": "ContinuousCartPole-v0"}, None, "env='Pendulum-v1' there and 'ContinuousCartPole-v0' here"),
    ],
)
def test_another_shape_is_refused_by_the_setting(source, make_config, build, settings, parts, difference):
    config = make_config(seeds=(3,), **{"normalize_observations": True} | settings_of_training(settings))
    config.environment(**{key: value for key, value in settings.items() if key in ("env", "num_distractors")})
    config.initialize_from(source[1], *([parts] if parts else []))
    with pytest.raises(ValueError, match=rf"initialize_from\('.*source'\) does not fit \({difference}\): set the same"):
        build(config)


def settings_of_training(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in ("env", "num_distractors")}


def test_what_a_part_does_not_need_may_differ(source, make_config, build):
    other = {"hidden_size": 8, "critic_hidden_sizes": (8,), "num_elites": 1, "model_loss": "nll"}
    config = make_config(seeds=(3,), normalize_observations=True, **other)
    new = build(config.initialize_from(source[1], parts=("actor", "normalizer")))
    assert torch.equal(parts_of(new)["actor"], parts_of(source[0])["actor"][[0]])
    build(make_config(seeds=(3,), normalize_observations=True, model_loss="none").initialize_from(source[1])).train()


def test_going_on_starts_nothing_again(source, make_config, build, tmp_path):
    """With the source gone, too: a run's own checkpoint is all it needs."""
    path = source[1]
    config = make_config(seeds=(3, 5), normalize_observations=True).initialize_from(path)
    straight, first = build(config), build(config)
    expected = [straight.train()["seeds"] for _ in range(2)]
    first._checkpoints = TrialCheckpoints(LocalFileSystem(), str(tmp_path / "trial"), 1, keep=2, last_epoch=None)
    np.testing.assert_equal(first.train()["seeds"], expected[0])
    (tmp_path / "source").rename(tmp_path / "gone")
    second = MBPO.from_checkpoint(tmp_path / "trial" / "checkpoint_000001")
    try:
        assert second.config.initial_checkpoint == path
        np.testing.assert_equal(second.train()["seeds"], expected[1])
    finally:
        second.stop()


def test_a_trials_folder_is_its_newest_checkpoint_and_the_place_is_absolute(source, tmp_path, monkeypatch):
    algo, path = source
    for folder in ("trial", "of_tune/own_checkpoints"):
        algo._checkpoints = TrialCheckpoints(LocalFileSystem(), str(tmp_path / folder), 1, keep=3, last_epoch=None)
        algo.train()
    monkeypatch.chdir(tmp_path)
    found = {given: MBPOConfig().initialize_from(given).initial_checkpoint for given in ("source", "trial", "of_tune")}
    assert found["source"] == path
    assert found["trial"] == str(tmp_path / "trial" / "checkpoint_000002")
    assert found["of_tune"] == str(tmp_path / "of_tune" / "own_checkpoints" / "checkpoint_000003")
    assert MBPOConfig().initialize_from(Checkpoint.from_directory(path)).initial_checkpoint == path
    with pytest.raises(CheckpointError, match=r"^initialize_from: '.*nowhere' is no checkpoint .* no trial's folder"):
        MBPOConfig().initialize_from("nowhere")


def test_it_is_a_setting_of_the_run(source):
    config = MBPOConfig().environment("Pendulum-v1").initialize_from(source[1], parts=["actor"])
    again = config_from_plain(MBPOConfig(), plain_settings(config), (0,))
    assert (again.initial_checkpoint, again.initial_parts) == (source[1], ("actor",))
    with pytest.raises(ValueError, match=r"no part 'critic', did you mean 'critics'\? There are actor, critics, "):
        config.initialize_from(source[1], parts=["critic"]).validate()
    with pytest.raises(ValueError, match=r"initial_parts=\(\) is not usable: give some of actor"):
        config.initialize_from(source[1], parts=[]).validate()


def test_the_newest_checkpoint_at_a_uri_keeps_the_uris_options(source, monkeypatch):
    _, path = source
    folder = Path(path).parent / "trial"
    shutil.copytree(path, folder / "checkpoint_000001")
    monkeypatch.setattr(initialization, "resolve", lambda _: (LocalFileSystem(), str(folder)))
    place = find_source("s3://bucket/trial?endpoint_override=localhost:9000")
    assert place == "s3://bucket/trial/checkpoint_000001?endpoint_override=localhost:9000"
