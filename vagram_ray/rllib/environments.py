"""Environments as RLlib users give them: classes, functions, class paths, and names of ``ray.tune.register_env``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from vagram_ray.envs.errors import EnvironmentSpecError
from vagram_ray.envs.naming import find_imported, is_in_file
from vagram_ray.ray_internals import registered_environment
from vagram_ray.text import first_line


@dataclass(frozen=True)
class Creator:
    """Makes an environment as RLlib does, by a call with the ``env_config`` as its one argument, an ``EnvContext``."""

    create: Callable[[Any], Any]

    def __call__(self, env_config: Mapping[str, Any]) -> Any:
        """A new environment."""
        from ray.rllib.env.env_context import EnvContext

        return self.create(EnvContext(dict(env_config), worker_index=0, num_workers=0))


def find_creator(env: Any, *, imports: bool = True) -> Creator | None:
    """What makes an environment, None where Gymnasium does.

    Names are looked up as in RLlib: those of ``ray.tune.register_env`` first, then Gymnasium's ids, then class paths.

    Args:
        env: A class or function, or a name.
        imports: Whether the module of a class path is imported.

    Raises:
        EnvironmentSpecError: The module of a class path cannot be imported, or has no such class.
    """
    if not isinstance(env, str):
        return Creator(env)
    if (registered := registered_environment(env)) is not None:
        return Creator(registered)
    if env.rpartition(":")[2] in gym.registry:
        return None
    if (found := find_imported(env)) is not None:
        return Creator(found)
    return Creator(_imported(env)) if imports and _is_class_path(env) else None


def missing_module(env: Any) -> str:
    """The module or file that has to be imported for this environment, and is not, empty if nothing is missing."""
    if not isinstance(env, str) or find_creator(env, imports=False) is not None:
        return ""
    module = env.rpartition(":")[0]
    if not module and env not in gym.registry and _is_class_path(env):
        module = env.rpartition(".")[0]
    return "" if module in sys.modules else module


def _is_class_path(name: str) -> bool:
    return not is_in_file(name) and "." in name and all(part.isidentifier() for part in name.split("."))


def _imported(name: str) -> Any:
    module = name.rpartition(".")[0]
    try:
        importlib.import_module(module)
    except Exception as error:
        raise EnvironmentSpecError(
            f"environment {name!r} needs the module {module!r}, whose import fails: {first_line(error)}"
        ) from error
    if (found := find_imported(name)) is None:
        raise EnvironmentSpecError(f"environment {name!r} is not there: the module {module!r} has no such class")
    return found
