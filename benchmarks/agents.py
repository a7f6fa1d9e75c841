"""Sizes that benchmarks share, and agents with buffers of random transitions, so that any phase can be timed alone.

Nothing here needs Gymnasium or Ray.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.settings import MBPOSettings

OBS_DIM, ACTION_DIM = 11, 3  # Hopper
LAPTOP: dict[str, Any] = {
    "actor_hidden_sizes": (64, 64), "critic_hidden_sizes": (64, 64), "normalize_observations": True,
    "train_batch_size_per_learner": 128, "num_layers": 2, "hidden_size": 64, "ensemble_size": 5, "num_elites": 3,
    "epoch_length": 200, "model_train_freq": 100, "rollouts_per_step": 100, "utd_ratio": 10,
}  # fmt: skip
"""Sizes of the laptop scale (``vagram_ray.rllib.laptop_settings``, which needs Ray)."""
WIDE: dict[str, Any] = {
    "actor_hidden_sizes": (1024, 1024), "critic_hidden_sizes": (1024, 1024), "normalize_features": True,
}  # fmt: skip
"""Actor and critics of the published code."""


def never(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """A termination function that ends nothing; that of ``vagram_ray.envs`` needs Gymnasium."""
    return torch.zeros(next_obs.shape[:-1], dtype=torch.bool, device=next_obs.device)


def make_agent(
    settings: MBPOSettings,
    num_seeds: int,
    env_steps: int,
    obs_dim: int = OBS_DIM,
    device: torch.device | str = "cpu",
) -> MBPOAgent:
    """An agent with ``env_steps`` stored transitions that look like slow, noisy motion."""
    keep_freed_memory()
    agent = MBPOAgent(
        settings, seeds=range(num_seeds), obs_dim=obs_dim, action_dim=ACTION_DIM, termination=never, device=device
    )
    streams = RandomStreams(range(num_seeds), "benchmark")
    obs, action = streams.normal(env_steps, obs_dim), streams.uniform(env_steps, ACTION_DIM, low=-1.0, high=1.0)
    next_obs = obs + 0.1 * streams.normal(env_steps, obs_dim)
    columns = Transitions(obs, action, obs[..., 0], next_obs, torch.zeros(num_seeds, env_steps))
    rows = torch.cat([c if c.dim() == 3 else c.unsqueeze(-1) for c in columns], dim=-1)
    agent.replay.load_state_dict({"size": env_steps, "num_added": env_steps, "next": env_steps, "rows": rows})
    return agent
