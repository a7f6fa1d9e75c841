"""Why an environment could not be made, in one sentence."""

from __future__ import annotations

import inspect
import re

import gymnasium as gym

from vagram_ray.text import first_line

UNEXPECTED_ARGUMENT = re.compile(r"unexpected keyword argument '(?P<name>\w+)'")


def why_not_made(env_id: str, error: Exception, kwargs_name: str) -> str:
    """One sentence on why ``gymnasium.make`` raised, with the way out. `kwargs_name` is what users call arguments."""
    unexpected = UNEXPECTED_ARGUMENT.search(str(error))
    if isinstance(error, TypeError) and unexpected:
        known = _argument_names(env_id)
        accepted = f"it accepts {', '.join(known)}" if known else "see its documentation for what it accepts"
        return f"environment {env_id!r} has no argument {unexpected['name']!r} (from {kwargs_name}): {accepted}"
    if isinstance(error, ImportError | gym.error.DependencyNotInstalled):
        newer = _newer_versions(env_id) if "only supported on" in str(error) else []
        way_out = (
            f"use {' or '.join(map(repr, newer))}"
            if newer
            else "install it (for MuJoCo environments: pip install 'gymnasium[mujoco]')"
        )
        return (
            f"environment {env_id!r} needs a package that is missing or of another version ({first_line(error)}): "
            f"{way_out}"
        )
    why = f"{type(error).__name__}: {first_line(error)}"
    return f"environment {env_id!r} could not be made ({why}): check {kwargs_name}"


def why_not_created(name: str, error: Exception, kwargs_name: str) -> str:
    """One sentence on why a class or function raised that was called with ``env_config``, with the way out."""
    line = first_line(error)
    if isinstance(error, TypeError) and "positional argument" in line:
        way_out = f"it is called with the dictionary {kwargs_name} as its one argument, as RLlib does: take it"
    else:
        way_out = f"check {kwargs_name}"
    return f"environment {name!r} could not be made ({type(error).__name__}: {line}): {way_out}"


def _newer_versions(env_id: str) -> list[str]:
    """Registered ids of the same environment with a higher version."""
    name, _, version = env_id.rpartition(":")[2].rpartition("-v")
    found = (re.fullmatch(re.escape(name) + r"-v(\d+)", key) for key in gym.registry)
    return sorted(match[0] for match in found if match and version.isdigit() and int(match[1]) > int(version))


def _argument_names(env_id: str) -> list[str]:
    """Names of the arguments of an environment's class, or none if they cannot be read."""
    try:
        entry_point = gym.spec(env_id.rpartition(":")[2]).entry_point
        creator = gym.envs.registration.load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        parameters = inspect.signature(creator).parameters.values()  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError, ValueError, gym.error.Error):
        return []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [*named, "max_episode_steps"]
