"""One seed's agent out of a checkpoint, without Ray: the settings, the networks, nothing else.

``MBPO.from_checkpoint`` starts Ray and builds the whole algorithm with its buffers. Here no buffer is read, and only
the networks that are asked for are built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow.fs import LocalFileSystem
from torch import Tensor

from vagram_ray.checkpoint import CheckpointError, CheckpointFolder, DamagedCheckpointError, read_checkpoint
from vagram_ray.checkpoint.files import STORAGE_ERRORS
from vagram_ray.commands import InputError
from vagram_ray.core.actor_critic import FixedActorCritic, SquashedGaussianActor, TwinCritic
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.play.configuration import cannot_be_played, read_configuration
from vagram_ray.play.episodes import Policy


@dataclass(frozen=True)
class SavedAgent:
    """One seed of a saved cohort.

    Attributes:
        folder: The checkpoint.
        settings: Hyperparameters it was trained with.
        environment: What it is evaluated in (``evaluation_config`` included).
        dimensions: D and A of that environment.
        seed: The seed.
        env_steps: Environment steps it was trained for, warm-up included.
        state: The seed's rows of the agent's state.
        lasting: What the wrappers of its evaluation environment have kept, such as a normaliser's statistics, by layer;
            None where they keep nothing.
        origin: Where an exported agent comes from, as its card says; empty for others.
    """

    folder: Path
    settings: MBPOSettings
    environment: EnvironmentSpec
    dimensions: tuple[int, int]
    seed: int
    env_steps: int
    state: Mapping[str, Any]
    lasting: Sequence[dict[str, Any] | None] | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

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
        parts = FixedActorCritic(actor, critic, target_critic, alpha)
        return ValueEstimates.of_settings(parts, self.settings)

    @contextmanager
    def evaluation(self, episodes: int | None = None) -> Iterator[SeedVectorEnv]:
        """The seed's evaluation environment, with the episodes of another seed where one is given."""
        envs = SeedVectorEnv(self.environment, (self.seed,), evaluation=True, episodes=episodes, lasting=self.lasting)
        try:
            yield envs
        finally:
            envs.close()

    def check_model(self) -> None:
        """Refuse to look for a model where there is none.

        Raises:
            InputError: The agent is plain SAC.
        """
        if not self.settings.model_based:
            raise InputError(
                f"{str(self.folder)!r} was trained with model_loss='none': plain SAC learns no model; leave --model "
                "away, or give a checkpoint of another model_loss."
            )

    def dynamics(self) -> DynamicsEnsemble:
        """The learned model.

        Raises:
            InputError: The agent is plain SAC.
        """
        self.check_model()
        streams = RandomStreams((self.seed,), "init")
        dynamics = DynamicsEnsemble(self.settings, 1, *self.dimensions, streams)
        with self._fitting("model"):
            saved = self.state["dynamics"]
            for name, own in dynamics.state_dict().items():
                if isinstance(own, Tensor):
                    _check_shape(saved[name], own)
            dynamics.load_state_dict(saved)
        return dynamics

    def _critic(self, actor: SquashedGaussianActor, name: str) -> TwinCritic:
        critic = TwinCritic(
            1,
            *self.dimensions,
            self.settings.critic_hidden_sizes,
            scale=actor.scale,
            normalize_features=self.settings.normalize_features,
            layer_norm=self.settings.critic_layer_norm,
        )
        saved, own = self.state["sac"][name], critic.network.flat
        _check_shape(saved, own)
        with torch.no_grad():
            own.copy_(saved)
        return critic

    @contextmanager
    def _fitting(self, part: str) -> Iterator[None]:
        """Say in a sentence that saved numbers are not those of the networks that the configuration describes."""
        try:
            yield
        except (RuntimeError, KeyError, AttributeError, ValueError, TypeError) as error:
            raise InputError(
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


def read_agent(folder: str | Path, seed: int | None = None) -> SavedAgent:
    """One seed of the checkpoint at ``folder``, as ``algo.save_to_path`` or a trial wrote it.

    Args:
        folder: The checkpoint's folder.
        seed: One of the cohort's seeds, the first when None.

    Raises:
        InputError: One sentence on what cannot be read or used.
    """
    path = Path(folder)
    config, state = read_content(path)
    seeds, failed, env_steps, networks, kept = _cohort(path, state)
    position = _position(path, seeds, seed)
    if failed[position]:
        raise InputError(
            f"Seed {seeds[position]} of {str(path)!r} has failed (its numbers became NaN), so it has no policy; "
            f"give another --seed of {_listed(seeds)}."
        )
    settings, environment = read_configuration(path, config)
    lasting = kept[position] if any(kept[position] or ()) else None
    try:
        dimensions = environment.dimensions()
        if lasting is not None:
            environment.make(seeds[position], evaluation=True, lasting=lasting).close()  # it fits
    except ValueError as error:
        raise cannot_be_played(path, error) from error
    return SavedAgent(
        folder=path,
        settings=settings,
        environment=environment,
        dimensions=dimensions,
        seed=seeds[position],
        env_steps=env_steps,
        state=_rows_of_seed(networks, position, len(seeds)),
        lasting=lasting,
        origin=origin if isinstance(origin := state.get("origin"), Mapping) else {},
    )


def read_content(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and state of a checkpoint without the buffers, which are not read.

    Raises:
        InputError: It is no checkpoint, or is damaged.
    """
    try:
        config, state = read_checkpoint(CheckpointFolder(LocalFileSystem(), str(path)), with_buffers=False)
    except DamagedCheckpointError as error:
        raise InputError(
            f"{str(error).rstrip('.')}; give another one, or the trial's folder, whose newest whole one is taken."
        ) from error
    except CheckpointError as error:
        raise InputError(str(error)) from error
    except STORAGE_ERRORS as error:
        raise InputError(f"The checkpoint {str(path)!r} cannot be read ({_first_line(error)}).") from error
    return config["settings"], state


def _cohort(
    path: Path, state: Mapping[str, Any]
) -> tuple[tuple[int, ...], tuple[bool, ...], int, dict[str, Any], list[Any]]:
    """Seeds, which of them have failed, environment steps, networks, and what each seed's wrappers have kept."""
    try:
        agent = state["agent"]
        seeds, failed = tuple(agent["seeds"]), tuple(map(bool, agent["failed"]))
        networks = {name: agent[name] for name in ("sac", "dynamics") if name in agent}
        if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
            raise ValueError(f"its seeds are {list(seeds)}")
        if len(failed) != len(seeds) or not all(isinstance(own, Mapping) for own in networks.values()):
            raise ValueError("its parts do not fit together")
        kept = state.get("environments", {}).get("evaluation", {}).get("lasting", [None] * len(seeds))
        if len(kept) != len(seeds) or not all(own is None or isinstance(own, list) for own in kept):
            raise ValueError("what its environments' wrappers have kept is of other seeds")
        return seeds, failed, int(agent["env_steps"]), networks, kept
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"The state in the checkpoint {str(path)!r} makes no sense ({_first_line(error)}); was it written by "
            "another version of vagram_ray?"
        ) from error


def _position(path: Path, seeds: Sequence[int], seed: int | None) -> int:
    if seed is None:
        return 0
    if seed not in seeds:
        raise InputError(f"--seed {seed} is not in {str(path)!r}; its seeds are {_listed(seeds)}.")
    return seeds.index(seed)


def _rows_of_seed(value: Any, position: int, num_seeds: int) -> Any:
    """One seed's part of nested state: each tensor has its rows ordered by seed, one or several for each."""
    if isinstance(value, Tensor) and value.ndim > 0:
        count = value.shape[0] // num_seeds
        return value[position * count : (position + 1) * count].clone()
    if isinstance(value, Mapping):
        return {key: _rows_of_seed(item, position, num_seeds) for key, item in value.items()}
    return value


def _check_shape(saved: Tensor, own: Tensor) -> None:
    if saved.shape != own.shape:  # copying would repeat a smaller one
        raise ValueError(f"{tuple(saved.shape)} numbers where {tuple(own.shape)} are expected")


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
