"""Results of mbrl-lib (facebookresearch/mbrl-lib) and its forks: runs in a tree of Hydra's output folders.

A run is a folder with ``results.csv`` (columns ``env_step``, ``episode_reward``, ``step`` and, for MBPO, ``epoch`` and
``rollout_length``) and Hydra's record of the configuration in ``.hydra/config.yaml`` and ``.hydra/overrides.yaml``.
MBPO logs the mean return of its evaluation episodes, PETS the return of the training episode.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vagram_ray.commands import InputError
from vagram_ray.report.curves import RETURN_METRIC, CellCurves, Comparison, ExperimentFacts, varying_axes
from vagram_ray.report.importers import parse_value, read_cells
from vagram_ray.text import first_line, format_seeds, format_value, plural

RESULTS, CONFIG, OVERRIDES = "results.csv", ".hydra/config.yaml", ".hydra/overrides.yaml"
_NOT_AXES = {
    "seed", "algorithm", "device", "root_dir", "save_video", "debug_mode", "log_frequency_agent",
    "overrides.env", "overrides.distraction_dimensions",
}  # fmt: skip
_METRIC_NAMES = {
    "episode_reward": RETURN_METRIC, "rollout_length": "model/rollout_length", "epoch": "train/epoch"
}  # fmt: skip
_ENV_PREFIXES = ("gym___", "dis___")  # Gym's own, and the fork's with distractors
_UNKNOWN: Any = object()
"""What a configuration does not tell."""


def find_runs(folder: Path) -> list[Path]:
    """Folders of runs in a tree, sorted."""
    return sorted(path.parent for path in folder.rglob(RESULTS) if (path.parent / CONFIG).is_file())


def read_mbrl_lib(folder: Path) -> Comparison:
    """All runs below a folder as one experiment: a cell per algorithm, environment and differing command-line override.

    Environment steps count the initial exploration, as in a sweep. mbrl-lib itself starts after it.

    Raises:
        InputError: A run cannot be read, or two have the same settings and seed.
    """
    import pandas as pd

    runs = [_read_run(path) for path in find_runs(folder)]
    axes = _axes_of(runs)
    seen: dict[tuple[Any, ...], _Run] = {}
    for run, own in zip(runs, axes, strict=True):
        if (other := seen.setdefault((*own.values(), run.seed), run)) is not run:
            one, two = (str(each.path.relative_to(folder)) for each in (other, run))
            raise InputError(
                f"The runs {one!r} and {two!r} in {str(folder)!r} have the same settings and seed {run.seed}: move "
                "one of them away."
            )
    rows = [
        {**own, "seed": run.seed, "planned_env_steps": run.planned_env_steps, "metric": m, "env_steps": s, "value": v}
        for run, own in zip(runs, axes, strict=True)
        for m, s, v in run.measured
    ]
    name = folder.resolve().name
    cells = read_cells(pd.DataFrame(rows), list(axes[0]), name, RETURN_METRIC)
    facts = ExperimentFacts(name, folder, "results of mbrl-lib", _details(runs, cells))
    return Comparison(cells, (facts,), RETURN_METRIC, varying_axes(cells))


@dataclass(frozen=True)
class _Run:
    path: Path
    seed: int
    algorithm: str
    env: str
    exploration_steps: int
    planned_env_steps: int | None
    num_distractors: Any
    overrides: Mapping[str, Any]
    """Overrides of the command line that may be axes, by name."""
    measured: Sequence[tuple[str, int, float]]
    """Metric, environment steps and value of every measurement."""


def _read_run(path: Path) -> _Run:
    config = _read_config(path / CONFIG)
    seed = _value(config, "seed")
    algorithm, env = _value(config, "algorithm.name"), _value(config, "overrides.env")
    for title, value, kind in (("seed", seed, int), ("algorithm.name", algorithm, str), ("overrides.env", env, str)):
        if not isinstance(value, kind) or isinstance(value, bool):
            shown = "nothing" if value is _UNKNOWN else repr(value)
            raise InputError(
                f"The run in {str(path)!r} cannot be placed: its {CONFIG} has {shown} for {title}; give it a "
                f"{'whole number' if kind is int else 'name'} there, or move the run away."
            )
    exploration = _whole(_value(config, "algorithm.initial_exploration_steps")) or 0
    planned = _whole(_value(config, "overrides.num_steps"))
    return _Run(
        path=path,
        seed=seed,
        algorithm=algorithm,
        env=_env_name(env),
        exploration_steps=exploration,
        planned_env_steps=None if planned is None else planned + exploration,
        num_distractors=_num_distractors(config, env),
        overrides=_read_overrides(path / OVERRIDES, config),
        measured=_measured(_read_columns(path / RESULTS), exploration),
    )


# -- Hydra's files -----------------------------------------------------------------------------------------------


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read ({first_line(error)}): restore it, or move the run away."
        ) from error


def _read_config(path: Path) -> Mapping[str, Any]:
    config = _read_yaml(path)
    if not isinstance(config, Mapping):
        raise InputError(f"{str(path)!r} is not a configuration of Hydra: restore it, or move the run away.")
    return config


def _value(config: Mapping[str, Any], path: str, depth: int = 8) -> Any:
    """``config["a"]["b"]`` for ``"a.b"``. ``${...}``, which Hydra leaves in its record, is followed."""
    found: Any = config
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _UNKNOWN
        found = found[part]
    reference = re.fullmatch(r"\$\{([\w.]+)\}", found.strip()) if isinstance(found, str) else None
    if reference:
        return _value(config, reference[1], depth - 1) if depth else _UNKNOWN
    return found


def _whole(value: Any) -> int | None:
    """A whole number, also where YAML reads ``1e6`` as a text."""
    value = parse_value(value) if isinstance(value, str) else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value)


def _read_overrides(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Values that the command line changed, by axis name."""
    lines = _read_yaml(path) if path.is_file() else []
    changed: dict[str, Any] = {}
    for line in lines if isinstance(lines, list) else []:
        key, _, text = str(line).lstrip("+~").partition("=")
        if key in _NOT_AXES or key.startswith("hydra."):
            continue
        value = _value(config, key)
        name = key.removeprefix("overrides.")
        # A group such as dynamics_model=vaml_ensemble is a table in the configuration: its name says it shorter.
        changed[name] = parse_value(text) if isinstance(value, Mapping) else _plain(value, text)
    return changed


