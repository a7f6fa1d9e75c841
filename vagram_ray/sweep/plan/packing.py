"""How the seeds of a cell are divided among trials, and how long trials take together."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

_WORTH_A_PACK = 0.95
"""More and smaller packs have to bring the expected duration below this share to be worth their processes."""


def pack_seeds(
    seeds: Sequence[int],
    num_cells: int,
    slots: int,
    seeds_per_trial: int | None = None,
    *,
    on_gpu: bool = False,
    most: int | None = None,
) -> list[tuple[int, ...]]:
    """How the seeds of every cell are divided among its trials.

    With ``seeds_per_trial`` every pack has that many, the last one the rest. Otherwise a GPU gets all seeds of a
    cell, or as few packs of them as have at most ``most`` seeds each, and on CPUs a cell is divided into the fewest
    packs with which the sweep fills its ``slots`` to the end: a pack takes about as long as it has seeds, so the sweep
    takes (rounds of trials) x (largest pack).
    """
    count = len(seeds)
    if seeds_per_trial is not None:
        return [tuple(seeds[start : start + seeds_per_trial]) for start in range(0, count, seeds_per_trial)]
    packs = 1 if most is None else math.ceil(count / most)
    if not on_gpu:
        durations = {
            number: math.ceil(num_cells * number / slots) * math.ceil(count / number) for number in range(1, count + 1)
        }
        for number, duration in durations.items():
            if duration < _WORTH_A_PACK * durations[packs]:
                packs = number
    bounds = [round(number * count / packs) for number in range(packs + 1)]
    return [tuple(seeds[first:last]) for first, last in zip(bounds[:-1], bounds[1:], strict=True)]


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Time until all jobs are done if each starts, in order, as soon as a slot is free. NaN if any is NaN."""
    if any(math.isnan(duration) for duration in seconds):
        return math.nan
    free = [0.0] * max(1, slots)
    for duration in seconds:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)
