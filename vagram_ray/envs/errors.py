"""The exceptions of this package."""

from __future__ import annotations


class EnvironmentSpecError(ValueError):
    """An environment cannot be used as asked. The message is one sentence that names the value and the way out."""


class EnvironmentReturnError(RuntimeError):
    """An environment returned what it must not in the midst of training.

    The message is one sentence: environment, seed, step, what was returned and what is wanted.
    """
