"""The task in one line: environment, distractors, methods, budget, sizes.

``Pendulum-v1 | distractors 0, 5, 10 | vagram, mse, nll, SAC | 8 seeds x 3,000 steps | model 5 x (2 x 64), SAC 2 x 64,
10 updates per step``. Every output of a sweep begins with it. What is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vagram_ray.records.recorded import cell_axes, cell_settings, planned_env_steps
from vagram_ray.text import plural

MAX_VALUES = 8
"""More values of a setting are counted instead of listed."""
_TOLD = frozenset(
    {"env", "env_config", "num_distractors", "model_loss", "ensemble_size", "num_layers", "hidden_size", "utd_ratio"}
)
"""Settings that have a part of their own: where they are axes, they are not named again."""


def task_line(info: Mapping[str, Any], cells: Iterable[int] | None = None) -> str:
    """The line of a sweep, or of some of its cells, by the content of its ``sweep.json``."""
    places = range(len(info["cells"])) if cells is None else list(cells)
    axes = [cell_axes(info, place) for place in places]
    overrides = info.get("overrides", {})
    settings = [cell_settings(info, place) or {**overrides, **own} for place, own in zip(places, axes, strict=True)]
    steps = [planned for place in places if (planned := planned_env_steps(info, place)) is not None]
    return describe_task(settings, axes, len(info["seeds"]), steps)


def describe_task(
    cells: Sequence[Mapping[str, Any]],
    axes: Sequence[Mapping[str, Any]],
    num_seeds: int | None = None,
    steps: Iterable[int] = (),
) -> str:
    """The line.

    Args:
        cells: Settings of every cell.
        axes: Names and values of what was varied, by cell.
        num_seeds: Seeds per cell, if they are known.
        steps: Environment steps per seed, warm-up included, by cell.
    """
    parts = (
        describe_environments(cells),
        describe_distractors(cells),
        _methods(cells),
        _other_axes(axes),
        _budget(num_seeds, steps),
        _sizes(cells),
    )
    return " | ".join(part for part in parts if part)


def describe_environments(cells: Sequence[Mapping[str, Any]]) -> str:
    """``Pendulum-v1``. Settings of the environment stand behind it where they are short."""

    def name(cell: Mapping[str, Any]) -> str:
        given = cell.get("env_config")
        details = ", ".join(f"{key}={value}" for key, value in given.items()) if isinstance(given, Mapping) else ""
        return f"{cell['env']} ({details})" if details and len(details) <= 40 else str(cell["env"])

    return _listed([name(cell) for cell in cells if cell.get("env") is not None], "environments")


def describe_distractors(cells: Sequence[Mapping[str, Any]]) -> str:
    """``distractors 0, 5, 10``, ``5 distractors`` or ``no distractors``."""
    counts = {cell["num_distractors"] for cell in cells if isinstance(cell.get("num_distractors"), int)}
    if len(counts) > 1:
        return f"distractors {_listed(map(str, sorted(counts)), 'values')}"
    return "no distractors" if counts == {0} else "".join(plural(count, "distractor") for count in counts)


def _methods(cells: Sequence[Mapping[str, Any]]) -> str:
    losses = [str(cell["model_loss"]) for cell in cells if cell.get("model_loss") is not None]
    return _listed(["SAC" if loss == "none" else loss for loss in losses], "methods")


def _other_axes(axes: Sequence[Mapping[str, Any]]) -> str:
    """Other axes that were varied, with the number of their values."""
    values: dict[str, set[str]] = {}
    for own in axes:
        for axis, value in own.items():
            values.setdefault(axis, set()).add(str(value))
    others = [f"{axis} ({len(own)})" for axis, own in values.items() if len(own) > 1 and axis not in _TOLD]
    return f"varied: {', '.join(others)}" if others else ""


def _budget(num_seeds: int | None, steps: Iterable[int]) -> str:
    known = sorted(set(steps))
    lengths = f"{' or '.join(f'{count:,}' for count in known[:3])} steps" if known else ""
    return " x ".join(filter(None, [plural(num_seeds, "seed") if num_seeds else "", lengths]))


def _sizes(cells: Sequence[Mapping[str, Any]]) -> str:
    with_model = [cell for cell in cells if cell.get("model_loss") != "none" and "ensemble_size" in cell]
    shapes = dict.fromkeys(f"{cell.get('num_layers', '?')} x {cell.get('hidden_size', '?')}" for cell in with_model)
    members = dict.fromkeys(str(cell["ensemble_size"]) for cell in with_model)
    model = f"model {_joined_by_or(members)} x ({_joined_by_or(shapes)})" if with_model else ""
    actors, critics = (
        dict.fromkeys(_shape(cell[key]) for cell in cells if cell.get(key))
        for key in ("actor_hidden_sizes", "critic_hidden_sizes")
    )
    sac = f"SAC {_joined_by_or(actors)}" if actors else ""
    if actors and critics and actors != critics:
        sac = f"actor {_joined_by_or(actors)}, critics {_joined_by_or(critics)}"
    updates = dict.fromkeys(str(cell["utd_ratio"]) for cell in cells if cell.get("utd_ratio") is not None)
    per_step = f"{_joined_by_or(updates)} update{'' if list(updates) == ['1'] else 's'} per step" if updates else ""
    return ", ".join(part for part in (model, sac, per_step) if part)


def _shape(sizes: Any) -> str:
    """``2 x 64``, or ``64, 32``."""
    if not isinstance(sizes, (list, tuple)):
        return str(sizes)
    return f"{len(sizes)} x {sizes[0]}" if len(set(map(str, sizes))) == 1 else ", ".join(map(str, sizes))


def _joined_by_or(values: Iterable[str]) -> str:
    return " or ".join(list(values)[:3])


def _listed(values: Iterable[str], noun: str) -> str:
    distinct = list(dict.fromkeys(values))
    return ", ".join(distinct) if len(distinct) <= MAX_VALUES else f"{len(distinct)} {noun}"
