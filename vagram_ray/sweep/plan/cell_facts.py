"""What a plan knows of cells: their configurations, checked, and what follows from these."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.plan.cells import Cell
from vagram_ray.sweep.plan.workload import Workload, quiet_ray
from vagram_ray.sweep.spec import SweepError, describe

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig


def checked_configs(cells: Sequence[Cell], config: MBPOConfig, seeds: Sequence[int]) -> list[MBPOConfig]:
    """Every cell's configuration, validated. What is wrong in all cells alike is said without naming one."""
    from vagram_ray.rllib.initialization import check_fits

    configs = [cell.config(config).update_from_dict({"seeds": tuple(seeds)}) for cell in cells]
    problems: dict[str, str] = {}
    for cell, resolved in zip(cells, configs, strict=True):
        try:
            with quiet_ray():
                resolved.copy(copy_frozen=False).validate()
                if resolved.initial_checkpoint is not None:
                    check_fits(resolved, resolved.initial_checkpoint)
        except (ValueError, TypeError, AttributeError) as error:
            problems[cell.label] = describe(error)
    if problems:
        label, problem = next(iter(problems.items()))
        everywhere = len(problems) == len(cells) and len(set(problems.values())) == 1
        raise SweepError(problem if everywhere else f"In the cell {label}: {problem}")
    return configs


def working_cell(cells: Iterable[Cell], config: MBPOConfig, seeds: Sequence[int]) -> Cell:
    """The first cell that can be run. Not all in a search space need to.

    Raises:
        SweepError: None can. The message is the last one's.
    """
    refusal: SweepError | None = None
    for cell in cells:
        try:
            checked_configs([cell], config, seeds)
        except SweepError as error:
            refusal = error
        else:
            return cell
    assert refusal is not None
    raise refusal


def describe_cells(
    cells: Sequence[Cell], configs: Sequence[MBPOConfig]
) -> tuple[dict[int, Workload], dict[int, dict[str, Any]]]:
    """Workloads and plain settings of cells, by index."""
    from vagram_ray.rllib.plain_config import plain_settings

    by_index = {cell.index: config for cell, config in zip(cells, configs, strict=True)}
    workloads = {index: Workload.of(config) for index, config in by_index.items()}
    return workloads, {index: plain_settings(config) for index, config in by_index.items()}


def fixed_settings(config: MBPOConfig) -> dict[str, Any]:
    """The settings of a configuration that have a value, and no space of values."""

    def fixed(value: Any) -> bool:
        return isinstance(value, (str, int, float)) or (isinstance(value, (list, tuple)) and all(map(fixed, value)))

    return {key: value for key, value in config.to_dict().items() if fixed(value)}
