"""Memory of tensors, counted while a cohort runs: the largest sum of bytes that were alive at the same time."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.agents import never
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import TransitionLayout
from vagram_ray.core.settings import MBPOSettings

NOISE, OFFSET = 0.8, 0.3
"""Deviation of what cannot be learned, and what can be at once; the deviation is that of a new Gaussian model."""
UPDATES = 3
"""Environment steps with their updates: with recorded work the first runs, the second records, the third replays."""


class TensorCounter(TorchDispatchMode):
    """Within, ``peak`` is the largest sum so far; each storage counts once, from its first use until it is freed.

    What an operation takes for itself and gives back before it returns is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def random_rows(num_seeds: int, stored: int, obs_dim: int, action_dim: int) -> Tensor:
    """Transitions (S, N, width) of which seeds learn as long as makes a fit largest: the first seed has nothing to
    learn and stops after an epoch, the second learns a mean and stops next, all others go on learning.
    """
    streams = RandomStreams(range(num_seeds), "memory")
    rows = streams.normal(stored, 2 * obs_dim + action_dim + 2)
    obs, action, reward, next_obs, terminated = TransitionLayout(obs_dim, action_dim).split(rows)
    action.clamp_(-1.0, 1.0)
    terminated.zero_()
    for change in (reward, next_obs):
        change[:2].mul_(NOISE)
        change[1:2].add_(OFFSET)
    reward[2:] = obs[2:, :, 0]
    next_obs[2:] = obs[2:].roll(1, dims=-1)
    next_obs.add_(obs)
    return rows


def run_cohort(
    settings: MBPOSettings,
    num_seeds: int,
    stored: int,
    obs_dim: int,
    action_dim: int,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Let a cohort with ``stored`` transitions fit its model, imagine, update, and copy its buffers to save and read.

    Returns:
        Its metrics.
    """
    agent = MBPOAgent(
        settings, seeds=range(num_seeds), obs_dim=obs_dim, action_dim=action_dim, termination=never, device=device
    )
    rows = random_rows(num_seeds, stored, obs_dim, action_dim)
    agent.replay.load_state_dict({"rows": rows, "size": stored, "num_added": stored, "next": stored})
    del rows
    metrics = EpochMetrics(num_seeds)
    agent._refresh_model(metrics)
    for _ in range(UPDATES):
        agent._improve_policy(metrics)
    agent.replay.arrivals(0, stored)
    if settings.model_based:
        agent.imagined.load_state_dict(agent.imagined.state_dict())
    return metrics.result()
