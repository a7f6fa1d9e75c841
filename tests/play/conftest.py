"""A tiny checkpoint as RLlib writes it, made without starting Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from ray import cloudpickle

from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.envs import SeedVectorEnv
from vagram_ray.play.checkpoint import AGENT_FILE, CONFIG_FILE
from vagram_ray.rllib import MBPO, MBPOConfig
from vagram_ray.rllib.learner import AgentCheckpoint


class Saved(NamedTuple):
    folder: Path
    config: MBPOConfig
    agent: MBPOAgent


def tiny_config(env: str = "Pendulum-v1", num_distractors: int = 0, **training) -> MBPOConfig:
    values = {
        "seeds": (3, 5),
        "num_layers": 2,
        "hidden_size": 16,
        "ensemble_size": 3,
        "num_elites": 2,
        "model_max_epochs": 3,
        "model_batch_size": 32,
        "actor_hidden_sizes": (16, 16),
        "critic_hidden_sizes": (16, 16),
        "normalize_observations": True,
        "train_batch_size_per_learner": 32,
        "utd_ratio": 1,
        "epoch_length": 60,
        "num_steps_sampled_before_learning_starts": 50,
        "model_train_freq": 30,
        "rollouts_per_step": 4,
        "real_ratio": (0, 0, 0.5, 0.5),
        **training,
    }
    config = MBPOConfig().environment(env, num_distractors=num_distractors).training(**values)
    config.validate()
    return config


def train(config: MBPOConfig, epochs: int = 1) -> MBPOAgent:
    spec = config.environment_spec()
    obs_dim, action_dim = spec.dimensions()
    settings = config.to_settings()
    termination = spec.termination() if settings.model_based else None
    agent = MBPOAgent(
        settings, seeds=config.seeds, obs_dim=obs_dim, action_dim=action_dim, termination=termination
    )  # fmt: skip
    envs = SeedVectorEnv(spec, config.seeds)
    for _ in range(epochs):
        agent.train_epoch(envs)
    return agent


def write_checkpoint(folder: Path, config: MBPOConfig, agent: MBPOAgent) -> Saved:
    """The two files that are read, as ``Algorithm.save_to_path`` and ``AgentCheckpoint`` write them."""
    AgentCheckpoint(agent).save_to_path(str((folder / AGENT_FILE).parent))
    with (folder / CONFIG_FILE).open("wb") as file:
        cloudpickle.dump({"class": MBPO, "ctor_args_and_kwargs": ((config.get_state(),), {})}, file)
    return Saved(folder, config, agent)


@pytest.fixture(scope="session")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Pendulum with 4 distractors, seeds 3 and 5, one epoch of vagram."""
    config = tiny_config(num_distractors=4)
    return write_checkpoint(tmp_path_factory.mktemp("play") / "vagram", config, train(config))


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Saved]:
    """Trains and saves an agent of a configuration of one's own."""

    def make(env: str = "Pendulum-v1", num_distractors: int = 0, *, folder: str = "checkpoint", **training) -> Saved:
        config = tiny_config(env, num_distractors, **training)
        return write_checkpoint(tmp_path / folder, config, train(config))

    return make
