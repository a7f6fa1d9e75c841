"""Names of environments that are given as classes and functions: what records, checkpoints and messages call them.

A name says where the class can be found again: ``"package.module.Kite"`` in a module, ``"my_sweep.py:Kite"`` in a file
that is executed (a sweep file, an extension, a script). It is the same in every process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from vagram_ray.envs.errors import EnvironmentSpecError

SWEEP_MODULE = "vagram_ray_sweep_file"
"""Name under which a sweep file is put in ``sys.modules``."""
EXTENSION_MODULE = "vagram_ray_extension_"
"""How the names begin under which extensions that are files are put there."""
_OF_FILES = ("__main__", SWEEP_MODULE, EXTENSION_MODULE)

Environment: TypeAlias = str | Callable[..., Any]
"""A name, or a class or function that makes an environment."""


def environment_name(env: Any) -> str:
    """The name of an environment. A string is one already.

    Raises:
        EnvironmentSpecError: It has none to be found by again, and the message says what to give.
    """
    if isinstance(env, str):
        return env
    name = getattr(env, "__qualname__", None)
    if not callable(env) or name is None or "<lambda>" in name:
        raise EnvironmentSpecError(
            f"env={env!r} has no name to find it by again: give a Gymnasium id such as 'Hopper-v4', a class, a "
            "function with a name, or the name under which ray.tune.register_env knows a creator"
        )
    module = str(env.__module__)
    return f"{_file_of(env)}:{name}" if module.startswith(_OF_FILES) else f"{module}.{name}"


def is_in_file(name: str) -> bool:
    """Whether this is the name of a class or function in a file that is executed."""
    head = name.rpartition(":")[0]
    return head.endswith(".py") or head == "__main__"


def find_imported(name: str) -> Any:
    """The class or function of this name in what this process has imported so far, None if it is not there."""
    if is_in_file(name):
        file, _, path = name.rpartition(":")
        return next((found for module in _modules_of(file) if (found := _attribute(module, path)) is not None), None)
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):  # classes may lie within classes
        if (module := sys.modules.get(".".join(parts[:end]))) is not None:
            return _attribute(module, ".".join(parts[end:]))
    return None


def _attribute(module: Any, path: str) -> Any:
    found = module
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None


def _modules_of(file: str) -> Iterator[Any]:
    """Modules of this process that were executed from a file of this name, then others of files (a copy of it)."""
    of_files = [module for name, module in list(sys.modules.items()) if name.startswith(_OF_FILES)]
    yield from (module for module in of_files if os.path.basename(getattr(module, "__file__", None) or "") == file)
    yield from of_files


def _file_of(env: Any) -> str:
    """Name of the file that defines a class or function, as its code knows it: also in a process that got a copy."""
    members = vars(env).values() if isinstance(env, type) else [env]
    files = (getattr(getattr(member, "__code__", None), "co_filename", None) for member in members)
    file = next((found for found in files if found), "")
    # The cells of a notebook have names that change each time.
    named = file.endswith(".py") and "ipykernel" not in file
    return os.path.basename(file) if named else "__main__"
