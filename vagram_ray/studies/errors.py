"""The one exception of the studies' commands."""

from __future__ import annotations

from vagram_ray.commands import InputError


class StudyError(InputError):
    """A study cannot run as asked: one sentence that names the value and the way out. Exit status 2."""
