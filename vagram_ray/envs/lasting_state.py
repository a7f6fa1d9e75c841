"""State of an environment that a reset does not clear: what a checkpoint saves of it, and what it cannot save.

Saved is what Gymnasium's wrappers keep, and what a wrapper or environment of one's own gives by two methods:
``get_state()``, which returns what JSON can hold (arrays become lists), and ``set_state(state)``, which takes it over
before a reset. Random generators are saved apart from it (``vagram_ray.envs.generators``).
"""

from __future__ import annotations

import inspect
import json
import random
import sys
from collections import deque
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import wrappers
from gymnasium.wrappers.utils import RunningMeanStd

from vagram_ray.envs.generators import get_generator_states, is_saved, layers, plain, set_generator_states, state_of
from vagram_ray.envs.spaces import middle_action

_OF_GYMNASIUM: dict[type, tuple[str, ...]] = {
    wrappers.NormalizeObservation: ("obs_rms", "_update_running_mean"),
    wrappers.NormalizeReward: ("return_rms", "discounted_reward", "_update_running_mean"),
    wrappers.RecordEpisodeStatistics: ("episode_count", "time_queue", "return_queue", "length_queue"),
    wrappers.RecordVideo: ("episode_id", "step_id"),
}
"""Attributes that outlast a reset. Those of Gymnasium's other wrappers begin anew with it."""
_RUNNING = ("mean", "var", "count")
_STEPS = 3
_DEEPEST = 4
"""Objects within objects that are looked into."""


def get_lasting_states(env: gym.Env) -> list[dict[str, Any] | None]:
    """State that outlasts a reset of each layer, from the outermost inwards, or None where nothing is saved."""
    return [_layer_state(layer) or None for layer in layers(env)]


def set_lasting_states(env: gym.Env, states: Sequence[dict[str, Any] | None]) -> None:
    """Take over what `get_lasting_states` of the same environment returned."""
    for layer, state in zip(layers(env), states, strict=True):
        if not state:
            continue
        attributes = state.get("attributes", {})
        for name in set(_known(layer)) & set(attributes):  # no other, whatever a file says
            setattr(layer, name, _decoded(vars(layer)[name], attributes[name]))
        if "own" in state:
            layer.set_state(state["own"])  # type: ignore[attr-defined]


def unsaved_state(env: gym.Env) -> list[str]:
    """Names of attributes that are not saved, and differ between two starts of episodes with equal generators.

    Either they outlast a reset, or they depend on random numbers from elsewhere. Generators of the whole process that
    were used are named, too. Steps `env` a few times. What changes late in episodes, or in code that is not Python's,
    is not seen.
    """
    starts, space, of_process = [], env.action_space, _process_generators()
    assert isinstance(space, gym.spaces.Box)
    generators = get_generator_states(env)
    for _ in range(2):
        set_generator_states(env, generators)
        env.reset()
        starts.append([_fingerprints(layer) for layer in layers(env)])
        for _ in range(_STEPS):
            _, _, terminated, truncated, _ = env.step(middle_action(space))
            if terminated or truncated:
                break
    found = [name for name, state in _process_generators().items() if of_process.get(name) != state]
    for layer, before, after in zip(layers(env), *starts, strict=True):
        name = type(layer).__name__
        found += [f"{name}.{key}" for key in before | after if before.get(key) != after.get(key)]
        if _has_methods(layer) and _own_state(layer) is None:
            found.append(f"{name}.get_state() (JSON cannot hold what it returns)")
    return found


# -- saving ----------------------------------------------------------------------------------------------------


def _layer_state(layer: gym.Env) -> dict[str, Any]:
    attributes = {name: _encoded(vars(layer)[name]) for name in _known(layer)}
    state: dict[str, Any] = {"attributes": attributes} if attributes else {}
    own = _own_state(layer)
    return state if own is None else {**state, "own": own}


def _known(layer: gym.Env) -> list[str]:
    names = [names for kind, names in _OF_GYMNASIUM.items() if isinstance(layer, kind)]
    return [name for own in names for name in own if name in vars(layer)]


def _has_methods(layer: gym.Env) -> bool:
    """Whether the layer's own class has the two methods, with these arguments: MuJoCo's `set_state` is another one."""
    kind = type(layer)
    try:
        inspect.signature(kind.get_state).bind(layer)  # type: ignore[attr-defined]
        inspect.signature(kind.set_state).bind(layer, {})  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def _own_state(layer: gym.Env) -> Any:
    """What the layer's ``get_state`` returns, or None without the methods, and where JSON cannot hold it."""
    if not _has_methods(layer):
        return None
    state = plain(layer.get_state())  # type: ignore[attr-defined]
    try:
        json.dumps(state)
    except (TypeError, ValueError, RecursionError):
        return None
    return state


def _encoded(value: Any) -> Any:
    if isinstance(value, RunningMeanStd):
        return {name: _encoded(getattr(value, name)) for name in _RUNNING}
    if isinstance(value, np.ndarray | np.generic):
        return {"dtype": str(value.dtype), "values": value.tolist()}
    if isinstance(value, deque):
        return [plain(item) for item in value]
    return value


def _decoded(current: Any, saved: Any) -> Any:
    if isinstance(current, RunningMeanStd):
        for name in _RUNNING:
            setattr(current, name, _decoded(getattr(current, name), saved[name]))
        return current
    if isinstance(saved, dict):
        array = np.asarray(saved["values"], dtype=saved["dtype"])
        if array.shape != np.shape(current):
            raise ValueError(f"{array.shape} numbers where {np.shape(current)} are expected")
        return array
    return deque(saved, maxlen=current.maxlen) if isinstance(current, deque) else saved


# -- what is left ----------------------------------------------------------------------------------------------


def _process_generators() -> dict[str, Any]:
    """States of the generators that all of this process shares."""
    states = {"numpy.random": repr(state_of(np.random.mtrand._rand)), "random": random.getstate()}
    if (torch := sys.modules.get("torch")) is not None:
        states["torch.random"] = torch.random.get_rng_state().tolist()
    return states


def _fingerprints(layer: gym.Env) -> dict[str, Any]:
    """The content of each attribute of a layer, without those that are saved or do not matter."""
    if type(layer).__module__.startswith("gymnasium.wrappers.") or _has_methods(layer):
        return {}
    known = {"env", "spec", *_known(layer)}
    return {
        name: _fingerprint(value, _DEEPEST, {id(layer)})
        for name, value in vars(layer).items()
        if name not in known and not name.startswith("_cached_") and not is_saved(value)
    }


def _fingerprint(value: Any, depth: int, within: set[int]) -> Any:
    """Equal for equal content. What cannot be looked into counts by its kind alone."""
    kind = type(value).__name__
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return kind, repr(value)
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return kind, str(value.dtype), value.shape, value.tobytes()
    if is_saved(value):  # not where it is saved
        return kind, repr(state_of(value))
    if isinstance(value, gym.Space):  # it draws samples with a generator of its own
        return kind, repr(state_of(value.np_random))
    if isinstance(value, np.random.BitGenerator | gym.Env | type | ModuleType) or inspect.isroutine(value):
        return kind
    if id(value) in within or not depth:
        return kind
    within = within | {id(value)}
    if isinstance(value, dict):
        return kind, [(repr(key), _fingerprint(item, depth - 1, within)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque):
        return kind, [_fingerprint(item, depth - 1, within) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(map(repr, value))
    inside = getattr(value, "__dict__", {})
    return kind, [(name, _fingerprint(item, depth - 1, within)) for name, item in inside.items()]
