"""The numbers of ``value_error``: what it prints, and its two CSV files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from vagram_ray.studies.changing_values import ErrorCurve
from vagram_ray.text import format_number

if TYPE_CHECKING:
    import pandas as pd

_TITLES = {"last_value": "last V", "all_values": "every V, at its end", "after_change": "just after V changed"}


def summary(curves: Sequence[ErrorCurve]) -> pd.DataFrame:
    """A row per fit: three errors, each as mean over the seeds (``_mean``) and standard error (``_se``, or NaN).

    ``last_value`` is that after the last step, ``all_values`` that at the end of the steps under each value function,
    ``after_change`` that just after a change of the value function, NaN where it never changed.
    """
    import pandas as pd

    rows = []
    for curve in curves:
        fit, ends, changes = curve.fit, curve.at_end(), curve.after_change()
        errors = {
            "last_value": ends[:, -1],
            "all_values": ends.mean(axis=1),
            "after_change": changes.mean(axis=1) if changes.size else np.full(len(ends), math.nan),
        }
        numbers: dict[str, float] = {}
        for name, own in errors.items():
            numbers[f"{name}_mean"] = float(own.mean())
            numbers[f"{name}_se"] = float(own.std(ddof=1) / math.sqrt(len(own))) if len(own) > 1 else math.nan
        described = {"model": fit.model, "loss": fit.loss, "model_lr": fit.lr, "num_seeds": len(curve.seeds)}
        rows.append(described | numbers)
    return pd.DataFrame(rows)


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


def print_table(curves: Sequence[ErrorCurve], variance: float) -> None:
    """Print the summary, the comparisons, and what to measure them by: the variance of the last value function."""
    table = summary(curves)
    shown = table[["model", "loss", "model_lr"]].assign(
        **{
            title: table[f"{name}_mean"].map(format_number) + " ± " + table[f"{name}_se"].map(format_number)
            for name, title in _TITLES.items()
        }
    )
    click.echo("\nHeld-out (V(s') - V(f))^2 under the current V, mean ± standard error")
    click.echo(shown.to_string(index=False) + "\n")
    for sentence in comparisons(curves):
        click.echo(sentence)
    click.echo(f"For scale: the variance of the last V over the held-out states is {format_number(variance)}.\n")
    broken = [f"{curve.fit.model} {curve.fit.loss}" for curve in curves if not np.isfinite(curve.error).all()]
    if broken:
        click.echo(f"Not every seed stayed finite with {', '.join(broken)}: a smaller --model-lr may help.\n")


def write_tables(curves: Sequence[ErrorCurve], value_env_steps: Sequence[int], folder: Path) -> None:
    """Write ``value_error.csv``, one row per evaluation and seed, and ``summary.csv``, one row per fit.

    ``value`` counts the value functions from 1. What is no number is ``nan``.
    """
    import pandas as pd

    rows = (
        (curve.fit.model, curve.fit.loss, curve.fit.lr, seed, value + 1, value_env_steps[value], step, total, error)
        for curve in curves
        for seed, errors in zip(curve.seeds, curve.error, strict=True)
        for value, step, total, error in zip(curve.value, curve.step, curve.total_steps, errors, strict=True)
    )
    columns = ["model", "loss", "model_lr", "seed", "value", "env_steps", "steps_under_value", "model_steps", "error"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "value_error.csv", index=False, na_rep="nan")
    summary(curves).to_csv(folder / "summary.csv", index=False, na_rep="nan")
