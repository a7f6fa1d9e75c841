"""The cells of a sweep: every combination of its axes, resolved by Tune's own variant generator."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vagram_ray.envs.naming import environment_name
from vagram_ray.sweep.plan.overrides import apply_overrides, with_values
from vagram_ray.sweep.spec import SweepError, describe
from vagram_ray.text import canonical, format_seeds, format_value, printable

if TYPE_CHECKING:
    import numpy as np

    from vagram_ray.rllib import MBPOConfig

_LEADING_AXES = (
    "env", "env_config", "num_distractors", "distractor_process", "distractor_scale", "distractor_reset",
)  # fmt: skip

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """One combination of all axes except the seed.

    ``axes`` maps the name of each axis (``"num_distractors"``, ``"env_config.gravity"``) to its value here.
    ``values`` maps the top-level ``MBPOConfig`` keys that hold an axis to their resolved values.
    """

    index: int
    label: str
    axes: Mapping[str, Any]
    values: Mapping[str, Any]

    def config(self, base: MBPOConfig) -> MBPOConfig:
        """The configuration of this cell: a copy of ``base`` without search spaces."""
        return with_values(base.copy(copy_frozen=False), self.values)


def expand_cells(
    config: MBPOConfig,
    *,
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    overrides: Mapping[str, Any] | None = None,
    num_samples: int = 1,
    search_seed: int = 0,
) -> tuple[Cell, ...]:
    """Every cell of a configuration with search spaces, in the order in which the axes list their values.

    Grid searches and ``variants`` (``Sweep.variants``) are crossed. Random search spaces (``tune.choice``,
    ``tune.uniform``, ...) are drawn anew for each combination, ``num_samples`` times, from one generator seeded with
    ``search_seed``: the same call gives the same cells. Combinations that come up twice are one cell, and so are all
    those with ``model_loss="none"`` that differ in settings of the model alone. ``overrides`` have been applied to
    ``config`` and win over what a variant says.

    Raises ``SweepError`` for an axis without values, an axis over seeds, and several samples of a fixed grid.
    """
    import numpy as np

    generator = np.random.default_rng(search_seed)
    combinations: list[_Combination] = []
    random = False
    fields = _fields_by_axis(variants or {})
    for names, settings in _named_settings(variants or {}):
        if settings:
            source = "The variant " + ", ".join(f"{axis}={name}" for axis, name in names.items())
            config_here = apply_overrides(apply_overrides(config, settings, source), overrides or {}, "The override")
        else:
            config_here = config
        space = _SearchSpace(config_here.to_dict())
        random |= space.random
        for resolved in space.combinations(num_samples, generator):
            combinations.append(_Combination(names, fields, space.paths, resolved))
    if num_samples > 1 and not random:
        raise SweepError(
            f"num_samples={num_samples} is not usable: no axis is random, so it would repeat each cell; "
            "use more seeds, or an axis such as tune.uniform(...)."
        )
    return _name_cells(combinations, _own_keys(combinations, config.to_dict()))


def _named_settings(
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Each combination of the variants of all axes: their names by axis, and what they set together."""
    axes = [axis for axis, named in variants.items() if named]
    for names in itertools.product(*(variants[axis] for axis in axes)):
        chosen = dict(zip(axes, names, strict=True))
        settings: dict[str, Any] = {}
        for axis, name in chosen.items():
            settings |= variants[axis][name]
        yield chosen, settings


def _fields_by_axis(variants: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, frozenset[str]]:
    """The top-level keys that the variants of each axis set. An axis has its keys to itself."""
    fields: dict[str, frozenset[str]] = {}
    for axis, named in variants.items():
        fields[axis] = frozenset(key.partition(".")[0] for settings in named.values() for key in settings)
        for other in fields.keys() - {axis}:
            if shared := fields[axis] & fields[other]:
                raise SweepError(
                    f"The variants of {other!r} and {axis!r} both set {', '.join(sorted(shared))}: "
                    "leave it to one of the two axes."
                )
    return fields


class _SearchSpace:
    """The search spaces in a configuration."""

    def __init__(self, space: Mapping[str, Any]) -> None:
        self._space = space
        domains, self._choices = parse_space(space)
        self.random = bool(domains)
        self.paths = in_axis_order((*self._choices, *domains), space)

    def combinations(self, num_samples: int, generator: np.random.Generator) -> list[dict[str, Any]]:
        """Resolved configurations in the order of the axes' values."""
        from ray.tune.search.variant_generator import generate_variants

        try:
            drawn = [
                (sample, spec["config"])
                for sample in range(num_samples)
                for _, spec in generate_variants({"config": self._space}, random_state=generator)
            ]
        except Exception as error:  # a search space runs what its author wrote
            names = ", ".join(axis_name(path) for path in self.paths)
            reason = describe(error.__cause__ or error)
            raise SweepError(f"Values for {names} cannot be drawn: {reason}") from error

        def order(variant: tuple[int, dict[str, Any]]) -> tuple[int, ...]:
            sample, resolved = variant
            grid = (self._choices[path].index(value_at(resolved, path)) for path in self.paths if path in self._choices)
            return (*grid, sample)

        return [resolved for _, resolved in sorted(drawn, key=order)]


