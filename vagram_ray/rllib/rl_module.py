"""The policy as an RLlib module: what ``algo.get_module()`` returns and what a module checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import torch
from pyarrow.fs import FileSystem
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchDeterministic, TorchSquashedGaussian
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor

from vagram_ray.checkpoint import read_checkpoint
from vagram_ray.core.actor_critic import SquashedGaussianActor
from vagram_ray.rllib.rllib_files import checkpoint_around

_ACTOR = "actor"
"""Of the module's attribute, and of the actor in a checkpoint."""


class SquashedGaussian(TorchSquashedGaussian):
    """RLlib's squashed Gaussian, whose deterministic version is squashed as well (RLlib's returns the bare mean)."""

    def to_deterministic(self) -> TorchDeterministic:
        """The action tanh(mean), with probability one."""
        return TorchDeterministic(loc=self._squash(self.loc))


class MBPORLModule(TorchRLModule):
    """The squashed-Gaussian policies of a cohort.

    Observations are ``(B, D)`` when the module holds one seed and ``(S, B, D)`` when it holds several. The
    outputs have the same leading axes. Actions lie in [-1, 1], RLlib's normalised scale: wrap a bare
    environment with ``gymnasium.wrappers.RescaleAction(env, -1.0, 1.0)`` to step it with them.

    ``forward_inference`` returns the deterministic action under ``Columns.ACTIONS`` and the distribution's
    inputs (mean and log standard deviation before squashing) under ``Columns.ACTION_DIST_INPUTS``.
    ``forward_exploration`` and ``forward_train`` return the latter alone, for
    ``module.get_exploration_action_dist_cls().from_logits(...)``.

    ``model_config`` keys: ``seeds``, ``actor_hidden_sizes``, ``normalize_features``,
    ``normalize_observations`` (``MBPOConfig`` fills them). The weights of a module that was neither trained
    nor restored are zero. The learner draws them, each seed from its own random stream.
    """

    actor: SquashedGaussianActor

    def setup(self) -> None:
        """Build the actor (called by RLlib's constructor)."""
        config = cast(dict[str, Any], self.model_config)
        self.seeds: tuple[int, ...] = tuple(config["seeds"])
        self.action_dist_cls = SquashedGaussian
        self.actor = SquashedGaussianActor(
            len(self.seeds),
            self.obs_dim,
            self.action_dim,
            config["actor_hidden_sizes"],
            normalize_features=config["normalize_features"],
            normalize_observations=config["normalize_observations"],
        )

    @property
    def obs_dim(self) -> int:
        """Dimensions of one observation."""
        return cast(gym.spaces.Box, self.observation_space).shape[0]

    @property
    def action_dim(self) -> int:
        """Dimensions of one action."""
        return cast(gym.spaces.Box, self.action_space).shape[0]

    def select_seed(self, seed_index: int) -> MBPORLModule:
        """An ordinary one-seed module with a copy of one seed's policy.

        Args:
            seed_index: Position of the seed in the cohort (``self.seeds[seed_index]`` is the seed).

        Raises:
            IndexError: If the cohort has no such position.
        """
        if not 0 <= seed_index < len(self.seeds):
            raise IndexError(f"seed_index={seed_index}: this module holds {len(self.seeds)} seeds, counted from 0.")
        module = type(self)(
            observation_space=self.observation_space,
            action_space=self.action_space,
            inference_only=True,
            model_config={**cast(dict[str, Any], self.model_config), "seeds": (self.seeds[seed_index],)},
        )
        module.actor.load_state_dict(self.actor.select_seeds(torch.tensor([seed_index])).state_dict())
        return module

    def restore_from_path(
        self, path: str | Path, *, component: str | None = None, filesystem: FileSystem | None = None, **kwargs: Any
    ) -> None:
        """Take over the policies at ``path``: a module's own checkpoint, or its usual place in one of ``MBPO``.

        Raises:
            CheckpointError: The checkpoint around ``path`` is damaged.
            ValueError: Its networks have another shape.
        """
        around = checkpoint_around(path, filesystem) if component is None else None
        if around is None:
            super().restore_from_path(path, component=component, filesystem=filesystem, **kwargs)
            return
        _, state = read_checkpoint(around, with_buffers=False)
        self.take_over({f"{_ACTOR}.{name}": value for name, value in state["agent"]["sac"][_ACTOR].items()})

    @torch.no_grad()
    def take_over(self, weights: Mapping[str, Any]) -> None:
        """Copy weights by name into the module's own, in place.

        Raises:
            ValueError: A name is not there, or a shape is another. Nothing has been changed.
        """
        own = self.state_dict()
        shapes, given = ({name: tuple(value.shape) for name, value in part.items()} for part in (own, weights))
        if shapes != given:
            other = next(name for name in {**shapes, **given} if shapes.get(name) != given.get(name))
            config = cast(dict[str, Any], self.model_config)
            raise ValueError(
                f"The weights do not fit: {other!r} has shape {given.get(other, 'none')} there and "
                f"{shapes.get(other, 'none')} here, for {len(self.seeds)} seed(s) with actor_hidden_sizes="
                f"{tuple(config['actor_hidden_sizes'])!r}."
            )
        for name, value in weights.items():
            own[name].copy_(torch.as_tensor(value))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        obs, added_axis = self._with_seed_axis(batch[Columns.OBS])
        inputs = torch.cat(self.actor.distribution(obs), dim=-1)
        return {Columns.ACTION_DIST_INPUTS: inputs.squeeze(0) if added_axis else inputs}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = super()._forward_inference(batch, **kwargs)
        mean, _ = outputs[Columns.ACTION_DIST_INPUTS].chunk(2, dim=-1)
        return {**outputs, Columns.ACTIONS: torch.tanh(mean)}

    def _with_seed_axis(self, obs: Any) -> tuple[Tensor, bool]:
        weights = self.actor.flat
        obs = torch.as_tensor(obs).to(device=weights.device, dtype=weights.dtype)
        if obs.ndim == 2 and len(self.seeds) == 1:
            return obs.unsqueeze(0), True
        if obs.ndim == 3 and obs.shape[0] == len(self.seeds):
            return obs, False
        expected = "(B, D)" if len(self.seeds) == 1 else f"({len(self.seeds)}, B, D)"
        raise ValueError(
            f"obs has shape {tuple(obs.shape)}, and this module holds {len(self.seeds)} seed(s): "
            f"pass {expected}, or take one seed's module with select_seed(seed_index)."
        )
