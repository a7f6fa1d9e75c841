"""A plan whose cells a searcher suggests: it grows while the sweep runs, and begins with what is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vagram_ray.records.recorded import RecordedSweep
from vagram_ray.sweep.plan.cells import Cell
from vagram_ray.sweep.plan.plan import SweepPlan, make_trial
from vagram_ray.sweep.plan.planned_cells import PlannedCell, planned_cells
from vagram_ray.sweep.plan.samples import MAX_REPEATS
from vagram_ray.sweep.spec import SweepError


def suggested(plan: SweepPlan, number: int = 1) -> SweepPlan:
    """The plan with up to ``number`` more cells: as many as the searcher suggests now.

    A suggestion that cannot work, such as more elites than models, is told to the searcher as a failure and does not
    count. ``Samples.note`` says so.

    Raises:
        SweepError: The searcher fails, or none of its suggestions works.
    """
    samples, refused = plan.samples, 0
    if samples is None:
        return plan
    wanted = len(plan.cells) + number
    while len(plan.cells) < wanted and (cell := samples.suggest(plan.cells)) is not None:
        try:
            plan = with_cells(plan, [cell])
        except SweepError as error:
            samples.refused(cell)
            refused += 1
            samples.note = f"a sample of {samples.name} was passed over ({cell.label}: {error.message.rstrip('.')})."
            if refused >= MAX_REPEATS:
                samples.exhausted = True
                raise SweepError(f"search_alg={samples.name} suggests what cannot work: {error.message}") from error
    return plan


def with_cells(plan: SweepPlan, cells: Sequence[Cell]) -> SweepPlan:
    """The plan with more cells, numbered from its last one on, and a trial of all seeds for each.

    Raises:
        SweepError: A cell cannot work.
    """
    new = [_with_costs(cell, plan.example) for cell in planned_cells(cells, plan.config, plan.seeds)]
    grown = replace(plan, cells=(*plan.cells, *new))
    grown.check_room()
    return grown.with_trials([*grown.trials, *(make_trial(grown, cell, grown.seeds) for cell in new)])


def _with_costs(cell: PlannedCell, example: PlannedCell | None) -> PlannedCell:
    """With the costs of the example that was measured, where the sizes are the same."""
    if example is None or example.workload.sizes != cell.workload.sizes:
        return cell
    return replace(cell, workload=replace(cell.workload, costs=example.workload.costs))


def recorded_cells(plan: SweepPlan, recorded: RecordedSweep) -> SweepPlan:
    """The plan with the cells that earlier launches have recorded, from the values of their axes.

    Raises:
        SweepError: A value is not usable any more.
    """
    assert plan.samples is not None
    cells: list[Cell] = []
    for cell in recorded.cells:
        cells.append(replace(plan.samples.restore(cell.axes, cells), label=cell.label))
    return with_cells(plan, cells)
