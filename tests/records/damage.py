"""The folder of a sweep that is damaged, written as plain JSON and not by the code under test, and what reads it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from rich.console import Console

from tests.sweep.conftest import plan_of, with_settings
from vagram_ray.report.watch import SweepWatch
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.resume.continuation import Continuation, continue_sweep
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lock import DriverLock
from vagram_ray.sweep.view.progress import ProgressTable

EPOCHS, RETURN = 3, "eval/episode_return"
SETTINGS = {"env": "X", "utd_ratio": 1}
CELLS = {"a=1": [(0, 1), (2, 3)], "a=2": [(0, 1), (2, 3)]}
TRIAL = "a=1,seeds=0-1"
"""The trial whose records are damaged."""
Info = dict[str, Any]
Record = dict[str, Any]
Damage = Callable[[Path], Any]


def content() -> Info:
    """A sweep's file as a sweep of today writes it."""
    names = [(f"{label},seeds={'-'.join(map(str, pack))}", pack) for label, packs in CELLS.items() for pack in packs]
    launch = {"command": "python -m vagram_ray.sweep x.py", "started": "2026-11-22T12:00:00+00:00", "git_commit": "abc"}
    return {
        "name": "x",
        "description": "",
        "scale": "smoke",
        "epochs": EPOCHS,
        "seeds": [0, 1, 2, 3],
        "return_metric": RETURN,
        "slots": 2,
        "resources": {"CPU": 1.0, "GPU": 0.0},
        "overrides": {},
        "settings": SETTINGS,
        "cells": [
            {"index": index, "label": label, "axes": {"a": label[2:]}, "settings": {"lr": index + 1}}
            | {"trials": [f"{label},seeds=0-1", f"{label},seeds=2-3"], "epoch_length": 100, "warmup_steps": 50}
            for index, label in enumerate(CELLS)
        ],
        "trials": [
            {"name": name, "cell": list(CELLS).index(name[:3]), "seeds": list(pack), "resources": {"CPU": 1, "GPU": 0}}
            for name, pack in names
        ],
        "sweep_id": "f00d",
        "storage": None,
        **launch,
        "versions": {"torch": "2"},
        "machine": {"processor": "x", "cpus": 2, "gpus": 0, "memory_gib": 8.0},
        "wandb": {"mode": "disabled", "project": "x"},
        "launches": [{**launch, "host": "here", "pid": 1, "wall_time_s": 9.0, "ended": "complete"}],
        "wall_time_s": 9.0,
        "interrupted": False,
        "failed_trials": {},
    }


def records(seeds: tuple[int, ...]) -> list[Record]:
    return [
        {
            "training_iteration": epoch,
            "env_steps": 50 + 100 * epoch,
            "time_total_s": 2.0 * epoch,
            "time": {"sac_s": 1.0},
            "perf": {"env_steps_per_s": 50.0},
            "seeds": {str(seed): {RETURN: 10.0 * epoch + seed, "failed": 0} for seed in seeds},
        }
        for epoch in range(1, EPOCHS + 1)
    ]


def lines(*rows: Any) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


# -- damage --------------------------------------------------------------------------------------------------------


class RAW(str):
    """JSON as it stands."""


GONE = object()
HUGE = RAW("9" * 400)


def in_place(make: Callable[[Path], Any], file: str = "sweep.json") -> Damage:
    """Something else where the file belongs."""

    def damage(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return damage


def sparse(size: int) -> Callable[[Path], None]:
    """A file of zeros that takes no room on the disk."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


# -- commands ------------------------------------------------------------------------------------------------------


def run(command: Any, *arguments: Any) -> Result:
    """Run a command; anything but a status and text is a failure."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def is_a_sentence(message: str) -> bool:
    text = message.strip()
    return "\n" not in text and text.endswith((".", "?")) and len(text) < 700 and text.isprintable()


def watch(folder: Path) -> str:
    """What the live view shows."""
    console = Console(file=io.StringIO(), width=400)
    watched = SweepWatch(folder)
    watched.poll()
    watched.poll()
    console.print(ProgressTable(watched.progress))
    return console.file.getvalue()  # type: ignore[attr-defined]


def plan() -> SweepPlan:
    own = plan_of(CELLS, epochs=EPOCHS)
    return with_settings(own, *({**SETTINGS, "lr": cell.index + 1} for cell in own.cells))


def go_on(folder: Path, *, dry: bool = False) -> Continuation:
    """The sweep's command, up to what it would run."""
    storage = SweepStorage(str(folder.parent), folder.name)
    if dry:
        return continue_sweep(plan(), storage, None, restart=False, seeds_per_trial=None)
    with DriverLock(storage) as lock:
        return continue_sweep(plan(), storage, lock, restart=False, seeds_per_trial=None)
