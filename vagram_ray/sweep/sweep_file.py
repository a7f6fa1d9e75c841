"""Sweep files: the paper's, which come with the package, a copy of one to edit, and how any is loaded."""

from __future__ import annotations

import ast
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import vagram_ray
from vagram_ray.envs.naming import SWEEP_MODULE
from vagram_ray.sweep.spec import Sweep, SweepError, describe
from vagram_ray.text import did_you_mean


def packaged_sweeps() -> dict[str, Path]:
    """Sweep files of the package by name.

    They lie in ``tune_configs/`` at the top of a clone, and a wheel has them within the package.
    """
    package = Path(vagram_ray.__file__).parent
    places = (package / "tune_configs", package.parent / "tune_configs")
    folder = next((place for place in places if place.is_dir()), None)
    return {} if folder is None else {file.stem: file for file in sorted(folder.glob("*.py"))}


def describe_sweep_file(file: Path) -> str:
    """The ``description`` that a file gives its ``Sweep(...)``, read without running the file, empty if it has none."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Sweep":
            for keyword in node.keywords:
                if keyword.arg == "description" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
    return ""


def find_sweep_file(text: str) -> Path:
    """The file that a command line means: a path, or the name of a packaged sweep file.

    A path that exists comes first. A name is a word without a folder and without ``.py``.

    Raises:
        SweepError: ``text`` is such a word, and neither a path nor a packaged sweep has that name.
    """
    path, sweeps = Path(text), packaged_sweeps()
    if path.is_file() or "/" in text or path.name != text or path.suffix or not text:
        return path
    if text in sweeps:
        return sweeps[text]
    if path.exists():
        return path
    hint = did_you_mean(text, sweeps, most=1)
    listed = "`vagram-sweep --list` shows those of the package."
    raise SweepError(
        f"There is no sweep file and no packaged sweep at {text!r}: {f'{hint} {listed}' if hint else listed}"
    )


def copy_sweep_file(name: str, destination: Path) -> Path:
    """Write a packaged sweep file out, to be edited. Returns where.

    Args:
        name: Name of the packaged sweep file.
        destination: A folder that exists, or the path of the new file, which ends with ``.py``.

    Raises:
        SweepError: There is no such sweep, ``destination`` is neither, or something is there already.
    """
    sweeps = packaged_sweeps()
    if name not in sweeps:
        raise SweepError(f"--copy {name!r}: no packaged sweep has that name; there are {', '.join(sweeps)}.")
    target = destination / f"{name}.py" if destination.is_dir() else destination
    if target.suffix != ".py":
        raise SweepError(
            f"--copy {name} {str(destination)!r}: give a folder that exists, or a new file that ends with .py."
        )
    try:
        with target.open("x", encoding="utf-8") as file:  # "x": nothing is ever written over
            file.write(sweeps[name].read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise SweepError(
            f"{str(target)!r} is there already and is left as it is; give another name or folder."
        ) from error
    except OSError as error:
        raise SweepError(f"{str(target)!r} cannot be written: {error.strerror}.") from error
    return target


# -- loading ---------------------------------------------------------------------------------------------------------


def load_sweep_file(path: str | Path) -> Sweep:
    """Execute a sweep file and return its ``SWEEP``.

    The file may lie anywhere. It becomes the module ``SWEEP_MODULE`` of this process, so what it defines
    can be pickled. What it registers (a loss, a termination function, an environment) is registered in the
    trials' processes too: the file is then one of the configuration's extensions. It imports modules that lie beside
    it.

    Raises ``SweepError`` for a path that is no Python file, a file that raises, and one without a sweep.
    """
    file = Path(path)
    if not file.exists():
        raise SweepError(f"There is no sweep file at {str(path)!r}; `vagram-sweep --list` shows those of the paper.")
    if not file.is_file() or file.suffix != ".py":
        raise SweepError(f"{str(path)!r} is not a Python file; a sweep is defined in a file that ends with .py.")
    before = _registrations()
    module = _execute(file)
    sweep = getattr(module, "SWEEP", None)
    if sweep is None:
        raise SweepError(
            f"{str(path)!r} defines no sweep; assign SWEEP = Sweep(name=..., config=..., epochs=...) in it."
        )
    if not isinstance(sweep, Sweep):
        raise SweepError(f"SWEEP in {str(path)!r} is of type {type(sweep).__name__}; it has to be a Sweep(...).")
    if _registrations() != before:
        config = sweep.config.copy(copy_frozen=False)
        own = (config.extensions,) if isinstance(config.extensions, str) else tuple(config.extensions)
        return replace(sweep, config=config.training(extensions=(*own, str(file.resolve()))))
    return sweep


def _registrations() -> dict[str, Mapping[str, Any]]:
    """What the registries hold by now: losses, termination functions, environments."""
    import gymnasium

    import vagram_ray.rllib  # noqa: F401  # what it registers itself is there before the sweep file runs
    from vagram_ray.core import model_losses
    from vagram_ray.envs import terminations
    from vagram_ray.ray_internals import registered_environments

    return {
        "losses": dict(model_losses._REGISTRY),
        "terminations": dict(terminations._BUILDERS),
        "environments": dict.fromkeys(gymnasium.registry),
        "creators": dict.fromkeys(registered_environments()),
    }


def _execute(file: Path) -> ModuleType:
    from ray import cloudpickle

    from vagram_ray.rllib.extensions import import_from_beside

    spec = importlib.util.spec_from_file_location(SWEEP_MODULE, file.resolve())
    assert spec is not None and spec.loader is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[SWEEP_MODULE] = module
    cloudpickle.register_pickle_by_value(module)  # before Ray pickles what the file registers
    import_from_beside(file.resolve())
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(SWEEP_MODULE, None)
        line = _line_in_file(error, file.resolve())
        raise SweepError(f"{str(file)!r} failed{line}: {describe(error)}") from error
    return module


def modules_beside() -> list[ModuleType]:
    """What this process has imported from the folder of its sweep file."""
    file = getattr(sys.modules.get(SWEEP_MODULE), "__file__", None)
    tops = [module for name, module in sys.modules.items() if "." not in name]
    return [module for module in tops if file and _lies_in(module, Path(file).parent)]


def _lies_in(module: ModuleType, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    if not file or module.__name__ in (SWEEP_MODULE, "__main__", "vagram_ray"):
        return False
    path = Path(file)
    return folder == (path.parent.parent if path.name == "__init__.py" else path.parent)


def _line_in_file(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f" in line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f" in line {lines[-1]}" if lines else ""
