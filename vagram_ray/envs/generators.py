"""States of an environment's random generators: what a checkpoint saves of them, and which cannot be saved."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np

Generator: TypeAlias = np.random.Generator | np.random.RandomState | random.Random

_WANTED = (
    "needs np_random to be gymnasium.Env's own (super().reset(seed=seed) seeds it), another numpy.random.Generator, a "
    "numpy.random.RandomState or a random.Random, or methods get_generator_state and set_generator_state"
)
_OF_THE_PROCESS = (np.random.mtrand._rand, random._inst)


def layers(env: gym.Env) -> Iterator[gym.Env]:
    """The wrappers of an environment from the outermost inwards, then the environment itself."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def why_not_saved(env: gym.Env) -> str | None:
    """Why the random generators of `env` cannot be saved, as the end of a sentence, or None if they can."""
    if _has_own_state(env.unwrapped):
        return None
    found = _main_generator(env)
    if any(found is one for one in _OF_THE_PROCESS):
        return f"draws from the process's global generator, which all environments share, and {_WANTED}"
    if not isinstance(found, Generator) or isinstance(found, random.SystemRandom):
        return f"has np_random={found!r}, whose state cannot be saved in checkpoints, and {_WANTED}"
    return None


def get_generator_states(env: gym.Env) -> dict[str, Any]:
    """States of all generators of `env`, as a dict that JSON can hold.

    Those are ``np_random``, what a layer's own ``get_generator_state`` returns, and generators that are attributes of
    a layer without that method.
    """
    main = _main_generator(env)
    states = {
        "np_random": state_of(main) if is_saved(main) else None,
        "layers": [plain(layer.get_generator_state()) if _has_own_state(layer) else None for layer in layers(env)],  # type: ignore[attr-defined]
    }
    attributes = [{name: state_of(found) for name, found in _attributes(layer, main)} for layer in layers(env)]
    return {**states, "attributes": attributes} if any(attributes) else states


def set_generator_states(env: gym.Env, states: dict[str, Any]) -> None:
    """Take over what `get_generator_states` of the same environment returned."""
    main = _main_generator(env)
    if states["np_random"] is not None:
        _set_state(main, states["np_random"])
    for layer, saved in zip(layers(env), states["layers"], strict=True):
        if _has_own_state(layer):
            layer.set_generator_state(saved)  # type: ignore[attr-defined]
    for layer, own in zip(layers(env), states.get("attributes", ()), strict=False):
        found = dict(_attributes(layer, main))
        for name, saved in own.items():
            if name in found:
                _set_state(found[name], saved)


def _main_generator(env: gym.Env) -> Any:
    return getattr(env.unwrapped, "np_random", None)


def is_saved(value: Any) -> bool:
    """Whether this is a generator whose state is saved where it is ``np_random`` or an attribute of a layer."""
    return (
        isinstance(value, Generator)
        and not isinstance(value, random.SystemRandom)
        and not any(value is one for one in _OF_THE_PROCESS)
    )


def _has_own_state(layer: gym.Env) -> bool:
    """Whether the layer's own class has the methods (attribute access would find the wrapped environment's too)."""
    return hasattr(type(layer), "get_generator_state") and hasattr(type(layer), "set_generator_state")


def _attributes(layer: gym.Env, main: Any) -> list[tuple[str, Generator]]:
    """Generators that are attributes of a layer, but for the main one."""
    if _has_own_state(layer):
        return []
    return [(name, value) for name, value in vars(layer).items() if value is not main and is_saved(value)]


def state_of(generator: Generator) -> Any:
    """The state of a generator, as JSON can hold it."""
    if isinstance(generator, np.random.Generator):
        return plain(generator.bit_generator.state)
    if isinstance(generator, np.random.RandomState):
        return plain(generator.get_state(legacy=False))
    version, numbers, gauss = generator.getstate()
    return [version, list(numbers), gauss]


def _set_state(generator: Generator, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        version, numbers, gauss = state
        generator.setstate((version, tuple(numbers), gauss))


def plain(value: Any) -> Any:
    """NumPy values, also inside dicts and lists, as Python's own: JSON and PyTorch's ``weights_only`` read them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value
