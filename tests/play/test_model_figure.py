"""The picture is drawn for few and many dimensions, and for predictions that fly away."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from rich.console import Console

from vagram_ray.commands import InputError
from vagram_ray.play.dimensions import dimension_names
from vagram_ray.play.model_figure import LARGEST_BAR, draw_model_view, reading, save_model_view
from vagram_ray.play.model_table import model_table, short_number, short_percent
from vagram_ray.play.model_view import Forecast, ModelView


def random_view(env_id: str, obs_dim: int, num_distractors: int, horizon: int = 8) -> ModelView:
    generator = np.random.default_rng(0)
    num_starts, num_elites = 6, 3
    shape = (num_starts, horizon, obs_dim)
    real = generator.standard_normal(shape).cumsum(axis=1)
    real[-1, horizon // 2 :] = np.nan
    rewards = generator.standard_normal(shape[:2])
    rewards[-1, horizon // 2 :] = np.nan
    return ModelView(
        names=dimension_names(env_id, obs_dim, num_distractors),
        num_distractors=num_distractors,
        starts=np.array([[0, 5 * m] for m in range(num_starts)]),
        first=np.zeros((num_starts, obs_dim)),
        real=real,
        real_reward=rewards,
        forecast=Forecast(
            np.nan_to_num(real) + 0.1 * generator.standard_normal((num_elites, *shape)),
            np.nan_to_num(rewards) + 0.1 * generator.standard_normal((num_elites, *shape[:2])),
        ),
        weights=np.where(np.isfinite(real), generator.random(obs_dim), np.nan),
        deviation=np.ones(obs_dim),
    )


def texts_outside_or_overlapping(figure) -> list[str]:
    """Texts that leave the picture, or titles of one panel that run into each other."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = canvas.get_width_height()
    problems = []
    for axes in figure.axes:
        left, right = axes._left_title.get_window_extent(renderer), axes._right_title.get_window_extent(renderer)
        if axes.get_title(loc="right") and left.x1 > right.x0:
            problems.append(f"overlap: {axes.get_title(loc='left')}")
        for text in [axes._left_title, axes._right_title, *axes.get_xticklabels()]:
            box = text.get_window_extent(renderer)
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
            low, high = axes.get_xlim() if text in axes.get_xticklabels() else (0, 1)
            if text.get_text() and not inside and low <= text.get_position()[0] <= high:
                problems.append(f"outside: {text.get_text()}")
    for text in figure.texts:
        if text.get_window_extent(renderer).x1 > width:
            problems.append(f"outside: {text.get_text()}")
    return problems


@pytest.mark.parametrize(
    ("env_id", "obs_dim", "num_distractors"),
    [("Pendulum-v1", 3, 0), ("Pendulum-v1", 13, 10), ("Hopper-v4", 26, 15), ("Walker2d-v4", 27, 10)],
)
def test_every_dimension_has_a_panel_and_its_text_fits(env_id: str, obs_dim: int, num_distractors: int) -> None:
    view = random_view(env_id, obs_dim, num_distractors)
    figure = draw_model_view(view, f"vagram on {env_id}, {num_distractors} distractors, seed 0, 300,000 steps")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[4:] == [*view.names, "reward"]
    assert texts_outside_or_overlapping(figure) == []
    backgrounds = [axes.get_facecolor()[:3] for axes in figure.axes[4:]]
    marked = [color != (1.0, 1.0, 1.0) for color in backgrounds]
    assert marked == [*view.is_distractor.tolist(), False]


def test_predictions_that_fly_away_are_drawn_as_far_as_the_panel_goes(tmp_path: Path) -> None:
    view = random_view("Pendulum-v1", 5, 2)
    states = view.forecast.states * np.array([1.0, 1e300, np.inf, 1e30, np.nan])
    wild = dataclasses.replace(view, forecast=Forecast(states, view.forecast.rewards))
    with np.errstate(all="ignore"):
        save_model_view(wild, "wild", tmp_path / "wild.png")
        Console(file=io.StringIO()).print(model_table(wild))
    assert Image.open(tmp_path / "wild.png").size[0] > 1000


def test_a_critic_that_is_flat_has_no_shares(tmp_path: Path) -> None:
    view = random_view("Pendulum-v1", 5, 2)
    flat = dataclasses.replace(view, weights=view.weights * 0)
    save_model_view(flat, "flat", tmp_path / "flat.png")
    assert "sensitivity" not in reading(flat)
    assert "sensitivity in the distractors: " in reading(view)


def test_the_picture_is_small_and_keeps_its_colors(tmp_path: Path) -> None:
    save_model_view(random_view("Hopper-v4", 26, 15), "hopper", tmp_path / "hopper.png")
    assert (tmp_path / "hopper.png").stat().st_size < 250_000
    pixels = np.asarray(Image.open(tmp_path / "hopper.png").convert("RGB")).reshape(-1, 3).astype(int)
    for color in ("#1f5fa8", "#c8651b", "#4a7c59"):  # task, distractors, reward
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(pixels - wanted).max(axis=1).min() < 25


def test_without_matplotlib_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="--model needs matplotlib, which is not installed: pip install matplotlib"):
        draw_model_view(random_view("Pendulum-v1", 3, 0), "")


def test_the_table_names_what_matters() -> None:
    view = random_view("Pendulum-v1", 5, 2)
    console = Console(file=io.StringIO(), width=110)
    console.print(model_table(view))
    text = console.file.getvalue()
    assert "error, 8 steps" in text and "distractor 1" in text
    line = view.summary()[0]
    row = next(row for row in text.splitlines() if row.startswith("cos θ"))
    assert row.split()[2:] == [
        short_number(line.one_step), short_number(line.horizon), short_percent(line.sensitivity),
        short_percent(line.weighted_one_step), short_percent(line.weighted_horizon),
    ]  # fmt: skip


def test_short_forms() -> None:
    assert [short_number(x) for x in (0.0834, 9.99, 34.2, 1234.5, float("nan"), float("inf"))] == [
        "0.08", "9.99", "34", "1,234", "-", "∞",
    ]  # fmt: skip
    assert [short_percent(x) for x in (0.0, 0.001, 0.0096, 0.284, float("nan"))] == ["0%", "<1%", "1%", "28%", "-"]


def test_bars_that_are_cut_off_have_a_break_mark() -> None:
    view = random_view("Pendulum-v1", 4, 1)
    view.forecast.states[..., 1] += 50.0
    (bars, *_) = draw_model_view(view, "a title").axes
    marks = [line for line in bars.lines if line.get_color() == "white"]
    assert {round(float(np.mean(line.get_xdata()))) for line in marks} == {1}
    assert all(max(line.get_ydata()) < LARGEST_BAR for line in marks)
