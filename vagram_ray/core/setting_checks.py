"""Checks of single settings. A dataclass field says what its values may be: its annotation the type, its metadata the
range.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Schedule = tuple[float, float, float, float]
"""``(first_epoch, last_epoch, first_value, last_value)``: linear between the epochs, constant outside."""


class SettingsError(ValueError):
    """A hyperparameter has a value that cannot work. The message names it and the way out."""


def setting(
    default: Any,
    *,
    group: str = "",
    lasting: bool = False,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    hint: str = "",
) -> Any:
    """A dataclass field with its group and its range.

    Args:
        default: The default value. A dictionary is copied for each instance.
        group: What the setting speaks of (``fields_of_group``).
        lasting: Whether saved networks go on with the value that they have been trained with alone.
        low: Smallest value.
        above: The value is larger than this.
        high: Largest value.
        below: The value is smaller than this.
        hint: End of the sentence that refuses other values.
    """
    limits = {"low": low, "above": above, "high": high, "below": below}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    metadata = {"group": group, "lasting": lasting, "limits": given, "hint": hint}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def fields_of_group(cls: type, group: str) -> frozenset[str]:
    """Names of the fields of a group."""
    return frozenset(field.name for field in dataclasses.fields(cls) if field.metadata.get("group") == group)


def lasting_fields(cls: type) -> tuple[str, ...]:
    """Names of the fields that saved networks go on with as they are alone, in order."""
    return tuple(field.name for field in dataclasses.fields(cls) if field.metadata.get("lasting"))


def check_fields(settings: Any) -> None:
    """Check each field of a dataclass instance by itself. Sequences are kept as tuples, mappings as copies.

    Raises:
        SettingsError: For the first value that cannot work.
    """
    annotations = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, annotation = getattr(settings, field.name), annotations[field.name]
        limits, hint = field.metadata.get("limits", {}), field.metadata.get("hint", "")
        if annotation == Schedule:
            wanted, usable = _check_schedule(value, limits)
        elif annotation == tuple[int, ...]:
            wanted, usable = _check_sizes(value)
        elif get_origin(annotation) is Mapping:
            wanted, usable = "numbers by name, for example {'mse_weight': 0.01}", isinstance(value, Mapping)
        else:
            wanted, usable = _check_plain(value, annotation, limits)
        require(usable, field.name, value, f"needs {wanted}{hint}")
        if isinstance(value, Mapping):
            object.__setattr__(settings, field.name, dict(value))  # the dataclass is frozen
        elif isinstance(value, Sequence) and not isinstance(value, str):
            object.__setattr__(settings, field.name, tuple(value))


def require(condition: bool, name: str, value: Any, rule: str) -> None:
    """Raise ``SettingsError`` unless the condition holds. The rule is the end of the sentence after the name."""
    if not condition:
        raise SettingsError(f"{name}={value!r} is not usable: {name} {rule}.")


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number. Booleans are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number. Booleans are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_plain(value: Any, annotation: Any, limits: Mapping[str, float]) -> tuple[str, bool]:
    """The requirement of a type in words, and whether the value meets it."""
    usable, words = False, []
    for kind in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,):
        if get_origin(kind) is Literal:
            usable |= isinstance(value, str) and value in get_args(kind)
            words += [repr(choice) for choice in get_args(kind)]
        elif kind in (int, float):
            usable |= (is_integer(value) if kind is int else is_number(value)) and _within(value, limits)
            words.append(("a whole number" if kind is int else "a number") + _range_words(limits))
        else:
            usable |= isinstance(value, kind)
            words += {bool: ["True", "False"], NoneType: ["None"], str: ["a text"]}[kind]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1]))), usable


def _check_schedule(value: Any, limits: Mapping[str, float]) -> tuple[str, bool]:
    usable = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 4
    usable = usable and all(map(is_number, value)) and value[0] <= value[1]
    usable = usable and all(_within(each, limits) for each in value[2:])
    return f"(first_epoch, last_epoch, first_value, last_value) with first <= last epoch{_values_words(limits)}", usable


def _check_sizes(value: Any) -> tuple[str, bool]:
    usable = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    usable = usable and all(is_integer(size) and size >= 1 for size in value)
    return "one positive whole number per hidden layer, for example (256, 256)", usable


def _within(value: float, limits: Mapping[str, float]) -> bool:
    return (
        value >= limits.get("low", -math.inf)
        and value > limits.get("above", -math.inf)
        and value <= limits.get("high", math.inf)
        and value < limits.get("below", math.inf)
    )


def _range_words(limits: Mapping[str, float]) -> str:
    """For example `` of at least 1`` or `` above 0 and up to 1``."""
    if set(limits) == {"low", "high"}:
        return f" between {limits['low']:g} and {limits['high']:g}"
    words = {"low": "of at least", "above": "above", "high": "up to", "below": "below"}
    listed = " and ".join(f"{words[name]} {limit:g}" for name, limit in limits.items())
    return f" {listed}" if listed else ""


def _values_words(limits: Mapping[str, float]) -> str:
    return f" and values{_range_words(limits)}" if limits else ""
