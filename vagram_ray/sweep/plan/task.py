"""Which task a scale runs in place of the experiment's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vagram_ray.records.task_line import describe_distractors, describe_environments
from vagram_ray.sweep.plan.cells import expand_cells
from vagram_ray.sweep.plan.overrides import with_overrides
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.spec import Sweep, SweepError

PAPER_SCALE = "paper"
"""The scale that is the experiment's own, where a sweep file has it. Elsewhere that is the sweep as the file has it."""
_TASK_SETTINGS = ("env", "env_config", "num_distractors")


def replaced_task(sweep: Sweep, plan: SweepPlan) -> str:
    """``laptop scale: Pendulum-v1 instead of the paper scale's Hopper-v4``, empty where the tasks agree.

    Args:
        sweep: As the file defines it, at no scale.
        plan: What is run.
    """
    own = _own_cells(sweep)
    run = [cell.settings for cell in plan.cells]
    pairs = [(describe(run), describe(own)) for describe in (describe_environments, describe_distractors)]
    differing = [(here, there) for here, there in pairs if here != there and here and there]
    if not differing:
        return ""
    here, there = (" and ".join(texts) for texts in zip(*differing, strict=True))
    scale = f"{plan.scale} scale: " if plan.scale else ""
    whose = "the paper scale's" if PAPER_SCALE in sweep.scales else "the sweep file's"
    return f"{scale}{here} instead of {whose} {there}"


def _own_cells(sweep: Sweep) -> Sequence[Mapping[str, Any]]:
    """Task of the cells of the experiment's own scale, nothing where that scale cannot be expanded."""
    sized, overrides = sweep.at_scale(PAPER_SCALE) if PAPER_SCALE in sweep.scales else (sweep, {})
    try:
        sized = with_overrides(sized, overrides, source="The override of the scale")
        cells = expand_cells(sized)
    except SweepError:
        return []
    shared = sized.config.to_dict()
    return [{key: cell.values.get(key, shared.get(key)) for key in _TASK_SETTINGS} for cell in cells]
