"""The one exception of the studies' commands."""

from __future__ import annotations

import click


class StudyError(click.ClickException):
    """A study cannot run as asked: one sentence that names the value and the way out; exit status 2."""

    exit_code = 2
