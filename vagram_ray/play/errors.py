"""The one exception of this package."""

from __future__ import annotations

from vagram_ray.commands import InputError


class PlayError(InputError):
    """What was asked for cannot be shown: one sentence that names the value and the way out. Exit status 2."""
