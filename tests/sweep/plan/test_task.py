"""The line about a task that a scale runs in place of the experiment's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from tests.sweep.conftest import MACHINE
from vagram_ray.sweep import Scale, Sweep
from vagram_ray.sweep.plan.overrides import with_overrides
from vagram_ray.sweep.plan.plan import make_plan
from vagram_ray.sweep.plan.task import replaced_task
from vagram_ray.sweep.sweep_file import load_sweep_file

CONFIGS = Path(__file__).parents[3] / "tune_configs"


def line_of(sweep: Sweep, scale: str | None, **assignments: Any) -> str:
    sized, overrides = sweep.at_scale(scale)
    given = {**overrides, **assignments}
    sized = with_overrides(replace(sized, seeds=1, epochs=1), given, source="a test")
    return replaced_task(sweep, make_plan(sized, MACHINE, scale=scale or "", overrides=given))


@pytest.mark.parametrize(
    ("scale", "line"),
    [
        (
            "laptop",
            "laptop scale: Pendulum-v1 and distractors 0, 5, 10 instead of "
            "the paper scale's Hopper-v4 and distractors 5, 10, 15",
        ),
        ("smoke", "smoke scale: 5 distractors instead of the paper scale's distractors 5, 10, 15"),
        ("workstation", ""),
        ("paper", ""),
    ],
)
def test_scales_of_figure_4(scale: str, line: str) -> None:
    assert line_of(load_sweep_file(CONFIGS / "distractors.py"), scale) == line


def test_tasks_that_are_variants_are_compared_too() -> None:
    sweep = load_sweep_file(CONFIGS / "mujoco.py")
    variants = dict(list(sweep.variants["task"].items())[:2])
    assert line_of(replace(sweep, variants={"task": variants}, scales={"paper": Scale()}), "paper") == ""
    few = {"task": dict([next(iter(variants.items()))])}
    fewer = replace(sweep, variants={"task": variants}, scales={"paper": Scale(), "one": Scale(variants=few)})
    assert line_of(fewer, "one") == "one scale: Hopper-v4 instead of the paper scale's Hopper-v4, Walker2d-v4"


def test_a_sweep_of_ones_own_is_compared_with_itself(make_config: Callable[..., Any]) -> None:
    config = make_config(model_loss=tune.grid_search(["vagram", "none"]))
    sweep = Sweep(name="s", config=config, epochs=1)
    assert line_of(sweep, None) == ""
    given = line_of(sweep, None, env="Hopper-v4")
    assert given == "Hopper-v4 instead of the sweep file's Pendulum-v1"
    small = replace(sweep, scales={"laptop": Scale(overrides={"env": "Hopper-v4"})})
    assert line_of(small, "laptop") == f"laptop scale: {given}"
