"""A ring buffer of numbered transitions, to be written by checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow.fs import FileSystem, LocalFileSystem, SubTreeFileSystem
from torch import Tensor


class NumberedRing:
    """A buffer of S seeds whose transition i is ``(seed, i)``; the oldest are overwritten."""

    def __init__(self, num_seeds: int, capacity: int) -> None:
        self.num_seeds, self.capacity, self.num_added = num_seeds, capacity, 0

    @property
    def size(self) -> int:
        return min(self.num_added, self.capacity)

    def arrivals(self, first: int, last: int) -> Tensor:
        assert self.num_added - self.size <= first <= last <= self.num_added, "these are not stored"
        number = torch.arange(first, last, dtype=torch.float32).expand(self.num_seeds, -1)
        seed = torch.arange(self.num_seeds, dtype=torch.float32)[:, None].expand_as(number)
        return torch.stack([seed, number], dim=2)

    def position(self) -> dict[str, int]:
        return {"size": self.size, "num_added": self.num_added, "next": self.num_added % self.capacity}

    def ring(self) -> list[float]:
        """Numbers of the stored transitions, in the order of their places."""
        held = range(self.num_added - self.size, self.num_added)
        return [float(number) for number in sorted(held, key=lambda number: number % self.capacity)]


def state_with(ring: NumberedRing, **more: Any) -> dict[str, Any]:
    return {"agent": {"replay": ring.position(), "weights": torch.arange(6.0).view(2, 3), **more}}


CONFIG = {"seeds": [0, 1], "settings": {"env": "Pendulum-v1"}}


@pytest.fixture(params=["disk", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[FileSystem, str]]:
    """A run's folder on a disk, and on a file system that is none, whose files are written in place."""
    if request.param == "disk":
        yield LocalFileSystem(), str(tmp_path / "run")
        (tmp_path / "run").mkdir(exist_ok=True)
    else:
        yield SubTreeFileSystem(str(tmp_path), LocalFileSystem()), "run"
