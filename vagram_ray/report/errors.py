"""The one error that a report shows to its user."""

from __future__ import annotations

from vagram_ray.commands import InputError


class ReportError(InputError):
    """A source that cannot be read, or a comparison that makes no sense, in one sentence.

    The message names the offending value and the way out. On a command line it is shown without a traceback, with
    exit status 2 like the errors of a sweep.
    """
