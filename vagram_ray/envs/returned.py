"""What an environment returns: the form that Gymnasium asks for, and numbers that are finite in float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

STEP_FORM = "(observation, reward, terminated, truncated, info)"
RESET_FORM = "(observation, info)"
_LONGEST = 120


def wrong_reset(result: Any, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the form of what ``reset`` returned, as the end of a sentence, or None if nothing is."""
    if not isinstance(result, tuple) or len(result) != 2:
        return f"returned {describe(result)} from reset, but {RESET_FORM} is wanted"
    return _wrong_observation(result[0], shape, "reset")


def wrong_step(result: Any, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the form of what ``step`` returned, as the end of a sentence, or None if nothing is."""
    if not isinstance(result, tuple) or len(result) != 5:
        return f"returned {describe(result)} from step, but {STEP_FORM} is wanted"
    obs, reward, terminated, truncated, _ = result
    problem = _wrong_observation(obs, shape, "step")
    if problem:
        return problem
    if reward is not None and not (np.shape(reward) == () and _is_number(reward)):
        return f"returned the reward {describe(reward)}, but one number is wanted, such as float(reward)"
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        if not (np.shape(value) == () and _is_number(value)):
            return f"returned {name}={describe(value)}, but True or False is wanted"
    return None


def not_finite(obs: Any, reward: Any = 0.0) -> str | None:
    """Which number is not finite in float32, as the end of a sentence, or None if all are. The form has to be right."""
    with np.errstate(over="ignore"):
        cast = np.asarray(obs, dtype=np.float32)
        reward_cast = math.nan if reward is None else float(np.float32(reward))
    if not np.isfinite(cast).all():
        exact = np.asarray(obs, dtype=np.float64)
        where = ", ".join(f"{exact[i]:g} in dimension {i}" for i in np.flatnonzero(~np.isfinite(cast))[:5])
        return f"returned the observation {describe(obs)} ({where}), but finite float32 numbers are wanted"
    if not math.isfinite(reward_cast):
        return f"returned the reward {describe(reward)}, but a finite float32 number is wanted"
    return None


def describe(value: Any) -> str:
    """A value in a few words: an array as its numbers (or its shape if they are many), others by their kind."""
    if isinstance(value, tuple) and not all(np.isscalar(item) for item in value):
        return f"a tuple of {len(value)}"
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"an array of shape {value.shape}"
    text = " ".join(repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value).split())
    return text if len(text) <= _LONGEST else f"{type(value).__name__} {text[:_LONGEST]}..."


def _wrong_observation(obs: Any, shape: tuple[int, ...], method: str) -> str | None:
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(obs, dtype=np.float32).shape
    except (TypeError, ValueError):
        return f"returned the observation {describe(obs)} from {method}, but {shape[0]} numbers are wanted"
    if np.iscomplexobj(obs) or np.ma.is_masked(obs):  # NumPy would leave out a part, or show what the mask hides
        return f"returned the observation {describe(obs)} from {method}, but {shape[0]} real numbers are wanted"
    if obs is None or found != shape:
        of_shape = "" if obs is None else f" of shape {found}"
        return (
            f"returned the observation {describe(obs)}{of_shape} from {method}, but shape {shape} is wanted, as its "
            "observation_space declares"
        )
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, str | bytes) or value is np.ma.masked:
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
