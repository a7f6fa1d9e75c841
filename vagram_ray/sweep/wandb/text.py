"""Values and texts in the form in which Weights & Biases takes them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested dicts of numbers as one dict with ``/`` in its keys; NaN and whatever is no number is left out."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
            continue
        if getattr(value, "shape", None) == ():  # NumPy scalar, array or tensor of no dimension
            value = value.item()
        if isinstance(value, bool):
            value = int(value)
        if isinstance(value, int | float) and not math.isnan(value):
            flat[f"{prefix}{key}"] = value
    return flat


def jsonable(value: Any) -> Any:
    """``value`` as JSON can hold it: tuples become lists, and what JSON does not know becomes a string."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(entry) for entry in value]
    if callable(value) and hasattr(value, "__qualname__"):  # str() of a function holds an address
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def slug(text: str) -> str:
    """``text`` with letters, digits, dots, underscores and single dashes only, as W&B's ids and artifacts want it."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")


def digest(text: str, length: int) -> str:
    """``length`` hexadecimal digits that depend on all of ``text``."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:length]


def sweep_digest(sweep_id: str) -> str:
    """What the ids of all runs of a sweep have in common."""
    return digest(f"sweep {sweep_id}", 6)


def sweep_tag(sweep_id: str) -> str:
    """The tag of all runs of a sweep, and of no other sweep's."""
    return f"id-{sweep_digest(sweep_id)}"
