"""The exceptions of this package."""

from __future__ import annotations


class EnvironmentSpecError(ValueError):
    """An environment cannot be used as asked; the message is one sentence that names the value and the way out."""
