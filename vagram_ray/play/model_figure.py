"""The picture of a ``ModelView``: what the model predicts, what it misses, and what of that matters."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vagram_ray.commands import InputError
from vagram_ray.play.model_table import short_number, short_percent
from vagram_ray.play.model_view import REWARD, DimensionError, ModelView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TASK, DISTRACTOR, REWARD_COLOR, REAL, MUTED = "#1f5fa8", "#c8651b", "#4a7c59", "#1c1c1c", "#6b6b6b"
DISTRACTOR_BACKGROUND = "#fdf4ea"
NUM_WINDOWS = 4
"""Start states that are drawn. Errors are averaged over all of them."""
LARGEST_BAR = 1.4
"""Relative errors above are cut off: their bars have a break mark, and their numbers are written."""
_WIDTH, _PANEL_HEIGHT, _SUMMARY_HEIGHT = 13.0, 1.45, 4.1
"""Of the picture, of a row of small panels with its labels, and of what stands above them, in inches."""
_DPI = 110
_COLORS = 256


def draw_model_view(view: ModelView, title: str) -> Figure:
    """Bars of error and sensitivity by dimension, their growth with the steps ahead, and a panel for each dimension.

    Args:
        view: What to draw.
        title: Whose model it is.

    Raises:
        InputError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--model needs matplotlib, which is not installed: pip install matplotlib.") from error

    count = len(view.names) + 1
    columns = min(count, 4 if count <= 8 else 5 if count <= 20 else 6)
    rows = math.ceil(count / columns)
    heights = (_SUMMARY_HEIGHT, rows * _PANEL_HEIGHT + 0.6)
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, facecolor="white", layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    upper.suptitle(f"The learned model beside the real environment: {title}\n{reading(view)}", fontsize=11)
    places = [["error", "growth", "weighted"], ["sensitivity", "growth", "weighted"]]
    axes = upper.subplot_mosaic(places, width_ratios=(2.4, 1, 1), height_ratios=(3, 2))
    _draw_bars(axes["error"], axes["sensitivity"], view)
    _draw_growth(axes["growth"], axes["weighted"], view)
    windows = np.unique(np.linspace(0, len(view.starts) - 1, NUM_WINDOWS).round().astype(int))
    lower.suptitle(_windows_in_words(view, windows), fontsize=9)
    for d, line in enumerate([*view.summary(), None]):
        _draw_panel(lower.add_subplot(rows, columns, d + 1), view, d, line, windows)
    return figure


def save_model_view(view: ModelView, title: str, path: Path) -> None:
    """Write the picture as a PNG, with a palette: a third of the size."""
    figure = draw_model_view(view, title)
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    picture = Image.open(buffer).convert("RGB")
    picture.quantize(_COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, format="PNG", optimize=True
    )


def reading(view: ModelView) -> str:
    """The picture in one sentence."""
    task, distractors = (_overall(view, view.is_distractor == flag) for flag in (False, True))
    text = f"Error after one step, as a part of the real change: {short_number(task[0])}"
    if view.num_distractors:
        text += f" in the task's dimensions, {short_number(distractors[0])} in the distractors"
        if np.isfinite(task[1]):
            text += f"; share of the value's sensitivity in the distractors: {short_percent(distractors[1])}"
    return f"{text}."


def _overall(view: ModelView, which: np.ndarray) -> tuple[float, float]:
    """Relative error after one step as root mean square over some dimensions, and their share of the sensitivity."""
    errors = view.relative_error[0, which]
    weight = sum(line.sensitivity for line, chosen in zip(view.summary(), which, strict=True) if chosen)
    return float(np.sqrt(np.nanmean(np.square(errors)))) if np.isfinite(errors).any() else math.nan, float(weight)


# -- the bars and the growth of errors -------------------------------------------------------------------------


