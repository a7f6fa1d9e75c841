"""Cells that can be run: each configuration is checked, and what follows from it stands beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.plan.cells import Cell
from vagram_ray.sweep.plan.workload import Workload, quiet_ray
from vagram_ray.sweep.spec import SweepError, describe

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig


@dataclass(frozen=True)
class PlannedCell(Cell):
    """A cell with all that determines its numbers but the seeds, and what that asks for."""

    settings: Mapping[str, Any]
    """``plain_settings`` of its configuration."""
    workload: Workload


def planned_cells(cells: Sequence[Cell], config: MBPOConfig, seeds: Sequence[int]) -> tuple[PlannedCell, ...]:
    """The cells, all of whose configurations are valid.

    Raises:
        SweepError: One of them is not. The message names its cell, unless the same is wrong in all.
    """
    from vagram_ray.rllib.plain_config import plain_settings

    configs = [cell.config(config).update_from_dict({"seeds": tuple(seeds)}) for cell in cells]
    problems = {cell.label: problem for cell, own in zip(cells, configs, strict=True) if (problem := _problem_of(own))}
    if problems:
        label, problem = next(iter(problems.items()))
        everywhere = len(problems) == len(cells) and len(set(problems.values())) == 1
        raise SweepError(problem if everywhere else f"In the cell {label}: {problem}")
    return tuple(
        PlannedCell(cell.index, cell.label, cell.axes, cell.values, plain_settings(own), Workload.of(own))
        for cell, own in zip(cells, configs, strict=True)
    )


def first_planned_cell(cells: Iterable[Cell], config: MBPOConfig, seeds: Sequence[int]) -> PlannedCell:
    """The first cell that can be run. Not all in a search space need to.

    Raises:
        SweepError: None can. The message is the last one's.
    """
    refusal: SweepError | None = None
    for cell in cells:
        try:
            return planned_cells([cell], config, seeds)[0]
        except SweepError as error:
            refusal = error
    assert refusal is not None
    raise refusal


def _problem_of(config: MBPOConfig) -> str:
    """What is wrong with a configuration, empty if it is valid."""
    from vagram_ray.rllib.initialization import check_fits

    try:
        with quiet_ray():
            config.copy(copy_frozen=False).validate()
            if config.initial_checkpoint is not None:
                check_fits(config, config.initial_checkpoint)
    except (ValueError, TypeError, AttributeError) as error:
        return describe(error)
    return ""
