"""Transition buffers that live on the training device, with a leading seed axis.

A transition is one row of floats, ``obs | action | reward | next_obs | terminated``, so that sampling a batch
is a single gather. ``terminated`` is 1 where the episode ended in a terminal state. Truncation is no
property of a transition and is not stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vagram_ray.core.random_streams import RandomStreams


class Transitions(NamedTuple):
    """Columns of a table of transitions, each a view with the same leading shape (...)."""

    obs: Tensor  # (..., D)
    action: Tensor  # (..., A), in [-1, 1]
    reward: Tensor  # (...)
    next_obs: Tensor  # (..., D)
    terminated: Tensor  # (...), 0 or 1


@dataclass(frozen=True)
class TransitionLayout:
    """Where the columns of a transition lie in its row."""

    obs_dim: int
    action_dim: int

    @property
    def width(self) -> int:
        """Floats per transition."""
        return 2 * self.obs_dim + self.action_dim + 2

    def split(self, rows: Tensor) -> Transitions:
        """Views of the columns of ``rows`` (..., width)."""
        sizes = [self.obs_dim, self.action_dim, 1, self.obs_dim, 1]
        obs, action, reward, next_obs, terminated = rows.split(sizes, dim=-1)
        return Transitions(obs, action, reward.squeeze(-1), next_obs, terminated.squeeze(-1))


def gather_rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of ``table`` (S, N, F) at ``index`` (S, ...): (S, ..., F)."""
    num_seeds, length, width = table.shape
    offset = torch.arange(num_seeds, device=index.device).view(-1, *[1] * (index.dim() - 1)) * length
    return table.reshape(num_seeds * length, width)[index + offset]


