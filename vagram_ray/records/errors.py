"""The error of everything that has to do with a sweep."""

from vagram_ray.commands import InputError


class SweepError(InputError):
    """Input that cannot work: one sentence that names the value and the way out. Exit status 2."""
