"""The line that says what was run."""

from __future__ import annotations

from typing import Any

from vagram_ray.records.task_line import describe_task, task_line

SHARED = {
    "env": "Pendulum-v1", "ensemble_size": 5, "num_layers": 2, "hidden_size": 64, "utd_ratio": 10,
    "actor_hidden_sizes": [64, 64], "critic_hidden_sizes": [64, 64],
}  # fmt: skip


def cell(**axes: Any) -> dict[str, Any]:
    return {"label": "x", "axes": axes, "settings": axes, "epoch_length": 200, "warmup_steps": 400}


def info(*cells: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"settings": SHARED | settings, "cells": list(cells), "seeds": list(range(8)), "epochs": 13}


def test_the_line_of_the_papers_sweep() -> None:
    cells = [cell(num_distractors=d, model_loss=m) for d in (10, 0, 5) for m in ("vagram", "mse", "nll", "none")]
    assert task_line(info(*cells)) == (
        "Pendulum-v1 | distractors 0, 5, 10 | vagram, mse, nll, SAC | 8 seeds x 3,000 steps | "
        "model 5 x (2 x 64), SAC 2 x 64, 10 updates per step"
    )


def test_other_axes_are_counted_and_other_sizes_named() -> None:
    cells = [
        cell(variant="a & b", model_loss="none", num_distractors=1),
        cell(variant="<b>$x$</b>", model_loss="nll", num_distractors=1, hidden_size=16, num_layers=1),
        cell(variant="c", model_loss="nll", num_distractors=1),
    ]
    line = task_line(info(*cells, critic_hidden_sizes=[256, 128], env_config={"g": 9.81}))
    assert line == (
        "Pendulum-v1 (g=9.81) | 1 distractor | SAC, nll | varied: variant (3) | 8 seeds x 3,000 steps | "
        "model 5 x (1 x 16 or 2 x 64), actor 2 x 64, critics 256, 128, 10 updates per step"
    )


def test_what_is_not_known_is_left_out() -> None:
    old = {"cells": [{"label": "vagram", "axes": {"model_loss": "vagram"}}], "seeds": [0], "epochs": 2}
    assert task_line(old) == "vagram | 1 seed"
    assert describe_task([{"env": "Hopper-v2"}], [{}], None, [500, 1000]) == "Hopper-v2 | 500 or 1,000 steps"
    assert describe_task([{"num_distractors": 0}], [{}]) == "no distractors"
    assert describe_task([{"env": f"env-{n}"} for n in range(9)], [{}]) == "9 environments"
