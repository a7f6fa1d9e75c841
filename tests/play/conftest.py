"""A tiny checkpoint as ``MBPO.save_to_path`` and trials write it, made without starting Ray."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem

from vagram_ray import checkpoint
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.envs import SeedVectorEnv
from vagram_ray.rllib import MBPOConfig
from vagram_ray.rllib.checkpointing import plain_content


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


def content(config: MBPOConfig, agent: MBPOAgent) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Settings, state and real buffer."""
    state = {"agent": agent.state_dict(with_transitions=False), "training_iteration": agent.epoch, "time_total_s": 1.0}
    return plain_content(config), state, agent.replay


def write_checkpoint(folder: Path, config: MBPOConfig, agent: MBPOAgent) -> Saved:
    """A checkpoint that holds its replay buffer itself."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_checkpoint(checkpoint.CheckpointFolder(LocalFileSystem(), str(folder)), *content(config, agent))
    return Saved(folder, config, agent)


@pytest.fixture(scope="session")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Pendulum with 4 distractors, seeds 3 and 5, one epoch of vagram."""
    config = tiny_config(num_distractors=4)
    return write_checkpoint(tmp_path_factory.mktemp("play") / "vagram", config, train(config))


@pytest.fixture
def normalized(tmp_path: Path) -> Iterator[Saved]:
    """Plain SAC on a Pendulum whose observations a wrapper normalises, by what evaluation has seen until the end."""

    def entry_point(render_mode: str | None = None) -> gymnasium.Env:
        return gymnasium.wrappers.NormalizeObservation(gymnasium.make("Pendulum-v1", render_mode=render_mode))

    gymnasium.register("PlayNormalized-v0", entry_point)
    config = tiny_config("PlayNormalized-v0", model_loss="none")
    agent = train(config)
    envs = SeedVectorEnv(config.environment_spec(), config.seeds, evaluation=True)
    envs.reset()
    for _ in range(300):
        envs.step(np.ones((2, 1), dtype=np.float32))
    settings, state, replay = content(config, agent)
    folder = checkpoint.CheckpointFolder(LocalFileSystem(), str(tmp_path / "normalized"))
    state["environments"] = {"evaluation": envs.get_state()}
    checkpoint.write_checkpoint(folder, settings, state, replay)
    yield Saved(tmp_path / "normalized", config, agent)
    del gymnasium.registry["PlayNormalized-v0"]


@pytest.fixture(scope="session")
def trial(pendulum: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial's folder with three checkpoints of that agent, numbers 8 to 10, which share their replay buffer."""
    folder = tmp_path_factory.mktemp("trial") / "num_distractors=4,seeds=3-5"
    history = checkpoint.CheckpointHistory(LocalFileSystem(), str(folder), keep=3)
    for number in (8, 9, 10):
        history.write(number, *content(pendulum.config, pendulum.agent))
    return folder


@pytest.fixture
def save_checkpoint() -> Callable[[Path, MBPOConfig, MBPOAgent], Saved]:
    """Saves an agent; what stood there is replaced."""
    return write_checkpoint


@pytest.fixture
def rewrite_json() -> Callable[[Path, str, Callable[[Any], None]], None]:
    """Changes a JSON file of a checkpoint, and the manifest with it: as if it had been written so."""

    def rewrite(folder: Path, name: str, change: Callable[[Any], None]) -> None:
        plain = json.loads((folder / name).read_text())
        change(plain)
        (folder / name).write_text(json.dumps(plain))
        manifest = json.loads((folder / "manifest.json").read_text())
        written = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return rewrite


@pytest.fixture
def rewrite_config(rewrite_json) -> Callable[..., None]:
    """Changes settings of a checkpoint."""

    def rewrite(folder: Path, **changes: Any) -> None:
        rewrite_json(folder, "config.json", lambda config: config["settings"].update(changes))

    return rewrite


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Saved]:
    """Trains and saves an agent of a configuration of one's own."""

    def make(env: str = "Pendulum-v1", num_distractors: int = 0, *, folder: str = "checkpoint", **training) -> Saved:
        config = tiny_config(env, num_distractors, **training)
        return write_checkpoint(tmp_path / folder, config, train(config))

    return make
