"""Import of a user's own losses, termination functions and environments in every process that needs them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ray import cloudpickle

from vagram_ray.envs.naming import EXTENSION_MODULE


class ExtensionError(ValueError):
    """An extension cannot be imported. The message names it and the way out."""


def load_extensions(extensions: str | Iterable[str]) -> None:
    """Import each extension, once per process.

    An extension registers what it brings (``register_model_loss``, ``register_termination``,
    ``gymnasium.register``) when it is imported. A Tune trial is a process of its own, so the
    configuration carries the names and every process imports them before it looks anything up. A file imports modules
    that lie beside it.

    Args:
        extensions: ``"package.module"``, or ``"path/to/file.py"`` (relative paths count from the
            working directory, in a Tune trial from the original one). A single string is one extension.

    Raises:
        ExtensionError: If a file or module is missing or fails while it is imported.
    """
    names = (extensions,) if isinstance(extensions, str) else extensions
    if not isinstance(names, Iterable):
        raise ExtensionError(f"extensions={extensions!r} is not usable: name modules or .py files, one or several.")
    for extension in names:
        try:
            if extension.endswith(".py"):
                _import_file(_find_file(extension))
            else:
                importlib.import_module(extension)
        except ExtensionError:
            raise
        except Exception as error:
            raise ExtensionError(
                f"extensions: {extension!r} cannot be imported ({type(error).__name__}: {error}); "
                "name an importable module or an existing .py file."
            ) from error


def _find_file(extension: str) -> Path:
    # Tune moves a trial to a directory of its own and leaves the original one in the environment.
    origins = [Path.cwd(), Path(os.environ.get("TUNE_ORIG_WORKING_DIR", "."))]
    for origin in origins:
        path = (origin / Path(extension).expanduser()).resolve()
        if path.is_file():
            return path
    raise ExtensionError(
        f"extensions: there is no file {extension!r} (looked in {origins[0]}); give a path that exists on "
        "every machine of the sweep, or an importable module."
    )


def import_from_beside(file: Path) -> None:
    """Let this process import modules that lie beside ``file``, a whole path.

    Python does so for a script, and there its neighbours come first. Here installed packages do: ``mujoco.py`` is a
    good name for a sweep file.
    """
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))


def _import_file(path: Path) -> None:
    name = f"{EXTENSION_MODULE}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    import_from_beside(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ExtensionError(f"extensions: {str(path)!r} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    cloudpickle.register_pickle_by_value(module)  # others do not know it by that name before they load it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # a second attempt shall fail the same way, not find half a module
        raise
