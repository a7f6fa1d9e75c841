"""The one error that a report shows to its user."""

from __future__ import annotations

import click


class ReportError(click.ClickException):
    """A source that cannot be read, or a comparison that makes no sense, in one sentence.

    The message names the offending value and the way out. On a command line it is shown without a traceback, with
    exit status 2 like the errors of a sweep.
    """

    exit_code = 2
