"""The files that a sweep leaves, written and read in one place. Needs neither Ray nor PyTorch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vagram_ray.records.errors import SweepError

if TYPE_CHECKING:
    from vagram_ray.records.folder import SweepFolder
    from vagram_ray.records.results import SweepResults
    from vagram_ray.records.trials import TrialRecords

__all__ = ["SweepError", "SweepFolder", "SweepResults", "TrialRecords"]

_NEED_NUMPY = {"SweepFolder": "folder", "SweepResults": "results", "TrialRecords": "trials"}
"""Imported when they are asked for: a sweep file and the command's help need no arrays."""


def __getattr__(name: str) -> Any:
    if name not in _NEED_NUMPY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NEED_NUMPY[name]}"), name)
    globals()[name] = value
    return value
