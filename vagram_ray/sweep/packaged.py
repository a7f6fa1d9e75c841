"""The paper's sweep files, which come with the package: what they are, where they lie, and a copy to edit."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

import vagram_ray
from vagram_ray.sweep.spec import SweepError
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


class SweepFile(click.ParamType):
    """An argument that names a sweep file, by its path or by the name of a packaged one."""

    name = "sweep file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The file's path."""
        return value if isinstance(value, Path) else find_sweep_file(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names of packaged sweeps that go on like this, and then files."""
        names = [name for name in packaged_sweeps() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=describe_sweep_file(packaged_sweeps()[name])) for name in names]
        return items or [CompletionItem(incomplete, type="file")]
