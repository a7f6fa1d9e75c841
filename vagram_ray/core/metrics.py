"""Per-seed metrics of one epoch, gathered without reading a device value before the epoch ends."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


class MetricSums:
    """Sums of device tensors (S,) by name, and how many each is made of, (S,) where seeds differ."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int | Tensor] = defaultdict(int)

    def add(self, metrics: Mapping[str, Tensor], count: int | Mapping[str, int | Tensor] = 1) -> None:
        """Add values, or sums of ``count`` values."""
        for name, value in metrics.items():
            if name in self.sums:
                self.sums[name].add_(value)
            else:
                self.sums[name] = value.clone()
            self.counts[name] += count if isinstance(count, int) else count[name]

    def add_measured(self, metrics: Mapping[str, Tensor]) -> None:
        """Add values (S,) of which those that are NaN were not measured."""
        measured = {name: ~value.isnan() for name, value in metrics.items()}
        self.add({name: value.where(measured[name], 0.0) for name, value in metrics.items()}, measured)


class EpochMetrics:
    """Means of device tensors, episode statistics and times of one epoch, each per seed.

    Args:
        num_seeds: S.
        clock: Gives the seconds that blocks are timed with, wall time by default.
    """

    def __init__(self, num_seeds: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.num_seeds, self._clock = num_seeds, clock
        self._sums: dict[str, MetricSums] = defaultdict(MetricSums)
        self._seconds: dict[str, float] = defaultdict(float)
        self._values: dict[str, np.ndarray] = {}
        self._running_return = np.zeros(num_seeds)
        self._running_length = np.zeros(num_seeds, dtype=np.int64)
        self._returns: list[list[float]] = [[] for _ in range(num_seeds)]
        self._lengths: list[list[int]] = [[] for _ in range(num_seeds)]

    def add(self, section: str, metrics: Mapping[str, Tensor] | MetricSums) -> None:
        """Count device tensors (S,), NaN where not measured, or sums of them into the means of ``section/name``."""
        if isinstance(metrics, MetricSums):
            self._sums[section].add(metrics.sums, metrics.counts)
        else:
            self._sums[section].add_measured(metrics)

    def set(self, key: str, value: float | np.ndarray) -> None:
        """Report a value known on the host, one for all seeds or (S,)."""
        self._values[key] = np.broadcast_to(np.asarray(value, dtype=np.float64), (self.num_seeds,)).copy()

    def add_step(self, reward: np.ndarray, done: np.ndarray) -> None:
        """Count one environment step into the running episodes. ``done`` (S,) closes them."""
        self._running_return += reward
        self._running_length += 1
        for seed in np.flatnonzero(done):
            self._returns[seed].append(float(self._running_return[seed]))
            self._lengths[seed].append(int(self._running_length[seed]))
            self._running_return[seed], self._running_length[seed] = 0.0, 0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time of the block to ``time/<name>_s`` (on a GPU: of issuing the work)."""
        start = self._clock()
        try:
            yield
        finally:
            self._seconds[name] += self._clock() - start

    def result(self) -> dict[str, np.ndarray]:
        """All metrics as float64 arrays (S,), or NaN where a seed finished no episode."""
        result = dict(self._values)
        for section, metrics in self._sums.items():
            for name, total in metrics.sums.items():
                result[f"{section}/{name}"] = (total / metrics.counts[name]).to("cpu", torch.float64).numpy()
        result["train/episode_return"] = np.array([np.mean(r) if r else np.nan for r in self._returns])
        result["train/episode_length"] = np.array([np.mean(n) if n else np.nan for n in self._lengths])
        result["train/num_episodes"] = np.array([float(len(r)) for r in self._returns])
        for name, seconds in self._seconds.items():
            result[f"time/{name}_s"] = np.full(self.num_seeds, seconds)
        return result
