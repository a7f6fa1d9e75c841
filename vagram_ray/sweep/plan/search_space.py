"""The search spaces in a configuration: which of its settings are axes, and which values these take."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.spec import SweepError, describe
from vagram_ray.text import canonical

if TYPE_CHECKING:
    import numpy as np

_LEADING_AXES = (
    "env", "env_config", "num_distractors", "distractor_process", "distractor_scale", "distractor_reset",
)  # fmt: skip

_CHECKPOINTS = ("checkpoint_every", "checkpoints_kept", "checkpoint_last_epoch", "checkpoint_folder")

Path = tuple[Any, ...]
"""Keys of nested dictionaries, from the outermost one."""


class SearchSpace:
    """All axes of a configuration.

    Args:
        config: As ``MBPOConfig.to_dict`` gives it.

    Attributes:
        choices: Values of the grid searches, by place.
        domains: Random search spaces of Tune, by place.
        paths: The places of all of them: the environment's first, then in the order of the configuration's keys.

    Raises:
        SweepError: A search space is none, a grid search has no values, or an axis is over seeds or checkpoints.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        from ray.tune.search.variant_generator import parse_spec_vars

        self._config = config
        try:
            _, domain_vars, grid_vars = parse_spec_vars({"config": config})
            choices = {path[1:]: list(domain.categories) for path, domain in grid_vars}
        except (TypeError, ValueError) as error:
            raise SweepError(f"A search space of the sweep is not usable: {describe(error)}") from error
        domains = {path[1:]: domain for path, domain in domain_vars}
        keys = [*_LEADING_AXES, *config]  # the first of a name counts
        self.paths = sorted((*choices, *domains), key=lambda path: (keys.index(path[0]), axis_name(path)))
        self.choices: dict[Path, list[Any]] = {path: choices[path] for path in self.paths if path in choices}
        self.domains: dict[Path, Any] = {path: domains[path] for path in self.paths if path in domains}
        for path in self.paths:
            if path[0] in ("seeds", "seed"):
                name = axis_name(path)
                raise SweepError(f"The axis {name} is not usable: every cell runs the seeds of Sweep(seeds=...).")
            if path[0] in _CHECKPOINTS:
                name = axis_name(path)
                raise SweepError(f"The axis {name} is not usable: all trials of a sweep save alike, so give one value.")
            if not self.choices.get(path, True):
                name = axis_name(path)
                raise SweepError(f"The axis {name} has no values; tune.grid_search([...]) needs at least one.")

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes."""
        return tuple(map(axis_name, self.paths))

    def combinations(self, num_samples: int, seed: int, variants: Mapping[str, str]) -> list[dict[str, Any]]:
        """Resolved configurations in the order of the axes' values, each drawn so often from the random spaces.

        Args:
            num_samples: How often.
            seed: Of the draws. Each combination of grid values and ``variants`` has a generator of its own: more
                samples, values or variants leave its draws as they are.
            variants: The names of those that have made this configuration, by axis.
        """
        from ray.tune.search.variant_generator import generate_variants

        drawn: list[dict[str, Any]] = []
        try:
            for values in itertools.product(*self.choices.values()):
                chosen = dict(zip(self.choices, values, strict=True))
                config = {**self._config, **self.values(chosen)}
                generator = _generator(seed, {**variants, **{axis_name(path): chosen[path] for path in chosen}})
                for _ in range(num_samples):
                    variants_of = generate_variants({"config": config}, random_state=generator)
                    drawn += [spec["config"] for _, spec in variants_of]
        except Exception as error:  # a search space runs what its author wrote
            reason = describe(error.__cause__ or error)
            raise SweepError(f"Values for {', '.join(self.axes)} cannot be drawn: {reason}") from error
        return drawn

    def values(self, chosen: Mapping[Path, Any]) -> dict[str, Any]:
        """The configuration's keys that hold these places, with a value put into each."""
        values: dict[str, Any] = {}
        for path, value in chosen.items():
            values[path[0]] = _replaced(values.get(path[0], self._config[path[0]]), path[1:], value)
        return values


def _generator(seed: int, combination: Mapping[str, Any]) -> np.random.Generator:
    import numpy as np

    if not combination:
        return np.random.default_rng(seed)
    digest = hashlib.sha256(canonical(combination).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def axis_name(path: Path) -> str:
    """``env_config.gravity`` for its path."""
    # RLlib keeps a few settings, such as the batch size, in attributes with an underscore.
    return ".".join(str(part) for part in path).lstrip("_")


def value_at(config: Any, path: Path) -> Any:
    """What nested dictionaries hold at a place."""
    for part in path:
        config = config[part]
    return config


def _replaced(container: Any, path: Path, value: Any) -> Any:
    """A copy of nested dictionaries and lists with another value at one place."""
    if not path:
        return value
    new = _replaced(container[path[0]], path[1:], value)
    if isinstance(container, Mapping):
        return {**container, path[0]: new}
    return type(container)(new if index == path[0] else item for index, item in enumerate(container))
