"""The one exception of this package."""

from __future__ import annotations

import click


class PlayError(click.ClickException):
    """What was asked for cannot be shown: one sentence that names the value and the way out; exit status 2."""

    exit_code = 2