def _draw_bars(upper: Axes, lower: Axes, view: ModelView) -> None:
    """Up: relative error after one step. Down: share of the value's sensitivity."""
    lines = view.summary()
    x = np.arange(len(lines))
    colors = [DISTRACTOR if line.is_distractor else TASK for line in lines]
    errors = np.nan_to_num([line.one_step for line in lines], nan=0.0, posinf=LARGEST_BAR * 10)
    weights = np.nan_to_num([line.sensitivity for line in lines])
    upper.bar(x, np.minimum(errors, LARGEST_BAR), color=colors, width=0.72)
    lower.bar(x, weights, color=colors, width=0.72, alpha=0.55)
    upper.axhline(1.0, color=REAL, linewidth=0.9, linestyle=(0, (4, 3)))
    upper.set_ylim(0, LARGEST_BAR * 1.06)
    lower.set_ylim(max(0.05, weights.max() * 1.3), 0)
    size = 8.0 if len(lines) <= 20 else 6.5
    if len(lines) <= 30:
        for d, line in enumerate(lines):
            inside = errors[d] > 0.5  # of a tall bar, above a low one
            upper.text(d, min(errors[d], LARGEST_BAR) + (-0.04 if inside else 0.03), short_number(line.one_step),
                       ha="center", va="top" if inside else "bottom", fontsize=size,
                       color="white" if inside else MUTED)  # fmt: skip
            lower.text(d, weights[d] + lower.get_ylim()[0] * 0.03, short_percent(line.sensitivity), ha="center",
                       va="top", fontsize=size, color=MUTED)  # fmt: skip
    upper.set_title(
        "Up: error after one step (dashed: predicting no change). Down: share of the sensitivity",
        fontsize=9.5, loc="left",
    )  # fmt: skip
    for place in np.flatnonzero(errors > LARGEST_BAR):
        _break_mark(upper, int(place))
    for axes, name in ((upper, "relative error"), (lower, "sensitivity")):
        axes.set_xlim(-0.6, len(lines) - 0.4)
        axes.set_ylabel(name, fontsize=8.5)
        axes.tick_params(labelsize=8, length=2)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_xticks([])
    upper.set_yticks([0.5, 1], ["0.5", "1"])
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    lower.locator_params(axis="y", nbins=3)
    lower.axhline(0, color=REAL, linewidth=0.8)
    lower.set_xticks(x, [_label(line, len(lines)) for line in lines])
    rotated = len(lines) > 5
    lower.tick_params(axis="x", length=0, labelsize=size, rotation=45 if rotated else 0)
    for text, color in zip(lower.get_xticklabels(), colors, strict=True):
        text.set_color(color)
        text.set_horizontalalignment("right" if rotated else "center")
        text.set_rotation_mode("anchor")


def _break_mark(axes: Axes, d: int) -> None:
    """Two slanted gaps through a bar that goes on beyond the axis."""
    for height in (1.16, 1.22):
        axes.plot([d - 0.42, d + 0.42], [height - 0.025, height + 0.025], color="white", linewidth=2.2)


