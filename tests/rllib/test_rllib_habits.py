"""What RLlib's users do with any algorithm: it works, or one sentence says what to do instead."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow.fs import LocalFileSystem
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.tune import Checkpoint

from vagram_ray.checkpoint import CheckpointError
from vagram_ray.play.checkpoint import read_agent
from vagram_ray.rllib import MBPO, MBPORLModule
from vagram_ray.rllib.checkpointing import TrialCheckpoints
from vagram_ray.rllib.old_api import CALLS_WITHOUT_USE
from vagram_ray.rllib.unused_settings import CALLED, refused_settings

USUAL_MODULE_PATH = "learner_group/learner/rl_module/default_policy"
"""As RLlib's documentation writes it."""


@pytest.fixture
def trained(make_config, build, tmp_path) -> tuple[MBPO, Path]:
    """An algorithm after an epoch, and its checkpoint."""
    algo = build(make_config(seeds=(3, 5)))
    algo.train()
    return algo, Path(algo.save_to_path(tmp_path / "checkpoint"))


@pytest.mark.parametrize("given", [str, Checkpoint.from_directory], ids=["path", "Checkpoint"])
def test_the_generic_class_reads_a_checkpoint_and_goes_on(trained, given):
    algo, path = trained
    loaded = Algorithm.from_checkpoint(given(str(path)))
    try:
        assert type(loaded) is MBPO
        assert loaded.config.seeds == (3, 5) and loaded.training_iteration == 1
        np.testing.assert_equal(loaded.train()["seeds"], algo.train()["seeds"])
    finally:
        loaded.stop()


def test_the_generic_class_reads_a_trials_own_checkpoint(tmp_path, trained):
    algo = trained[0]
    algo._checkpoints = TrialCheckpoints(LocalFileSystem(), str(tmp_path / "trial"), 1, keep=2, last_epoch=None)
    algo.train()
    loaded = Algorithm.from_checkpoint(str(tmp_path / "trial" / "checkpoint_000002"))
    try:
        assert loaded.training_iteration == 2
    finally:
        loaded.stop()


def test_the_policies_are_read_from_their_usual_place_in_a_checkpoint(trained):
    algo, path = trained
    module = RLModule.from_checkpoint(str(path / USUAL_MODULE_PATH))
    assert type(module) is MBPORLModule and module.seeds == (3, 5)
    obs = {Columns.OBS: torch.randn(2, 4, 3)}
    expected = algo.get_module().forward_inference(obs)[Columns.ACTIONS]
    torch.testing.assert_close(module.forward_inference(obs)[Columns.ACTIONS], expected, rtol=1e-5, atol=1e-6)


def test_a_class_that_no_other_process_can_import_is_read_as_its_base(make_config, build, tmp_path):
    class Local(MBPO):
        """A user's own, in a notebook."""

    config = make_config()
    config.algo_class = Local
    loaded = Algorithm.from_checkpoint(build(config).save_to_path(tmp_path / "checkpoint"))
    try:
        assert type(loaded) is MBPO
    finally:
        loaded.stop()


def test_a_damaged_checkpoint_gives_no_policies(trained):
    path = trained[1]
    (path / "agent.safetensors").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=r"agent\.safetensors has not the size or checksum"):
        RLModule.from_checkpoint(str(path / USUAL_MODULE_PATH))


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


def test_our_own_readers_open_none_of_rllibs_files(trained, tmp_path, monkeypatch):
    """Neither does a checkpoint without them, such as an earlier version's, lack anything."""
    path = trained[1]
    monkeypatch.chdir(tmp_path)
    foreign = [*path.rglob("*.pkl"), *path.rglob("*.msgpack"), path / "rllib_checkpoint.json"]
    assert len(foreign) == 4
    for content in (pickle.dumps(Evil()), None):
        for file in foreign:
            file.unlink() if content is None else file.write_bytes(content)
        MBPO.from_checkpoint(path).stop()
        trained[0].restore_from_path(path)
        read_agent(path)
    assert not Path("executed").exists()


def test_weights_that_are_set_are_those_that_act_and_train(trained, build, make_config):
    algo = trained[0]
    halves = {name: np.full_like(own, 0.5) for name, own in algo.get_weights()["default_policy"].items()}
    algo.set_weights({"default_policy": halves})
    assert (algo.learner.agent.actor.flat == 0.5).all()
    assert (algo.get_weights()["default_policy"]["actor.network.flat"] == 0.5).all()
    algo.train()
    with pytest.raises(ValueError, match=r"weights of 'p1' are not usable: MBPO has one module"):
        algo.set_weights({"p1": {}})
    with pytest.raises(ValueError, match=r"has shape \(1, \d+\) there and \(2, \d+\) here, for 2 seed"):
        algo.set_weights(build(make_config(seeds=(1,))).get_weights())


