"""The numbers of ``value_error``: its table on the screen and its two CSV files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from vagram_ray.studies.changing_values import ErrorCurve
from vagram_ray.studies.output import write_csv
from vagram_ray.text import format_number

TABLE_WIDTH = 110


class SeedMean(NamedTuple):
    """A mean over the seeds and its standard error (NaN for one seed)."""

    mean: float
    standard_error: float

    def __str__(self) -> str:
        return f"{format_number(self.mean)} ± {format_number(self.standard_error)}"


def seed_mean(per_seed: np.ndarray) -> SeedMean:
    """Mean over the seeds (S,) and its standard error."""
    several = len(per_seed) > 1
    return SeedMean(
        float(per_seed.mean()), float(per_seed.std(ddof=1) / math.sqrt(len(per_seed))) if several else math.nan
    )


class Summary(NamedTuple):
    """One fit in three numbers.

    Attributes:
        last_value: Error after the last step.
        all_values: Error at the end of the steps under each value function, mean over the value functions.
        after_change: Error just after a change of the value function, mean over the changes.
    """

    last_value: SeedMean
    all_values: SeedMean
    after_change: SeedMean


def summarize(curve: ErrorCurve) -> Summary:
    """The summary of a fit. ``after_change`` is NaN where the value function never changed."""
    changes = curve.after_change()
    after_change = changes.mean(axis=1) if changes.size else np.full(len(curve.seeds), np.nan)
    return Summary(seed_mean(curve.at_end()[:, -1]), seed_mean(curve.at_end().mean(axis=1)), seed_mean(after_change))


def comparisons(curves: Sequence[ErrorCurve]) -> list[str]:
    """For how many seeds VaGraM's error is the lower one, at the end of each value function and in the mean."""
    sentences = []
    for model in dict.fromkeys(curve.fit.model for curve in curves):
        mean = {curve.fit.loss: curve.at_end().mean(axis=1) for curve in curves if curve.fit.model == model}
        ours = mean.pop("vagram")
        counts = [
            f"below {loss}'s for {int((ours < other).sum())} of {len(ours)} seeds" for loss, other in mean.items()
        ]
        sentences.append(f"{model}: vagram's mean error over every V is {' and '.join(counts)}.")
    return sentences


COLUMNS = ("model", "loss", "model_lr", "seed", "value", "env_steps", "steps_under_value", "model_steps", "error")
"""Columns of ``value_error.csv``. ``value`` counts the value functions from 1."""


def print_table(curves: Sequence[ErrorCurve], variance: float) -> None:
    """Print the summaries, the comparisons, and what to measure them by: the variance of the last value function."""
    table = Table(box=box.SIMPLE_HEAD, title="Held-out (V(s') - V(f))^2 under the current V, mean ± standard error")
    for name in ("model", "loss"):
        table.add_column(name)
    for name in ("step size", "last V", "every V, at its end", "just after V changed"):
        table.add_column(name, justify="right")
    for curve in curves:
        table.add_row(curve.fit.model, curve.fit.loss, f"{curve.fit.lr:g}", *map(str, summarize(curve)))
    console = Console(highlight=False, width=TABLE_WIDTH)
    console.print(table)
    for sentence in comparisons(curves):
        console.print(sentence, soft_wrap=True)
    console.print(f"For scale: the variance of the last V over the held-out states is {format_number(variance)}.\n")
    broken = [f"{curve.fit.model} {curve.fit.loss}" for curve in curves if not np.isfinite(curve.error).all()]
    if broken:
        console.print(f"Not every seed stayed finite with {', '.join(broken)}: a smaller --model-lr may help.\n")


def write_tables(curves: Sequence[ErrorCurve], value_env_steps: Sequence[int], folder: Path) -> None:
    """Write ``value_error.csv``, one row per evaluation and seed, and ``summary.csv``, one row per fit."""
    write_csv(
        folder / "value_error.csv",
        COLUMNS,
        (
            (curve.fit.model, curve.fit.loss, curve.fit.lr, seed, value + 1, value_env_steps[value], step, total, error)
            for curve in curves
            for seed, errors in zip(curve.seeds, curve.error, strict=True)
            for value, step, total, error in zip(curve.value, curve.step, curve.total_steps, errors, strict=True)
        ),
    )
    names = [f"{name}_{part}" for name in Summary._fields for part in ("mean", "se")]
    write_csv(
        folder / "summary.csv",
        ("model", "loss", "model_lr", "num_seeds", *names),
        (
            (curve.fit.model, curve.fit.loss, curve.fit.lr, len(curve.seeds), *np.ravel(summarize(curve)))
            for curve in curves
        ),
    )
