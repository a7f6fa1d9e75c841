"""Names of the dimensions of an observation."""

from __future__ import annotations

_LEG = ("thigh", "leg", "foot")
_HOPPER = (
    "height", "torso angle", *(f"{part} angle" for part in _LEG),
    "x velocity", "z velocity", "torso ω", *(f"{part} ω" for part in _LEG),
)  # fmt: skip
_BOTH_LEGS = (*_LEG, *(f"left {part}" for part in _LEG))
_WALKER2D = (
    "height", "torso angle", *(f"{part} angle" for part in _BOTH_LEGS),
    "x velocity", "z velocity", "torso ω", *(f"{part} ω" for part in _BOTH_LEGS),
)  # fmt: skip
_CHEETAH_LEGS = tuple(f"{end} {part}" for end in ("back", "front") for part in ("thigh", "shin", "foot"))
_HALF_CHEETAH = (
    "height", "torso angle", *(f"{part} angle" for part in _CHEETAH_LEGS),
    "x velocity", "z velocity", "torso ω", *(f"{part} ω" for part in _CHEETAH_LEGS),
)  # fmt: skip
_ANT_JOINTS = tuple(f"{joint} {number}" for number in (1, 2, 3, 4) for joint in ("hip", "ankle"))
_ANT = (
    "height", *(f"torso quat. {part}" for part in "wxyz"), *(f"{joint} angle" for joint in _ANT_JOINTS),
    *(f"{axis} velocity" for axis in "xyz"), *(f"{axis} ω" for axis in "xyz"),
    *(f"{joint} ω" for joint in _ANT_JOINTS),
)  # fmt: skip
_SWIMMER = (
    "tip angle", "rotor 1 angle", "rotor 2 angle",
    "x velocity", "y velocity", "tip ω", "rotor 1 ω", "rotor 2 ω",
)  # fmt: skip

_NAMES: dict[str, tuple[str, ...]] = {
    "Pendulum": ("cos θ", "sin θ", "ω"),
    "ContinuousCartPole": ("cart position", "cart velocity", "pole angle", "pole ω"),
    "InvertedPendulum": ("cart position", "pole angle", "cart velocity", "pole ω"),
    "Hopper": _HOPPER,
    "Walker2d": _WALKER2D,
    "HalfCheetah": _HALF_CHEETAH,
    "Ant": _ANT,
    "Swimmer": _SWIMMER,
}
"""By environment, in the order of Gymnasium's documentation. ω is an angular velocity."""


def dimension_names(env_id: str, obs_dim: int, num_distractors: int) -> tuple[str, ...]:
    """A name for each of D dimensions, distractors last. ``obs 0``, ``obs 1``, ... where none is known.

    Args:
        env_id: Gymnasium id.
        obs_dim: D, distractors included.
        num_distractors: How many of the last dimensions are distractors.
    """
    own = obs_dim - num_distractors
    names = _NAMES.get(env_id.rpartition(":")[2].rpartition("-v")[0], ())
    if len(names) != own:  # arguments of the environment may add dimensions or leave some out
        names = tuple(f"obs {index}" for index in range(own))
    return (*names, *(f"distractor {index}" for index in range(num_distractors)))
