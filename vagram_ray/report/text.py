"""Methods, panels, tasks and numbers of seeds as a report says them."""

from __future__ import annotations

from vagram_ray.records.task_line import describe_task
from vagram_ray.report.curves import CellCurves, Comparison
from vagram_ray.text import format_value

_SPOKEN = {"none": "plain SAC"}  # model_loss=none is SAC in the same code


def spoken(line: str) -> str:
    """A line's name in a sentence: ``plain SAC`` for ``none``."""
    method, separator, rest = line.partition(" (")
    return _SPOKEN.get(method, method) + separator + rest


def describe_panel(comparison: Comparison, *cells: CellCurves) -> str:
    """How a sentence on cells of one panel begins: ``With 10 distractors and hidden_size=64``.

    Empty where there is only one panel. What one cell lacks, as plain SAC the size of a model, another may tell.
    """
    axes = {axis: value for cell in cells for axis, value in cell.axes.items()}
    parts = []
    for axis in comparison.panel_axes:
        if axis not in axes:
            continue
        value = format_value(axes[axis])
        if axis == "num_distractors":
            parts.append({"0": "no distractors", "1": "1 distractor"}.get(value, f"{value} distractors"))
        else:
            parts.append(f"{axis}={value}")
    return f"With {' and '.join(parts)}" if parts else ""


def task_lines(comparison: Comparison) -> list[str]:
    """The task: one line, or one for each experiment where they differ."""
    names: dict[str, list[str]] = {}
    for facts in comparison.experiments:
        cells = [cell for cell in comparison.cells if facts.name in cell.experiment.split(" + ")]
        axes = [cell.axes for cell in cells]
        steps = [max(int(curve.env_steps[-1]) for curve in cell.returns.values()) for cell in cells if cell.returns]
        seeds = max((len(cell.seeds) for cell in cells), default=0)
        line = facts.task or describe_task(axes, axes, seeds, [max(steps)] if steps else ())
        names.setdefault(line, []).append(facts.name)
    if len(names) == 1:
        return list(names)
    return [f"{' + '.join(own)}: {line}" for line, own in names.items()]


def seeds_in_figures(comparison: Comparison) -> str:
    """``n = 8 seeds``, or ``n = 8 to 16 seeds`` where cells differ."""
    counts = sorted({len(cell.seeds) for cell in comparison.cells})
    return f"n = {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} seed{'s' if counts[-1] != 1 else ''}"
