"""An estimate with its interval, and how it is shown."""

from __future__ import annotations

import math
from typing import NamedTuple

from vagram_ray.text import format_number


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval, or NaN where there are too few seeds."""

    value: float
    low: float
    high: float


def format_interval(interval: Interval) -> str:
    """``8.7 [-39.0, 82.5]``: all three with the digits that the largest needs, ``-`` for what is not there."""
    if math.isnan(interval.value):
        return "-"
    if math.isnan(interval.low):
        return format_number(interval.value)
    return f"{_digits(interval.value, interval)} {format_ends(interval)}"


def format_ends(interval: Interval) -> str:
    """``[-39.0, 82.5]``, or ``-`` where there are too few seeds for an interval."""
    if math.isnan(interval.low):
        return "-"
    return f"[{_digits(interval.low, interval)}, {_digits(interval.high, interval)}]"


def _digits(value: float, interval: Interval) -> str:
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "never"  # an infinite end is a number of steps that does not suffice
    largest = max(abs(number) for number in interval if math.isfinite(number))
    if largest < 1:
        return f"{value:.3g}"
    decimals = 0 if largest >= 100 else 1 if largest >= 10 else 2
    return f"{value:,.{decimals}f}" if round(value, decimals) else f"{0:.{decimals}f}"  # never -0


def format_probability(interval: Interval) -> str:
    """``0.75 [0.47, 0.97]``."""
    if math.isnan(interval.value):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
