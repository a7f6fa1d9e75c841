"""Which module may import which: from the syntax of all of them, imports inside functions and for types included."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("vagram_ray", "vagram_ray.text", "vagram_ray.files"),
    ("vagram_ray.commands", "vagram_ray.checkpoint", "vagram_ray.core"),
    ("vagram_ray.envs",),
    ("vagram_ray.records",),
    ("vagram_ray.rllib",),
    ("vagram_ray.play", "vagram_ray.studies"),
    ("vagram_ray.sweep.spec", "vagram_ray.sweep.sweep_file", "vagram_ray.sweep.processes", "vagram_ray.sweep"),
    ("vagram_ray.sweep.plan",),
    ("vagram_ray.sweep.storage",),
    ("vagram_ray.sweep.resume",),
    ("vagram_ray.sweep.view", "vagram_ray.sweep.wandb"),
    ("vagram_ray.sweep.run",),
    ("vagram_ray.sweep.launch", "vagram_ray.sweep.request"),
    ("vagram_ray.sweep.commandline", "vagram_ray.sweep.in_python", "vagram_ray.sweep.summary"),
    ("vagram_ray.report",),
    ("vagram_ray.__main__", "vagram_ray.sweep.__main__", "vagram_ray.report.__main__", "vagram_ray.play.__main__"),
)
"""From the ground up: a module imports from its own floor and those below."""
CIRCLES: Mapping[str, frozenset[str]] = {
    "RLlib's idiom: the configuration names its algorithm, and the algorithm its configuration": frozenset(
        {"vagram_ray.rllib.algorithm", "vagram_ray.rllib.config"}
    ),
}
"""The circles that there may be, by the reason."""
UPWARDS: Mapping[tuple[str, str], str] = {
    ("vagram_ray.studies.value_error", "vagram_ray.sweep.plan.overrides"): "reads --seeds as a sweep does",
    ("vagram_ray.sweep.view.end", "vagram_ray.sweep.run.run"): "shows the outcome of a run, for the types alone",
}
"""Imports that run upwards and may, with the reason."""
FREE_OF = {
    "vagram_ray.core": {"ray", "wandb", "gymnasium"},
    "vagram_ray.checkpoint": {"ray", "wandb", "gymnasium"},
    "vagram_ray.records": {"ray", "wandb", "torch", "gymnasium"},
    "vagram_ray.envs": {"ray", "wandb"},
    "vagram_ray.play": {"ray", "wandb"},
    "vagram_ray.studies": {"ray", "wandb"},
    "vagram_ray.report": {"ray", "torch"},
}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for path in sorted((ROOT / "vagram_ray").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """Names of what a file imports, anywhere in it: of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and not node.level, f"{path}: imports are absolute"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            if not all(name in modules() for name in inside):  # all of them modules: their package gives nothing else
                yield node.module
            yield from inside


@cache
def arrows() -> dict[str, frozenset[str]]:
    """The modules of the package that each imports."""
    known = modules()
    return {
        name: frozenset(other for other in imported(path) if other in known and other != name)
        for name, path in known.items()
    }


def circles(graph: Mapping[str, frozenset[str]]) -> list[frozenset[str]]:
    """The sets of modules that reach each other (Tarjan's strongly connected components of more than one)."""
    places: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []
    counter = itertools.count()

    def visit(name: str) -> None:
        places[name] = lowest[name] = next(counter)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in places:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], places[other])
        if lowest[name] == places[name]:
            members = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(members) > 1:
                found.append(frozenset(members))

    for name in graph:
        if name not in places:
            visit(name)
    return found


def floor(name: str) -> int:
    """The floor of a module: that of the longest name in ``FLOORS`` that it lies in."""
    packages = {package: level for level, names in enumerate(FLOORS) for package in names}
    parts = name.split(".")
    return next(packages[own] for end in range(len(parts), 0, -1) if (own := ".".join(parts[:end])) in packages)


def test_imports_run_in_no_circles() -> None:
    assert not [sorted(own) for own in circles(arrows()) if not any(own <= allowed for allowed in CIRCLES.values())]


def test_imports_run_downwards() -> None:
    upwards = {(name, other) for name, own in arrows().items() for other in own if floor(other) > floor(name)}
    assert upwards == set(UPWARDS)


@pytest.mark.parametrize("package", FREE_OF)
def test_packages_name_nothing_that_they_do_not_need(package: str) -> None:
    own = [name for name in modules() if f"{name}.".startswith(f"{package}.")]
    named = {(name, other) for name in own for other in imported(modules()[name])}
    assert not [pair for pair in sorted(named) if pair[1].partition(".")[0] in FREE_OF[package]]


def test_a_sweep_is_read_without_ray_and_pytorch() -> None:
    """The records, and what they import at any depth."""
    code = (
        "import sys, pkgutil, importlib, vagram_ray.records as records\n"
        "for module in pkgutil.iter_modules(records.__path__, 'vagram_ray.records.'):\n"
        "    importlib.import_module(module.name)\n"
        "from vagram_ray.records.summary import verdict\n"
        "print(verdict(records.SweepResults.load(sys.argv[1])))\n"
        "above = 'ray', 'torch', 'wandb', 'vagram_ray.sweep', 'vagram_ray.rllib', 'vagram_ray.core'\n"
        "print(*(name for name in above if name in sys.modules))"
    )
    folder = ROOT / "examples" / "data" / "pendulum_10_distractors"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=300)
    assert done.stdout == "Complete: every seed of 4 cells came to its end (32 in all).\n\n", done.stderr


def test_the_search_for_circles_finds_them() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a"), "d": frozenset("a"), "e": frozenset()}
    assert circles(graph) == [frozenset("abc")]
    assert floor("vagram_ray.sweep.run.trials") > floor("vagram_ray.sweep.plan.plan") > floor("vagram_ray.records")
