"""How a sweep was run, ready to show: command, budget, machine, hours, versions, failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vagram_ray.records.recorded import CPU, GPU, planned_env_steps, recorded_amount
from vagram_ray.records.results import SweepResults
from vagram_ray.records.trials import final_window
from vagram_ray.text import format_duration, format_number, format_seeds, plural


def origin(results: SweepResults) -> dict[str, str]:
    """Titles and texts of what ``sweep.json`` and the records tell. What they do not tell is left out."""
    return {title: str(text) for title, text in _facts(results) if text}


def _facts(results: SweepResults) -> Iterator[tuple[str, str]]:
    info, cells = results.info, results.cells
    yield "Description", info.get("description") or ""
    yield "Command", info.get("command") or ""
    yield "Scale", info.get("scale") or ""
    yield "Cells", str(len(cells))
    yield "Seeds", f"{format_seeds(sorted(info['seeds']))} per cell"
    yield "Epochs", str(info["epochs"])
    yield "Environment steps", _steps(info)
    yield "Final return", definition(info)
    yield "Started", info.get("started") or ""
    yield "Wall time", _wall_time(info)
    yield "Launches", _launches(info)
    yield from _machine(info.get("machine") or {})
    yield from _hours(results)
    yield "Versions", ", ".join(f"{name} {number}" for name, number in (info.get("versions") or {}).items())
    yield "Commit", ", then ".join(_distinct(info, "git_commit"))
    yield "Failed trials", _failed(info, results.folder)
    planned, there = sum(len(cell.seeds) for cell in cells), sum(len(cell.final_returns) for cell in cells)
    missing = f"no, {there} of {planned} seeds"
    yield "Complete", missing if there < planned else f"yes, {plural(planned, 'seed')} in all"


def _steps(info: Mapping[str, Any]) -> str:
    planned = sorted({steps for index in range(len(info["cells"])) if (steps := planned_env_steps(info, index))})
    return " or ".join(f"{steps:,}" for steps in planned) + " per seed, warm-up included" if planned else ""


def definition(info: Mapping[str, Any]) -> str:
    """What a final return is in a sweep, by the content of its ``sweep.json``."""
    epochs = info["epochs"]
    first = epochs - final_window(epochs) + 1
    where = f"epoch {epochs}" if first == epochs else f"epochs {first}-{epochs}"
    return f"mean of a seed's values of {info['return_metric']} in the last tenth of the epochs, here {where}"


def _wall_time(info: Mapping[str, Any]) -> str:
    seconds = info.get("wall_time_s")
    if seconds is None:
        return "no end recorded: the sweep is running, or its process was killed"
    return format_duration(seconds) + (" (until it was interrupted)" if info.get("interrupted") else "")


def _launches(info: Mapping[str, Any]) -> str:
    """How often the command was run, where it was more than once, and how each launch but the last ended."""
    launches = info.get("launches") or []
    if len(launches) < 2:
        return ""
    ends = Counter(str(launch.get("ended", "killed")) for launch in launches[:-1])
    return f"{len(launches)}; those before the last: {', '.join(f'{count} {end}' for end, count in ends.items())}"


def _distinct(info: Mapping[str, Any], key: str) -> list[str]:
    """What the launches say under a key, each once and in order."""
    return list(dict.fromkeys(str(launch[key]) for launch in info.get("launches") or [info] if launch.get(key)))


def _machine(machine: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not machine:
        return
    parts = [machine.get("processor")]
    parts += [plural(machine[key], key[:-1].upper()) for key in ("cpus", "gpus") if key in machine]
    parts += [f"{machine['memory_gib']} GiB of memory" if machine.get("memory_gib") else None]
    yield "Machine", ", ".join(str(part) for part in parts if part)
    yield "System", machine.get("system") or ""
    yield "Python", machine.get("python") or ""


def _hours(results: SweepResults) -> Iterator[tuple[str, str]]:
    trial_seconds = core_seconds = gpu_seconds = 0.0
    for trial in results.trials:
        if trial.records:
            seconds = float(trial.records[-1]["time_total_s"])
            cores = recorded_amount(results.info, trial.name, CPU)
            trial_seconds += seconds
            core_seconds += seconds * (1.0 if cores is None else cores)
            gpu_seconds += seconds * (recorded_amount(results.info, trial.name, GPU) or 0.0)
    if not trial_seconds:
        return
    alone = math.isclose(core_seconds, trial_seconds)
    cores_shown = "one core each" if alone else f"{format_number(core_seconds / 3600)} hours of cores"
    yield "Trial hours", f"{format_number(trial_seconds / 3600)} (time of all trials, {cores_shown})"
    yield "GPU hours", format_number(gpu_seconds / 3600) if gpu_seconds else "0"


def _failed(info: Mapping[str, Any], folder: Path) -> str:
    failed = info.get("failed_trials") or {}
    return "; ".join(f"{name} (log: {_below(path, folder)})" for name, path in failed.items())


def _below(path: str, folder: Path) -> str:
    """A path inside the sweep's folder without what leads there, which differs between machines."""
    _, found, rest = str(path).partition(f"/{folder.resolve().name}/")
    return rest if found else Path(path).name