class ReplayBuffer:
    """Real transitions: all seeds step together, so one size and one write position serve them all.

    Memory grows by doubling up to ``capacity`` transitions per seed. Then the oldest are overwritten.
    """

    def __init__(
        self, num_seeds: int, capacity: int, layout: TransitionLayout, device: torch.device | str = "cpu"
    ) -> None:
        self.layout = layout
        self.capacity = capacity
        self.size = 0
        self.num_added = 0
        self._next = 0
        self._rows = torch.zeros(num_seeds, min(capacity, 1024), layout.width, device=device)

    def __len__(self) -> int:
        return self.size

    @property
    def rows(self) -> Tensor:
        """All stored transitions (S, size, width), a view, in order of arrival until the capacity is reached."""
        return self._rows[:, : self.size]

    def add(
        self, obs: np.ndarray, action: np.ndarray, reward: np.ndarray, next_obs: np.ndarray, terminated: np.ndarray
    ) -> None:
        """Append one transition per seed: (S, D), (S, A), (S,), (S, D), (S,)."""
        row = np.concatenate([obs, action, reward[:, None], next_obs, terminated[:, None]], axis=1)
        if self._next == self._rows.shape[1]:
            self._grow()
        self._rows[:, self._next] = torch.from_numpy(row.astype(np.float32, copy=False)).to(self._rows.device)
        self.size = max(self.size, self._next + 1)
        self._next = (self._next + 1) % self.capacity
        self.num_added += 1

    def arrivals(self, first: int, last: int) -> Tensor:
        """Transitions number ``first`` to ``last - 1`` since the start of the run, (S, last - first, width), a copy.

        Stored are the newest ``size`` of the ``num_added`` that have arrived.
        """
        position = (self._next - self.num_added + torch.arange(first, last, device=self._rows.device)) % self.size
        return self._rows.index_select(1, position)

    def sample_index(self, streams: RandomStreams, *shape: int) -> Tensor:
        """Uniform positions (S, *shape) of stored transitions."""
        return streams.integers(self.size, *shape)

    def gather(self, index: Tensor) -> Tensor:
        """Transitions (S, ..., width) at ``index`` (S, ...)."""
        return gather_rows(self._rows, index)

    def _grow(self) -> None:
        length = min(2 * self._rows.shape[1], self.capacity)
        grown = self._rows.new_zeros(self._rows.shape[0], length, self.layout.width)
        grown[:, : self._rows.shape[1]] = self._rows
        self._rows = grown

    def state_dict(self, with_rows: bool = True) -> dict[str, Any]:
        """Counts, the write position, and a copy of the stored transitions unless they are kept elsewhere."""
        state: dict[str, Any] = {"size": self.size, "num_added": self.num_added, "next": self._next}
        return state | {"rows": self.rows.clone()} if with_rows else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over saved transitions.

        Raises:
            ValueError: If they are more than the capacity.
        """
        rows = state["rows"] if state["size"] else self._rows[:, :0]
        if rows.shape[1] > self.capacity:
            raise ValueError(
                f"The saved buffer holds {rows.shape[1]} transitions per seed, but replay_capacity={self.capacity}; "
                "restore with a capacity of at least that."
            )
        self.size, self.num_added, self._next = rows.shape[1], int(state["num_added"]), int(state["next"])
        if self._next != self.size < self.capacity:  # a full ring of a smaller capacity: the oldest first
            rows, self._next = rows.roll(-self._next, dims=1), self.size
        self._next %= self.capacity  # a buffer that was not full before, and is
        length = self._rows.shape[1]
        while length < self.size or (length == self._next and length < self.capacity):
            length = min(2 * length, self.capacity)
        self._rows = self._rows.new_zeros(self._rows.shape[0], length, self.layout.width)
        self._rows[:, : self.size] = rows.to(self._rows.device)


class ImaginedBuffer:
    """Imagined transitions: rollouts end at different lengths, so each seed has its own size and position.

    A ring of ``capacity`` transitions per seed. Nothing here reads a device value on the host.
    """

    def __init__(
        self, num_seeds: int, capacity: int, layout: TransitionLayout, device: torch.device | str = "cpu"
    ) -> None:
        self.layout = layout
        self.capacity = capacity
        self.sizes = torch.zeros(num_seeds, device=device, dtype=torch.int64)
        self._next = torch.zeros(num_seeds, device=device, dtype=torch.int64)
        # One row more than the capacity: transitions that are not valid are written there.
        self._rows = torch.zeros(num_seeds, capacity + 1, layout.width, device=device)

    def add(self, rows: Tensor, valid: Tensor) -> None:
        """Append those of ``rows`` (S, n, width) where ``valid`` (S, n) is true, at most ``capacity`` per seed."""
        count = valid.sum(dim=1)
        position = (self._next[:, None] + valid.cumsum(dim=1) - 1) % self.capacity
        position = torch.where(valid, position, self.capacity)
        self._rows.scatter_(1, position.unsqueeze(-1).expand_as(rows), rows)
        self._next = (self._next + count) % self.capacity
        self.sizes = (self.sizes + count).clamp_max(self.capacity)

    def sample_index(self, streams: RandomStreams, *shape: int) -> Tensor:
        """Uniform positions (S, *shape) of stored transitions."""
        return streams.integers(self.sizes, *shape)

    def gather(self, index: Tensor) -> Tensor:
        """Transitions (S, ..., width) at ``index`` (S, ...)."""
        return gather_rows(self._rows, index)

    def resize(self, capacity: int) -> None:
        """Change the capacity. The newest transitions of each seed stay."""
        if capacity == self.capacity:
            return
        kept = self.sizes.clamp_max(capacity)
        order = torch.arange(capacity + 1, device=self.sizes.device)
        index = (self._next[:, None] - kept[:, None] + order) % self.capacity
        self._rows = gather_rows(self._rows, index)
        self.sizes, self._next = kept, kept % capacity
        self.capacity = capacity

    def state_dict(self) -> dict[str, Any]:
        """The ring with its capacity, sizes and write positions."""
        return {"rows": self._rows, "capacity": self.capacity, "sizes": self.sizes, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved ring, its capacity included."""
        device = self._rows.device
        self.capacity = int(state["capacity"])
        self._rows = state["rows"].to(device).clone()
        self.sizes = state["sizes"].to(device).clone()
        self._next = state["next"].to(device).clone()
