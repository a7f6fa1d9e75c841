"""What came out of one cell: the final returns of its seeds, why others have none, and how it stands among cells."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vagram_ray.records.intervals import format_interval
from vagram_ray.records.seed_statistics import SeedStatistics, counted_returns, summarize
from vagram_ray.text import format_number, format_seeds


@dataclass(frozen=True, kw_only=True, eq=False)
class CellResult:
    """The final returns of one cell.

    A missing seed is *pending* or *lost*. A lost one counts as the worst of the cell in every number.
    """

    label: str
    axes: Mapping[str, Any]
    """``{"num_distractors": 5, "model_loss": "vagram"}``."""
    seeds: tuple[int, ...]
    """Planned seeds, in order."""
    final_returns: Mapping[int, float]
    """Final return by seed, of the seeds that came to their end."""
    missing: Mapping[int, str]
    """Why a seed has no final return, as what follows "seed 3 ...": ``became NaN in epoch 3``."""
    pending: frozenset[int] = frozenset()
    """The missing seeds that are no failure, and are left out of every number: their trial lacks epochs, as it runs, or
    as its launch was interrupted or ended by a stopper before."""
    epochs: int = 0
    """The last epoch of its trials: that of the sweep, or an earlier one where one was stopped."""
    early: Mapping[int, int] = field(default_factory=dict)
    """The epoch of the value used, by seed, where it lies before the last tenth."""
    stopped: Mapping[int, int] = field(default_factory=dict)
    """The last epoch, by seed, where a scheduler or stopper has ended the seed's trial before the sweep's last."""
    stopped_by: str = ""
    """Which one; empty where none did."""

    @property
    def lost(self) -> tuple[int, ...]:
        """The missing seeds that count as the worst of the cell, at every point at which they have no return."""
        return tuple(seed for seed in sorted(self.missing) if seed not in self.pending)

    @property
    def worst(self) -> tuple[int, ...]:
        """The lost seeds in the final numbers of the cell, or none where no seed has a final return."""
        return self.lost if self.final_returns else ()

    @cached_property
    def scores(self) -> dict[int, float]:
        """The final return that every seed counts with, in order of seeds: lost ones with the worst of the others."""
        return counted_returns(self.final_returns, self.lost)

    @cached_property
    def statistics(self) -> SeedStatistics:
        """Over the scores."""
        return summarize(list(self.scores.values()))

    @property
    def order(self) -> tuple[bool, bool, float]:
        """Its place in a ranking by interquartile mean: at its end are those stopped early, then those without one."""
        iqm = self.statistics.iqm
        return (True, True, 0.0) if math.isnan(iqm) else (False, bool(self.stopped), -iqm)

    # -- in words ----------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """The cell and its interquartile mean with the 95 % interval, ``label: -144 [-177, -120]``."""
        return f"{self.label}: {format_interval(self.statistics.interval)}"

    @property
    def set_options(self) -> str:
        """Its settings as options of the sweep's command: ``--set model_lr=0.001 --set utd_ratio=10``."""
        return " ".join(f"--set {shlex.quote(f'{axis}={_literal(value)}')}" for axis, value in self.axes.items())

    @property
    def missing_in_words(self) -> str:
        """``seeds 2,5 became NaN in epoch 7; seed 6 never reported``."""
        return _by_reason(self.missing)

    @property
    def worst_in_words(self) -> str:
        """``seeds 2,5 count as the worst final return of the cell, -144; seed 7 is left out``."""
        parts = []
        if self.worst:
            verb, worst = "counts" if len(self.worst) == 1 else "count", min(self.final_returns.values())
            parts.append(f"{_name(self.worst)} {verb} as the worst final return of the cell, {format_number(worst)}")
        if pending := sorted(self.pending):
            parts.append(f"{_name(pending)} {'is' if len(pending) == 1 else 'are'} left out")
        return "; ".join(parts)

    @property
    def notes(self) -> str:
        """What there is to know of the seeds that count: ``stopped by AsyncHyperBandScheduler after epoch 3``."""
        epochs = " and ".join(map(str, sorted(set(self.stopped.values()))))
        stopped = f"stopped by {self.stopped_by} after epoch {epochs}" if self.stopped else ""
        early = {seed: f"with the last value, of epoch {epoch}" for seed, epoch in self.early.items()}
        return "; ".join(text for text in (stopped, self.worst_in_words, _by_reason(early)) if text)


def _name(seeds: Sequence[int]) -> str:
    return f"{'seeds' if len(seeds) > 1 else 'seed'} {format_seeds(seeds)}"


def _by_reason(reasons: Mapping[int, str]) -> str:
    by_reason: dict[str, list[int]] = {}
    for seed, reason in reasons.items():
        by_reason.setdefault(reason, []).append(seed)
    return "; ".join(f"{_name(sorted(seeds))} {reason}" for reason, seeds in by_reason.items())


def _literal(value: Any) -> str:
    """A value as ``--set`` reads it: a text as it is, unless it looks like a number."""
    if not isinstance(value, str):
        return repr(value)
    return value if re.fullmatch(r"[A-Za-z][\w.+-]*", value) and value not in ("True", "False", "None") else repr(value)