def _draw_growth(errors: Axes, weighted: Axes, view: ModelView) -> None:
    """Relative and value-weighted error over the steps ahead, task against distractors."""
    steps = np.arange(1, view.horizon + 1)
    relative, cost = view.relative_error, np.nanmean(view.weighted_error, axis=0)
    groups = [("task", TASK, ~view.is_distractor), ("distractors", DISTRACTOR, view.is_distractor)]
    for name, color, which in groups:
        if which.any():
            for curve in relative[:, which].T:
                errors.plot(steps, curve, color=color, linewidth=0.7, alpha=0.3)
            errors.plot(steps, _rms(relative[:, which]), color=color, linewidth=2.0, label=name)
            weighted.plot(steps, cost[:, which].sum(axis=1), color=color, linewidth=2.0, label=name)
    errors.axhline(1.0, color=REAL, linewidth=0.9, linestyle=(0, (4, 3)))
    errors.set_title("Relative error by steps ahead", fontsize=10, loc="left")
    weighted.set_title("Value-weighted error, summed", fontsize=10, loc="left")
    for axes in (errors, weighted):
        _log_scale(axes)
        axes.set_xlabel("steps ahead, open loop", fontsize=8.5)
        axes.tick_params(labelsize=8, length=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlim(1, max(2, view.horizon))
        if view.num_distractors:
            axes.legend(fontsize=8, frameon=False, handlelength=1.4)


def _log_scale(axes: Axes) -> None:
    """A logarithmic axis over what is positive and finite, within eight decades of the smallest."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines])
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        axes.set_yscale("log")
        axes.set_ylim(values.min() / 1.6, min(values.max(), values.min() * 1e8) * 1.6)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}" if 1e-4 < value < 1e5 else f"{value:.0e}")
        few = np.log10(values.max() / values.min()) < 1.3
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,.10g}" if few and _leads(value, 2, 5) else "")
        axes.tick_params(axis="y", which="minor", labelsize=8)


def _leads(value: float, *digits: int) -> bool:
    """Whether the number's first digit is one of these."""
    return int(f"{value:.0e}"[0]) in digits


def _rms(values: np.ndarray) -> np.ndarray:
    """Root mean square over the last axis, of what is there."""
    there = np.isfinite(values)
    total = np.where(there, np.square(np.where(there, values, 0.0)), 0.0).sum(axis=-1)
    return np.sqrt(np.where(there.any(axis=-1), total / np.maximum(there.sum(axis=-1), 1), np.nan))


# -- the small panels ------------------------------------------------------------------------------------------


def _windows_in_words(view: ModelView, windows: np.ndarray) -> str:
    places = ", ".join(f"step {t} of episode {e + 1}" for e, t in view.starts[windows])
    return (
        "Open loop, dimension by dimension (right of each: error after one step · share of the sensitivity)\n"
        f"Black: real. Color: mean and span of the elite members, {view.horizon} steps ahead without feedback, from "
        f"{places}."
    )


def _draw_panel(axes: Axes, view: ModelView, d: int, line: DimensionError | None, windows: np.ndarray) -> None:
    """Real and predicted course of dimension d, window by window, of the reward where there is no line about it."""
    if line is None:
        name, color, background = REWARD, REWARD_COLOR, "white"
        real, forecast = view.real_reward[windows], view.forecast.rewards[:, windows]
    else:
        name = line.name
        color, background = (DISTRACTOR, DISTRACTOR_BACKGROUND) if line.is_distractor else (TASK, "white")
        real, forecast = view.real[windows][..., d], view.forecast.states[..., d][:, windows]
        numbers = f"{short_number(line.one_step)} · {short_percent(line.sensitivity)}"
        axes.set_title(numbers, fontsize=7.5, loc="right", color=MUTED, pad=3)
    axes.set_title(name, fontsize=9, loc="left", color=color, weight="bold", pad=3)
    axes.set_facecolor(background)
    _draw_courses(axes, real, forecast, color, view.horizon)
    axes.set_xticks([])
    axes.locator_params(axis="y", nbins=3)
    axes.tick_params(labelsize=7.5, length=2, pad=1.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbbbbb")


def _draw_courses(axes: Axes, real: np.ndarray, forecast: np.ndarray, color: str, horizon: int) -> None:
    """Real courses (W, H) in black, one beside the other, under predictions (E, W, H)."""
    low, high = _limits(real)
    gap = max(2, horizon // 12)
    for w in range(len(real)):
        x = w * (horizon + gap) + np.arange(1, horizon + 1)
        alive = np.isfinite(real[w])
        members = np.where(alive, forecast[:, w], np.nan)
        mean, lowest, highest = (
            np.clip(curve, low - 9 * (high - low), high + 9 * (high - low))  # far away is far away
            for curve in (members.mean(axis=0), members.min(axis=0), members.max(axis=0))
        )
        axes.fill_between(x, lowest, highest, color=color, alpha=0.25, linewidth=0)
        axes.plot(x, mean, color=color, linewidth=1.5)
        axes.plot(x, real[w], color=REAL, linewidth=1.0)
        if w:
            axes.axvline(x[0] - 1 - gap / 2, color="#d0d0d0", linewidth=0.7)
    axes.set_xlim(-gap / 2, len(real) * (horizon + gap) - gap / 2)
    axes.set_ylim(low, high)


def _limits(real: np.ndarray) -> tuple[float, float]:
    """The real course with room above and below. What is predicted beyond is cut off."""
    low, high = float(np.nanmin(real)), float(np.nanmax(real))
    room = 0.35 * (high - low) or max(0.5, abs(high) * 0.1)
    return low - room, high + room


def _label(line: DimensionError, count: int) -> str:
    return line.name.replace("distractor ", "d") if line.is_distractor and count > 5 else line.name