def _model_settings() -> frozenset[str]:
    from vagram_ray.core.settings import MODEL_SETTINGS  # brings PyTorch along, which reading results does without

    return MODEL_SETTINGS


@dataclass(frozen=True)
class _Combination:
    """One way to choose a value on every axis."""

    variants: Mapping[str, str]
    variant_fields: Mapping[str, frozenset[str]]
    """Top-level keys that the variants of an axis set."""
    paths: Sequence[Path]
    resolved: Mapping[str, Any]

    def axes(self) -> dict[str, Any]:
        """Names and values of the axes, for plain SAC without those that speak of the model alone."""
        without_effect = self._without_effect()
        own = {
            axis: name
            for axis, name in self.variants.items()
            if not (without_effect and self.variant_fields[axis] <= without_effect)
        }
        paths = [path for path in self.paths if path[0] not in without_effect]
        return own | {axis_name(path): _shown(path, value_at(self.resolved, path)) for path in paths}

    def identity(self, keys: Sequence[str]) -> str:
        """Equal for combinations that are the same run."""
        without_effect = self._without_effect()
        return canonical({key: self.resolved[key] for key in keys if key not in without_effect})

    def _without_effect(self) -> frozenset[str]:
        """Keys that change nothing here: the model's, for plain SAC."""
        return _model_settings() - {"model_loss"} if self.resolved.get("model_loss") == "none" else frozenset()


def parse_space(space: Mapping[str, Any]) -> tuple[dict[Path, Any], dict[Path, list[Any]]]:
    """Random search spaces, and the values of grid searches, by their places.

    Raises:
        SweepError: One of them is none, a grid search has no values, or an axis is over seeds.
    """
    from ray.tune.search.variant_generator import parse_spec_vars

    try:
        _, domain_vars, grid_vars = parse_spec_vars({"config": space})
        choices = {path[1:]: list(domain.categories) for path, domain in grid_vars}
    except (TypeError, ValueError) as error:
        raise SweepError(f"A search space of the sweep is not usable: {describe(error)}") from error
    domains = {path[1:]: domain for path, domain in domain_vars}
    for path, values in choices.items():
        if not values:
            raise SweepError(f"The axis {axis_name(path)} has no values; tune.grid_search([...]) needs at least one.")
    for path in (*domains, *choices):
        if path[0] in ("seeds", "seed"):
            name = axis_name(path)
            raise SweepError(f"The axis {name} is not usable: every cell runs the seeds of Sweep(seeds=...).")
    return domains, choices


def _name_cells(combinations: Sequence[_Combination], keys: Sequence[str]) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    taken: set[str] = set()
    seen: set[str] = set()
    for combination in combinations:
        if (identity := combination.identity(keys)) in seen:  # the same settings and seeds would be the same run
            continue
        seen.add(identity)
        index, axes = len(cells), combination.axes()
        label = ", ".join(f"{name}={format_value(value)}" for name, value in axes.items())
        label = printable(label or str(_shown(("env",), combination.resolved.get("env"))))
        label = label if label not in taken else f"{label}, cell={index}"
        taken.add(label)
        cells.append(Cell(index, label, axes, {key: combination.resolved[key] for key in keys}))
    return tuple(cells)


def _own_keys(combinations: Sequence[_Combination], base: Mapping[str, Any]) -> list[str]:
    """Top-level keys that hold an axis or that a variant changes: each cell has its own values of them."""
    axes = {path[0] for combination in combinations for path in combination.paths}
    return [key for key in base if key in axes or any(other.resolved[key] != base[key] for other in combinations)]


def in_axis_order(paths: Iterable[Path], space: Mapping[str, Any]) -> list[Path]:
    """The environment's axes first, then the order of the configuration's keys."""
    keys = [*_LEADING_AXES, *space]  # the first of a name counts
    return sorted(paths, key=lambda path: (keys.index(path[0]), axis_name(path)))


def _shown(path: Path, value: Any) -> Any:
    """A value of an axis, as records have it: the name of an environment's class."""
    if path != ("env",) or not callable(value):
        return value
    try:
        return environment_name(value)
    except ValueError as error:
        raise SweepError(f"{error}.") from error


def axis_name(path: Path) -> str:
    """``env_config.gravity`` for its path."""
    # RLlib keeps a few settings, such as the batch size, in attributes with an underscore.
    return ".".join(str(part) for part in path).lstrip("_")


def value_at(config: Any, path: Path) -> Any:
    """What nested dictionaries hold at a place."""
    for part in path:
        config = config[part]
    return config


def trial_name(cells: Sequence[Cell], cell: Cell, seeds: Sequence[int]) -> str:
    """A name that is a sound folder name everywhere, tells cell and seeds, and is that of no other pack of any cell."""
    label = _folder_label(cell)
    if any(_folder_label(other) == label for other in cells[: cell.index]):
        label = f"{label},cell={cell.index}"
    return f"{label},seeds={_cut(format_seeds(seeds), 40)}"


def _folder_label(cell: Cell) -> str:
    return _cut(re.sub(r"[^A-Za-z0-9=._-]+", ",", cell.label.replace(", ", ",")).strip(","), 100)


def _cut(text: str, length: int) -> str:
    """At most so many characters. What is cut off is told apart by a digest."""
    if len(text) <= length:
        return text
    return f"{text[: length - 9]}-{hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:8]}"
