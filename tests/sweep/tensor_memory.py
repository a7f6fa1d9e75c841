"""The largest sum of bytes of tensors that were alive at the same time, counted operation by operation."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.settings import MBPOSettings


class TensorMemory(TorchDispatchMode):
    """Within, ``peak`` is the largest sum so far; each storage counts once, from its first use until it is freed."""

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


def peak_of_a_cohort(settings: MBPOSettings, num_seeds: int, obs_dim: int, action_dim: int, stored: int) -> int:
    """Bytes of an agent that has ``stored`` real transitions, fits its model, imagines and updates."""
    rng = np.random.default_rng(0)
    width = 2 * obs_dim + action_dim + 2
    rows = torch.from_numpy(rng.normal(size=(num_seeds, stored, width)).astype(np.float32))
    with TensorMemory() as memory:
        agent = MBPOAgent(
            settings,
            seeds=range(num_seeds),
            obs_dim=obs_dim,
            action_dim=action_dim,
            termination=lambda obs, action, next_obs: torch.zeros(obs.shape[:-1], dtype=torch.bool),
        )
        agent.replay.load_state_dict({"rows": rows, "size": stored, "num_added": stored, "next": stored})
        metrics = EpochMetrics(num_seeds)
        agent._refresh_model(metrics)
        agent._improve_policy(metrics)
    return memory.peak
