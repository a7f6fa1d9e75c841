"""The cells of a sweep: every combination of its axes, resolved by Tune's own variant generator."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vagram_ray.envs.naming import environment_name
from vagram_ray.sweep.plan.overrides import apply_overrides, with_values
from vagram_ray.sweep.plan.search_space import Path, SearchSpace, axis_name, value_at
from vagram_ray.sweep.spec import Sweep, SweepError
from vagram_ray.text import canonical, format_seeds, format_value, printable

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig

Axes = dict[str, Any]
"""Values by the axis' name."""


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


def expand_cells(sweep: Sweep) -> tuple[Cell, ...]:
    """Every cell of a sweep at its scale, in the order in which the axes list their values.

    Grid searches and ``variants`` (``Sweep.variants``) are crossed. Random search spaces (``tune.choice``,
    ``tune.uniform``, ...) are drawn anew for each combination, ``num_samples`` times, by ``search_seed``: the same call
    gives the same cells, and more samples, values or variants leave them as they are. Combinations that come up twice
    are one cell, and so are all those with ``model_loss="none"`` that differ in settings of the model alone.

    Raises ``SweepError`` for an axis without values, an axis over seeds, and several samples of a fixed grid.
    """
    base = sweep.config.to_dict()
    combinations: list[tuple[Axes, Mapping[str, Any]]] = []
    own_keys: set[str] = set()  # those that hold an axis, or that a variant changes
    random = False
    keys = _keys_by_axis(sweep.variants)
    for names, settings in _named_settings(sweep.variants):
        source = "The variant " + ", ".join(f"{axis}={name}" for axis, name in names.items())
        space = SearchSpace(apply_overrides(sweep.config, settings, source).to_dict() if settings else base)
        random |= bool(space.domains)
        own_keys.update(path[0] for path in space.paths)
        for resolved in space.combinations(sweep.num_samples, sweep.search_seed, names):
            own_keys.update(key for key in base if key not in own_keys and resolved[key] != base[key])
            combinations.append((_axes_of(names, keys, space.paths, resolved), resolved))
    if sweep.num_samples > 1 and not random:
        raise SweepError(
            f"num_samples={sweep.num_samples} is not usable: no axis is random, so it would repeat each cell; "
            "use more seeds, or an axis such as tune.uniform(...)."
        )
    return _distinct_cells(combinations, [key for key in base if key in own_keys])


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


def _keys_by_axis(variants: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, frozenset[str]]:
    """The top-level keys that the variants of each axis set. An axis has its keys to itself."""
    keys: dict[str, frozenset[str]] = {}
    for axis, named in variants.items():
        keys[axis] = frozenset(key.partition(".")[0] for settings in named.values() for key in settings)
        for other in keys.keys() - {axis}:
            if shared := keys[axis] & keys[other]:
                raise SweepError(
                    f"The variants of {other!r} and {axis!r} both set {', '.join(sorted(shared))}: "
                    "leave it to one of the two axes."
                )
    return keys


def _model_settings() -> frozenset[str]:
    from vagram_ray.core.settings import MODEL_SETTINGS  # brings PyTorch along, which reading results does without

    return MODEL_SETTINGS


def _without_effect(resolved: Mapping[str, Any]) -> frozenset[str]:
    """Keys of a configuration that change nothing in it: the model's, for plain SAC."""
    return _model_settings() - {"model_loss"} if resolved.get("model_loss") == "none" else frozenset()


def _axes_of(
    names: Mapping[str, str], keys: Mapping[str, frozenset[str]], paths: Sequence[Path], resolved: Mapping[str, Any]
) -> Axes:
    """The axes of a combination, variants first, without those that have no effect in it.

    Args:
        names: The variant on each axis of variants.
        keys: The keys that such an axis sets.
        paths: The other axes.
        resolved: The configuration.
    """
    unused = _without_effect(resolved)
    axes: Axes = {axis: name for axis, name in names.items() if not unused or not keys[axis] <= unused}
    return axes | {axis_name(path): _shown(path, value_at(resolved, path)) for path in paths if path[0] not in unused}


def _distinct_cells(combinations: Sequence[tuple[Axes, Mapping[str, Any]]], keys: Sequence[str]) -> tuple[Cell, ...]:
    """The cells of combinations with their axes, each run once. Each has its own values of ``keys``."""
    cells: list[Cell] = []
    seen: set[str] = set()
    for axes, resolved in combinations:
        unused = _without_effect(resolved)
        identity = canonical({key: resolved[key] for key in keys if key not in unused})
        if identity not in seen:  # the same settings and seeds would be the same run
            seen.add(identity)
            label = cell_label(axes, cells, resolved.get("env"))
            cells.append(Cell(len(cells), label, axes, {key: resolved[key] for key in keys}))
    return tuple(cells)


def cell_label(axes: Mapping[str, Any], before: Collection[Cell], env: Any = None) -> str:
    """What the next cell is called after those before it. One without axes has the environment's name."""
    label = ", ".join(f"{name}={format_value(value)}" for name, value in axes.items())
    label = printable(label or str(_shown(("env",), env)))
    return label if all(cell.label != label for cell in before) else f"{label}, cell={len(before)}"


def _shown(path: Path, value: Any) -> Any:
    """A value of an axis, as records have it: the name of an environment's class."""
    if path != ("env",) or not callable(value):
        return value
    try:
        return environment_name(value)
    except ValueError as error:
        raise SweepError(f"{error}.") from error


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
