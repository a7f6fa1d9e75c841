"""One seed's agent out of a checkpoint, without Ray: the configuration's plain values, the networks, nothing else.

The only module here that knows how checkpoints are laid out. ``MBPO.from_checkpoint`` starts Ray and builds the
whole algorithm with its buffers; here only the rows of one seed are read from the agent's file, which is mapped and
not copied, and only the networks that are asked for are built.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.sac import SquashedGaussianActor, TwinCritic
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ActorCritic, ValueEstimates
from vagram_ray.envs import EnvironmentSpec
from vagram_ray.play.episodes import Policy
from vagram_ray.play.errors import PlayError
from vagram_ray.play.inert_pickle import is_plain, load_plain_values

CONFIG_FILE = "class_and_ctor_args.pkl"
AGENT_FILE = Path("learner_group", "learner", "mbpo_agent", "agent_state.pt")
_NAMES_IN_CONFIG = {"batch_size": "_train_batch_size_per_learner"}
"""Fields of ``MBPOSettings`` that RLlib keeps under another name."""


@dataclass(frozen=True)
class SavedAgent:
    """One seed of a saved cohort.

    Attributes:
        folder: The checkpoint.
        settings: Hyperparameters it was trained with.
        environment: What it is evaluated in (``evaluation_config`` included).
        seed: The seed.
        env_steps: Environment steps it was trained for, warm-up included.
        state: The seed's rows of the agent's state.
    """

    folder: Path
    settings: MBPOSettings
    environment: EnvironmentSpec
    seed: int
    env_steps: int
    state: Mapping[str, Any]

    @cached_property
    def dimensions(self) -> tuple[int, int]:
        """D and A, asked of the environment.

        Raises:
            PlayError: It cannot be made.
        """
        try:
            return self.environment.dimensions()
        except ValueError as error:
            raise PlayError(f"{str(self.folder)!r} cannot be played: {str(error).rstrip('.')}.") from error

    @property
    def title(self) -> str:
        """``vagram on Pendulum-v1, 10 distractors, seed 0, 3,000 steps``."""
        count = self.environment.num_distractors
        distractors = f", {count} distractor{'s' if count > 1 else ''}" if count else ""
        loss = self.settings.model_loss if self.settings.model_based else "plain SAC"
        return f"{loss} on {self.environment.env_id}{distractors}, seed {self.seed}, {self.env_steps:,} steps"

    @property
    def stem(self) -> str:
        """The same for a file's name: ``pendulum-v1-d10-vagram-seed0-3000steps``."""
        env_id = self.environment.env_id.rpartition(":")[2].rpartition("/")[2].lower()
        count = self.environment.num_distractors
        distractors = f"-d{count}" if count else ""
        return f"{env_id}{distractors}-{self.settings.model_loss}-seed{self.seed}-{self.env_steps}steps"

    def actor(self) -> SquashedGaussianActor:
        """The policy's network."""
        actor = SquashedGaussianActor(
            1,
            *self.dimensions,
            self.settings.actor_hidden_sizes,
            normalize_features=self.settings.normalize_features,
            normalize_observations=self.settings.normalize_observations,
        )
        with self._fitting("policy"):
            actor.load_state_dict(self.state["sac"]["actor"])
        return actor

    def values(self) -> ValueEstimates:
        """The value functions of the saved critics, whose gradients are VaGraM's weights."""
        actor = self.actor()
        with self._fitting("critics"):
            critic, target_critic = (self._critic(actor, name) for name in ("critic", "target_critic"))
            alpha = self.state["sac"]["log_alpha"].exp()
        parts = ActorCritic(actor, critic, target_critic, alpha)
        return ValueEstimates(parts, self.settings.value_gradient_clip_percentile)

    def check_model(self) -> None:
        """Refuse to look for a model where there is none.

        Raises:
            PlayError: The agent is plain SAC.
        """
        if not self.settings.model_based:
            raise PlayError(
                f"{str(self.folder)!r} was trained with model_loss='none': plain SAC learns no model; leave --model "
                "away, or give a checkpoint of another model_loss."
            )

    def dynamics(self) -> DynamicsEnsemble:
        """The learned model.

        Raises:
            PlayError: The agent is plain SAC.
        """
        self.check_model()
        streams = RandomStreams((self.seed,), "init")
        dynamics = DynamicsEnsemble(self.settings, 1, *self.dimensions, streams)
        with self._fitting("model"):
            dynamics.load_state_dict(self.state["dynamics"])
        return dynamics

    def _critic(self, actor: SquashedGaussianActor, name: str) -> TwinCritic:
        critic = TwinCritic(
            1,
            *self.dimensions,
            self.settings.critic_hidden_sizes,
            scale=actor.scale,
            normalize_features=self.settings.normalize_features,
        )
        with torch.no_grad():
            critic.network.flat.copy_(self.state["sac"][name])
        return critic

    @contextmanager
    def _fitting(self, part: str) -> Iterator[None]:
        """Say in a sentence that saved numbers are not those of the networks that the configuration describes."""
        try:
            yield
        except (RuntimeError, KeyError, AttributeError, ValueError) as error:
            raise PlayError(
                f"The {part} saved in {str(self.folder)!r} does not fit its configuration ({_first_line(error)}); was "
                "it written by another version of vagram_ray?"
            ) from error


