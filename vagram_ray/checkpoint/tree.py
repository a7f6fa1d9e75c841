"""Nested state (dicts and lists of tensors and plain values) as plain JSON and a flat dict of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

TENSOR, FLOAT = "$tensor", "$float"
"""Keys of the one-entry dicts that stand for a tensor (its name) and for a number that JSON has no word for."""


def split_tree(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """Plain JSON with names in place of tensors, and the tensors by name, on the CPU and contiguous.

    Tensors that are on the CPU and contiguous already are not copied. Tuples become lists.

    Raises:
        TypeError: A value is neither a tensor nor plain. The message names where it lies.
    """
    tensors: dict[str, Tensor] = {}
    return _split(tree, "", tensors), tensors


def join_tree(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree of ``split_tree``.

    Raises:
        KeyError: A tensor that the plain part names is not there.
    """
    if isinstance(plain, dict):
        if len(plain) == 1:
            [(key, value)] = plain.items()
            if key == TENSOR:
                return tensors[value]
            if key == FLOAT:
                return float(value)
        return {key: join_tree(value, tensors) for key, value in plain.items()}
    if isinstance(plain, list):
        return [join_tree(value, tensors) for value in plain]
    return plain


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous()
        return {TENSOR: path}
    if isinstance(value, Mapping):
        if any(not isinstance(key, str) or key in (TENSOR, FLOAT) for key in value):
            raise TypeError(f"{path or 'the state'} has keys that are no plain names: {list(value)!r}.")
        return {key: _split(item, f"{path}/{key}" if path else key, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_split(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path or 'the state'} is a {type(value).__name__}, which is neither a tensor nor a plain value.")