@pytest.mark.parametrize("name", CALLS_WITHOUT_USE)
def test_calls_without_use_say_what_to_do(name):
    assert callable(getattr(Algorithm, name))
    algo = MBPO.__new__(MBPO)  # a sentence needs no algorithm
    with pytest.raises(NotImplementedError, match=rf"^MBPO\.{name} is not usable: .*\.$"):
        getattr(algo, name)()


def test_what_the_sentence_on_actions_says_works(trained):
    obs = torch.randn(4, 3)
    actions = trained[0].get_module().select_seed(0).forward_inference({"obs": obs})["actions"]
    assert actions.shape == (4, 1)


OTHER_VALUES = {
    "rollout_fragment_length": (10, "set epoch_length"),
    "batch_mode": ("complete_episodes", "set epoch_length"),
    "num_cpus_per_env_runner": (2, "num_cpus_per_learner"),
    "compress_observations": (True, "no use for it"),
    "model": ({"fcnet_hiddens": [8]}, "actor_hidden_sizes"),
    "metrics_num_episodes_for_smoothing": (5, "its own epoch"),
    "exploration_config": ({"type": "EpsilonGreedy"}, "explore"),
}


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_settings_of_rllib_without_effect_are_refused(make_config, name):
    value, way_out = OTHER_VALUES[name]
    config = make_config()
    setattr(config, name, value)
    with pytest.raises(ValueError, match=rf"^{name}=.* is not usable: .*{way_out}"):
        config.validate()


def test_every_setting_of_rllib_has_an_effect_or_is_refused(make_config):
    """A new version of RLlib may bring settings: each is refused until it is in the list of those with an effect."""
    refused = refused_settings()
    used = {
        "num_cpus_per_learner", "num_gpus_per_learner", "evaluation_interval", "evaluation_duration", "gamma",
        "explore", "evaluation_config", "env", "env_config", "callbacks_class", "log_level", "env_runner_cls",
    }  # fmt: skip
    assert not used & set(refused)
    assert set(refused) <= set(vars(AlgorithmConfig()))
    for name in refused:
        config = make_config()
        if hasattr(config.to_settings(), name):  # a setting of the method's that has the same name
            continue
        setattr(config, name, object())
        with pytest.raises(ValueError, match="is not usable"):
            config.validate()


def spying(names: tuple[str, ...], calls: dict[str, Any]) -> type[RLlibCallback]:
    def noting(name: str) -> Any:
        return lambda self, **given: calls.setdefault(name, given)

    return type("Spy", (RLlibCallback,), {name: noting(name) for name in names})


def test_the_callbacks_that_are_accepted_are_called_with_rllibs_arguments(make_config, build, tmp_path):
    calls: dict[str, Any] = {}
    config = make_config(seeds=(3,)).callbacks(spying(CALLED, calls))
    config.environment(env_config={"g": 9.81})
    algo = build(config)
    algo.train()
    algo.restore(algo.save(str(tmp_path)))
    assert set(calls) == set(CALLED)
    assert all(calls[name]["algorithm"] is algo for name in CALLED if name != "on_environment_created")
    created = calls["on_environment_created"]
    assert created["env_runner"] is algo.env_runner and created["env"] is algo.env_runner.env
    assert created["env_context"] == {"g": 9.81} and created["env_context"].worker_index == 0
    assert created["metrics_logger"] is algo.env_runner.metrics


UNCALLED = ("on_episode_start", "on_episode_step", "on_episode_end", "on_episode_created", "on_sample_end")


@pytest.mark.parametrize("name", UNCALLED)
@pytest.mark.parametrize("way", ["class", "classes", "function"])
def test_callbacks_that_nothing_would_call_are_refused(make_config, name, way):
    spy = spying((name,), {})
    config = make_config()
    if way == "function":
        config.callbacks(**{name: lambda **given: None})
    else:
        config.callbacks(spy if way == "class" else [RLlibCallback, spy])
    with pytest.raises(ValueError, match=rf"^callbacks {name} are not usable.* are called: on_algorithm_init, .*\.$"):
        config.validate()