def policy(actor: SquashedGaussianActor) -> Policy:
    """The deterministic policy: observations (1, D) to actions (1, A) in [-1, 1], float32."""

    def act(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            action: np.ndarray = actor.mean_action(torch.from_numpy(obs).unsqueeze(1)).squeeze(1).numpy()
        return action

    return act


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds an agent of ours."""
    return (folder / AGENT_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def read_agent(folder: str | Path, seed: int | None = None) -> SavedAgent:
    """One seed of the checkpoint at ``folder``, as ``algo.save_to_path`` wrote it.

    Args:
        folder: The checkpoint's folder.
        seed: One of the cohort's seeds; the first when None.

    Raises:
        PlayError: One sentence on what cannot be read or used.
    """
    path = Path(folder)
    state = _read_state(path)
    seeds = tuple(int(own) for own in state["seeds"])
    position = _position(path, seeds, seed)
    if state["failed"][position]:
        raise PlayError(
            f"Seed {seeds[position]} of {str(path)!r} has failed (its numbers became NaN), so it has no policy; "
            f"give another --seed of {_listed(seeds)}."
        )
    config = _read_config(path)
    _load_extensions(config)
    try:
        settings = _settings(config)
        environment = _evaluation_environment(config)
    except ValueError as error:
        raise PlayError(f"{str(path)!r} cannot be played: {str(error).rstrip('.')}.") from error
    wanted = {name: state[name] for name in ("sac", "dynamics") if name in state}
    rows = _rows_of_seed(wanted, position, len(seeds))
    return SavedAgent(path, settings, environment, seeds[position], int(state["env_steps"]), rows)


# -- the files -------------------------------------------------------------------------------------------------


def _read_state(path: Path) -> dict[str, Any]:
    file = path / AGENT_FILE
    if not file.is_file():
        raise PlayError(f"{str(path)!r} is no checkpoint of MBPO: there is no {AGENT_FILE} in it.")
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        for key in ("seeds", "failed", "env_steps", "sac"):
            state[key]
    except (RuntimeError, OSError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise PlayError(f"{str(file)!r} cannot be read ({_first_line(error)}); it may not be complete.") from error
    return state


def _read_config(path: Path) -> dict[str, Any]:
    file = path / CONFIG_FILE
    try:
        config: dict[str, Any] = load_plain_values(file)["ctor_args_and_kwargs"][0][0]
        config["env"]
    except (OSError, KeyError, IndexError, TypeError, pickle.UnpicklingError) as error:
        raise PlayError(
            f"The configuration of the checkpoint cannot be read from {str(file)!r} ({_first_line(error)}); "
            "it may not be complete."
        ) from error
    return config


def _load_extensions(config: Mapping[str, Any]) -> None:
    """Import the user's own losses and environments that the checkpoint was trained with."""
    extensions = config.get("extensions") or ()
    if not extensions:
        return
    from vagram_ray.rllib.extensions import ExtensionError, load_extensions  # imports Ray, and starts nothing

    for extension in (extensions,) if isinstance(extensions, str) else extensions:
        here = os.path.basename(extension)
        moved = extension.endswith(".py") and not os.path.isfile(extension) and os.path.isfile(here)
        try:
            load_extensions(here if moved else extension)
        except ExtensionError as error:
            way_out = f"start in a folder that holds {here}" if extension.endswith(".py") else "install it"
            raise PlayError(
                f"The checkpoint was trained with the extension {extension!r}, which cannot be loaded "
                f"({str(error).rstrip('.')}): {way_out}."
            ) from error


# -- what is in them -------------------------------------------------------------------------------------------


def _settings(config: Mapping[str, Any]) -> MBPOSettings:
    """The hyperparameters; one that the checkpoint does not know yet has its default."""
    keys = {name: _NAMES_IN_CONFIG.get(name, name) for name in MBPOSettings.field_names()}
    return MBPOSettings(**{name: config[key] for name, key in keys.items() if key in config})


def _evaluation_environment(config: Mapping[str, Any]) -> EnvironmentSpec:
    evaluation = config.get("evaluation_config") or {}
    keywords = _merged(config.get("env_config") or {}, evaluation.get("env_config") or {})
    if not isinstance(config["env"], str):
        raise ValueError(f"its environment is {config['env']!r}, and only Gymnasium ids can be made again")
    if not is_plain(keywords):
        raise ValueError(f"env_config={keywords!r} holds objects, which are not read back from a checkpoint")
    return EnvironmentSpec(
        config["env"], config.get("num_distractors", 0), config.get("distractor_process", "paper"), keywords
    )


def _merged(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """``update`` over ``base``, nested dictionaries key by key, as RLlib merges an evaluation's ``env_config``."""
    merged = dict(base)
    for key, value in update.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged


def _position(path: Path, seeds: Sequence[int], seed: int | None) -> int:
    if seed is None:
        return 0
    if seed not in seeds:
        raise PlayError(f"--seed {seed} is not in {str(path)!r}; its seeds are {_listed(seeds)}.")
    return seeds.index(seed)


def _rows_of_seed(value: Any, position: int, num_seeds: int) -> Any:
    """One seed's part of nested state: each tensor has its rows ordered by seed, one or several for each."""
    if isinstance(value, Tensor) and value.ndim > 0:
        count = value.shape[0] // num_seeds
        return value[position * count : (position + 1) * count].clone()
    if isinstance(value, Mapping):
        return {key: _rows_of_seed(item, position, num_seeds) for key, item in value.items()}
    return value


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
