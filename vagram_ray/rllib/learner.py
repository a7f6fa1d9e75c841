"""The learner: owner of the agent, whose actor is the RLlib module's."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner

from vagram_ray.core.environments import SeedEnvironments
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.rllib.rl_module import MBPORLModule
from vagram_ray.rllib.values import MBPOValues

AGENT = "mbpo_agent"
"""Name of the agent's part of the state: networks, optimizers, buffers, random streams, counters."""


class MBPOLearner(TorchLearner):
    """Trains the cohort of MBPO agents on the learner's device.

    RLlib's own machinery of batches, losses and optimizers is not used: one epoch of the method is thousands
    of environment steps and updates in a fixed order, which ``MBPOAgent.train_epoch`` runs.
    """

    config: MBPOValues
    agent: MBPOAgent

    def build(self) -> None:
        """Build module and agent. The agent draws the module's first weights and trains them in place."""
        if self._is_built:
            return
        super().build()
        settings = self.config.to_settings()
        self.agent = MBPOAgent(
            settings,
            seeds=self.config.seeds,
            obs_dim=self.rl_module.obs_dim,
            action_dim=self.rl_module.action_dim,
            termination=self.config.environment_spec().termination() if settings.needs_termination_function else None,
            device=self.device,
            actor=self.rl_module.actor,
            num_real_dims=self.rl_module.obs_dim - self.config.num_distractors,
        )

    @property
    def rl_module(self) -> MBPORLModule:
        """The module that holds the cohort's policies."""
        return cast(MBPORLModule, self.module[DEFAULT_MODULE_ID])

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register nothing: the agent owns its optimizers, and their state is part of the agent's."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> torch.Tensor:
        """There is no single loss, and no batch from outside.

        Raises:
            NotImplementedError: Always. ``train_epoch`` trains, the losses are in ``vagram_ray.core``.
        """
        raise NotImplementedError("MBPO collects its own data and has several losses; call train_epoch(envs).")

    def train_epoch(self, envs: SeedEnvironments) -> dict[str, np.ndarray]:
        """Train for one epoch (instead of RLlib's ``update``, which learns from data that others collect).

        Args:
            envs: One environment per seed.

        Returns:
            The epoch's metrics by name, each (S,).
        """
        metrics = self.agent.train_epoch(envs)
        self._weights_seq_no += 1
        return metrics

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's learner state, and a copy of the agent's unless other components alone are asked for."""
        state: dict[str, Any] = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(AGENT, components, not_components):
            state[AGENT] = _on_cpu(self.agent.state_dict())
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        super().set_state(state)
        # After the module: RLlib ignores module weights that are older than the current ones, the agent does not.
        if AGENT in state:
            self.agent.load_state_dict(state[AGENT])


def _on_cpu(value: Any) -> Any:
    """Copies of tensors in the CPU's memory, in the same nested containers."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_cpu(item) for item in value]
    return value