def _plain(value: Any, text: str) -> Any:
    if value is _UNKNOWN:
        return parse_value(text)
    return parse_value(value) if isinstance(value, str) else value


def _env_name(env: str) -> str:
    for prefix in _ENV_PREFIXES:
        env = env.removeprefix(prefix)
    return env


def _num_distractors(config: Mapping[str, Any], env: str) -> Any:
    """mbrl-lib has no distractors. The VaGraM paper's fork counts them in its overrides."""
    value = _value(config, "overrides.distraction_dimensions")
    return 0 if value is _UNKNOWN and not env.startswith("dis___") else value


# -- results.csv -------------------------------------------------------------------------------------------------


def _read_columns(path: Path) -> dict[str, list[float]]:
    """Columns as numbers. A last line that is cut short, as while a run writes, is left out."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}): restore it, or move the run away.") from error
    if not rows:
        return {}
    header, rows = rows[0], rows[1:]
    if lacking := [name for name in ("env_step", "episode_reward") if name not in header]:
        raise InputError(f"{str(path)!r} has no column {lacking[0]!r}: it is not a results.csv of mbrl-lib.")
    if rows and len(rows[-1]) < len(header):
        rows.pop()
    columns: dict[str, list[float]] = {name: [] for name in header}
    for number, row in enumerate(rows, start=2):
        try:
            for name, text in zip(header, row, strict=True):
                columns[name].append(float(text))
            int(columns["env_step"][-1])  # a step that is not finite is no step
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"Line {number} of {str(path)!r} cannot be read ({error}): restore it, or move the run away."
            ) from error
    return columns


def _measured(columns: Mapping[str, Sequence[float]], exploration_steps: int) -> list[tuple[str, int, float]]:
    """Metric, environment steps and value of every measurement. Of a run without one, that nothing was measured."""
    if not columns or not columns["env_step"]:
        return [("train/epoch", 0, math.nan)]
    # MBPO evaluates before it counts the step (its evaluation after 1000 steps says 999). PETS counts first.
    offset = exploration_steps + (1 if "epoch" in columns else 0)
    return [
        (_METRIC_NAMES.get(name, f"mbrl-lib/{name}"), int(step) + offset, value)
        for name, values in columns.items()
        if name not in ("env_step", "step")
        for step, value in zip(columns["env_step"], values, strict=True)
    ]


# -- cells -------------------------------------------------------------------------------------------------------


def _axes_of(runs: Sequence[_Run]) -> list[dict[str, str]]:
    """Axes of each run: task, algorithm, and each override that differs between runs that share both."""
    groups: dict[tuple[str, str], list[_Run]] = {}
    for run in runs:
        groups.setdefault((run.env, run.algorithm), []).append(run)
    names = list(dict.fromkeys(name for run in runs for name in run.overrides))
    kept = [name for name in names if any(len({_override(run, name) for run in own}) > 1 for own in groups.values())]
    return [
        {
            "env": run.env,
            "num_distractors": "" if run.num_distractors is _UNKNOWN else str(run.num_distractors),
            **{name: _override(run, name) for name in kept},
            "algorithm": run.algorithm,
        }
        for run in runs
    ]


def _override(run: _Run, name: str) -> str:
    value = run.overrides.get(name, "default")
    return str(value) if isinstance(value, (str, int, float)) else format_value(value)


def _details(runs: Sequence[_Run], cells: Sequence[CellCurves]) -> dict[str, str]:
    exploration = sorted({run.exploration_steps for run in runs})
    explored = " or ".join(f"{steps:,}" for steps in exploration)
    training = "PETS logs returns of training episodes, MBPO of evaluation episodes"
    return {
        "Runs": plural(len(runs), "run"),
        "Cells": str(len(cells)),
        "Seeds": format_seeds(sorted({run.seed for run in runs})),
        "Environment steps": f"mbrl-lib's count and the {explored} steps of initial exploration before it",
        "Final return": "mean of a seed's values in the last tenth of the planned environment steps",
        "Return": f"mbrl-lib's episode_reward ({training})",
    }
