"""The cells of a sweep: every combination of its axes, resolved by Tune's own variant generator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.spec import SweepError

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig

_LEADING_AXES = ("env", "env_config", "num_distractors", "distractor_process")
_LABEL_LENGTH = 40

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """One combination of all axes except the seed.

    ``axes`` maps the name of each axis (``"num_distractors"``, ``"env_config.gravity"``) to its value here;
    ``values`` maps the top-level ``MBPOConfig`` keys that hold an axis to their resolved values.
    """

    index: int
    label: str
    axes: Mapping[str, Any]
    values: Mapping[str, Any]

    def config(self, base: MBPOConfig) -> MBPOConfig:
        """The configuration of this cell: a copy of ``base`` without search spaces."""
        return base.copy(copy_frozen=False).update_from_dict(dict(self.values))


def expand_cells(config: MBPOConfig, *, num_samples: int = 1, search_seed: int = 0) -> tuple[Cell, ...]:
    """Every cell of a configuration with search spaces, in the order in which the axes list their values.

    Grid searches are crossed. Random search spaces (``tune.choice``, ``tune.uniform``, ...) are drawn anew for
    each combination, ``num_samples`` times, from one generator seeded with ``search_seed``: the same call gives
    the same cells. Combinations that come up twice are one cell.

    Raises ``SweepError`` for an axis without values, an axis over seeds, and several samples of a fixed grid.
    """
    import numpy as np
    from ray.tune.search.variant_generator import generate_variants, parse_spec_vars

    space = config.to_dict()
    _, domain_vars, grid_vars = parse_spec_vars({"config": space})
    paths = [path[1:] for path, _ in (*grid_vars, *domain_vars)]
    choices = {path[1:]: list(domain.categories) for path, domain in grid_vars}
    _check_axes(paths, choices, num_samples, random=bool(domain_vars))
    generator = np.random.default_rng(search_seed)
    variants = [
        (sample, spec["config"])
        for sample in range(num_samples)
        for _, spec in generate_variants({"config": space}, random_state=generator)
    ]
    paths.sort(key=lambda path: _axis_order(path, list(space)))

    def order(variant: tuple[int, dict[str, Any]]) -> tuple[int, ...]:
        sample, resolved = variant
        grid = (choices[path].index(_lookup(resolved, path)) for path in paths if path in choices)
        return (*grid, sample)

    resolved_configs = [resolved for _, resolved in sorted(variants, key=order)]
    return _name_cells(resolved_configs, paths, default_label=str(space.get("env")))


def _check_axes(paths: Sequence[Path], choices: Mapping[Path, list[Any]], num_samples: int, *, random: bool) -> None:
    for path, values in choices.items():
        if not values:
            raise SweepError(f"The axis {_axis_name(path)} has no values; tune.grid_search([...]) needs at least one.")
    for path in paths:
        if path[0] in ("seeds", "seed"):
            name = _axis_name(path)
            raise SweepError(f"The axis {name} is not usable: every cell runs the seeds of Sweep(seeds=...).")
    if num_samples > 1 and not random:
        raise SweepError(
            f"num_samples={num_samples} is not usable: no axis is random, so it would repeat each cell; "
            "use more seeds, or an axis such as tune.uniform(...)."
        )


def _name_cells(
    resolved_configs: Sequence[Mapping[str, Any]], paths: Sequence[Path], default_label: str
) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    taken: set[str] = set()
    seen: set[str] = set()
    for resolved in resolved_configs:
        values = {path[0]: resolved[path[0]] for path in paths}
        if canonical(values) in seen:  # a second trial of the same settings and seeds would be the same run
            continue
        seen.add(canonical(values))
        index = len(cells)
        axes = {_axis_name(path): _lookup(resolved, path) for path in paths}
        label = ", ".join(f"{name}={format_value(value)}" for name, value in axes.items()) or default_label
        label = label if label not in taken else f"{label}, cell={index}"
        taken.add(label)
        cells.append(Cell(index, label, axes, values))
    return tuple(cells)


def _axis_order(path: Path, keys: Sequence[str]) -> tuple[int, Any]:
    """The environment's axes first, then the order of the configuration's keys."""
    if path[0] in _LEADING_AXES:
        return (_LEADING_AXES.index(path[0]), _axis_name(path))
    return (len(_LEADING_AXES) + keys.index(path[0]), _axis_name(path))


def _axis_name(path: Path) -> str:
    # RLlib keeps a few settings, such as the batch size, in attributes with an underscore.
    return ".".join(str(part) for part in path).lstrip("_")


def _lookup(config: Any, path: Path) -> Any:
    for part in path:
        config = config[part]
    return config


def format_value(value: Any) -> str:
    """A short form for names and tables: ``64x64`` for layer sizes, ``0.0003`` for a step size."""
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        integers = all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        return ("x" if integers and len(value) < 4 else "-").join(format_value(item) for item in value)
    text = getattr(value, "__name__", None) or str(value)
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"


def canonical(values: Mapping[str, Any]) -> str:
    """A text that is equal for equal settings, also after Tune has turned tuples into lists on the way."""
    return json.dumps(values, sort_keys=True, default=format_value)
