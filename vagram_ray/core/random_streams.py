"""Explicit random streams: one generator per seed and purpose, never global state.

A seed's numbers depend on that seed and the purpose alone, so adding a seed to a cohort, or drawing more
often for one purpose, changes nothing for the others.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vagram_ray.core.seed_selection import copy_of_seeds


class RandomStreams:
    """Independent generators for the seeds of a cohort, for one purpose.

    Args:
        seeds: The cohort's seeds, non-negative.
        purpose: What the numbers are for. Different purposes give independent streams.
        device: Where the drawn tensors live.
        dtype: Floating-point type of the drawn tensors.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        purpose: str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.generators = [_generator(seed, purpose, self.device) for seed in seeds]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (S, *shape)."""
        drawn = torch.empty((len(self.generators), *shape), device=self.device, dtype=self.dtype)
        for row, generator in zip(drawn, self.generators, strict=True):
            row.normal_(generator=generator)
        return drawn

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers in [low, high), shape (S, *shape)."""
        drawn = torch.empty((len(self.generators), *shape), device=self.device, dtype=self.dtype)
        for row, generator in zip(drawn, self.generators, strict=True):
            row.uniform_(low, high, generator=generator)
        return drawn

    def integers(self, high: int | Tensor, *shape: int) -> Tensor:
        """Uniform integers in [0, high), shape (S, *shape). A tensor ``high`` (S,) gives each seed its own bound."""
        if isinstance(high, int):
            drawn = torch.empty((len(self.generators), *shape), device=self.device, dtype=torch.int64)
            for row, generator in zip(drawn, self.generators, strict=True):
                row.random_(0, high, generator=generator)
            return drawn
        # A bound that lives on the device is never read by the host: scale uniforms in double precision,
        # which is exact enough for any buffer (bounds far below 2**53).
        bound = high.view(-1, *[1] * len(shape))
        unit = torch.empty((len(self.generators), *shape), device=self.device, dtype=torch.float64)
        for row, generator in zip(unit, self.generators, strict=True):
            row.uniform_(generator=generator)
        return torch.minimum((unit * bound).long(), (bound - 1).clamp_min(0))

    def permutation(self, length: int) -> Tensor:
        """A random order of ``range(length)`` for each seed, shape (S, length)."""
        orders = [torch.randperm(length, generator=generator, device=self.device) for generator in self.generators]
        return torch.stack(orders)

    def select_seeds(self, index: Tensor) -> RandomStreams:
        """The same generators (not copies) of the seeds at ``index`` (M,)."""
        return copy_of_seeds(self, index, ("generators",))

    def fork(self, purpose: str) -> RandomStreams:
        """New streams that depend on where these stand and on the purpose. These do not move."""
        forked = RandomStreams((), "", self.device, self.dtype)
        forked.generators = [_generator(_state_digest(own), purpose, self.device) for own in self.generators]
        return forked

    def state_dict(self) -> dict[str, Any]:
        """States of all generators, one byte tensor each."""
        return {"generators": [generator.get_state() for generator in self.generators]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the saved generators stood."""
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved)


def _state_digest(generator: torch.Generator) -> int:
    digest = hashlib.blake2b(generator.get_state().numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _generator(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode())])
    generator = torch.Generator(device=device)
    generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
    return generator
