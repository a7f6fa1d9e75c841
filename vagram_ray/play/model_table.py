"""A ``ModelView`` as a short table for the terminal."""

from __future__ import annotations

import math

from rich import box
from rich.table import Table

from vagram_ray.play.model_view import ModelView


def model_table(view: ModelView) -> Table:
    """Dimension, relative errors, sensitivity, and shares of the value-weighted error."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.title, table.title_justify, table.title_style = "The model beside the real environment", "left", "bold"
    table.caption, table.caption_justify, table.caption_style = (
        f"Error: relative to predicting no change, {len(view.starts)} start states, open loop. Sensitivity: share of "
        "the value's sensitivity, weight times variance. Weighted: share of the value-weighted squared error.",
        "left",
        "dim",
    )
    table.add_column("dimension", no_wrap=True)
    horizon = f"{view.horizon} steps"
    for header in ("error, 1 step", f"error, {horizon}", "sensitivity", "weighted, 1 step", f"weighted, {horizon}"):
        table.add_column(header, justify="right")
    for line in view.summary():
        numbers = (short_number(line.one_step), short_number(line.horizon), short_percent(line.sensitivity),
                   short_percent(line.weighted_one_step), short_percent(line.weighted_horizon))  # fmt: skip
        table.add_row(line.name, *numbers, style="yellow" if line.is_distractor else "")
    return table


def short_number(value: float) -> str:
    """``0.09``, ``34``, ``-`` for what is not defined."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "∞"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def short_percent(share: float) -> str:
    """``28%``, ``<1%``."""
    if not math.isfinite(share):
        return "-"
    return f"{share:.0%}" if share >= 0.0095 or share == 0 else "<1%"
