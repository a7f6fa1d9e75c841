"""Copies of some of a cohort's seeds, one helper for every class that holds something per seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from torch import Tensor, nn

T = TypeVar("T")


def copy_of_seeds(whole: T, index: Tensor, per_seed: Iterable[str] = (), **replaced: Any) -> T:
    """A copy of an object with some of its seeds.

    Args:
        whole: The object. It is left as it is.
        index: Positions (M,) of the seeds that are wanted.
        per_seed: Names of attributes with something for each seed. Rows of tensors are copied, lists are lists of the
            same items, other objects are asked for their own ``select_seeds``, None stays None.
        replaced: What other attributes are in the copy.

    Returns:
        The copy. It shares all other attributes with ``whole``.
    """
    selected = object.__new__(type(whole))
    for name, value in vars(whole).items():
        is_registry = isinstance(whole, nn.Module) and isinstance(value, dict)  # of parameters, buffers, submodules
        object.__setattr__(selected, name, value.copy() if is_registry else value)
    # As a module registers what it is given. Frozen dataclasses refuse the usual way.
    assign = setattr if isinstance(whole, nn.Module) else object.__setattr__
    for name in per_seed:
        assign(selected, name, _of_seeds(getattr(whole, name), index))
    for name, value in replaced.items():
        assign(selected, name, value)
    return selected


def _of_seeds(value: Any, index: Tensor) -> Any:
    if value is None:
        return None
    if isinstance(value, Tensor):
        return value[index]
    if isinstance(value, list):
        return [value[position] for position in index.tolist()]
    return value.select_seeds(index)
