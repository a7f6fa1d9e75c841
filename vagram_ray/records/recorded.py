"""What ``sweep.json`` keeps of a sweep so that the same command can go on with it.

Its identity is a random ``sweep_id``, the complete settings of every cell, the seeds, the epochs and the packs of
seeds that were made trials. Settings that all cells share stand once, under ``settings``; a cell's own ``settings``
are those in which it differs.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vagram_ray.records.errors import SweepError

SWEEP_FILE = "sweep.json"
WAYS_OUT = "start anew with --restart (what is there is kept under another name) or give another --name"


@dataclass(frozen=True)
class RecordedCell:
    """A cell as ``sweep.json`` has it."""

    label: str
    axes: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class RecordedTrial:
    """A pack of seeds that was made a trial: its name is that of its folder and of its records."""

    name: str
    cell: int
    seeds: tuple[int, ...]
    resources: Mapping[str, Any] | None = None
    """What it asked for when it last ran; None where an earlier version ran it."""


@dataclass(frozen=True)
class RecordedSweep:
    """The identity of a sweep that was started before, and its launches."""

    sweep_id: str
    epochs: int
    seeds: tuple[int, ...]
    return_metric: str
    cells: tuple[RecordedCell, ...]
    trials: tuple[RecordedTrial, ...]
    launches: tuple[Mapping[str, Any], ...]
    storage: str | None
    """The URI of the trials' folders, or None where they lie beside ``sweep.json``."""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> RecordedSweep:
        """From the content of ``sweep.json``.

        Raises:
            KeyError, TypeError, ValueError: It is not as a sweep writes it.
        """
        for table in (info["settings"], *(cell[key] for cell in info["cells"] for key in ("axes", "settings"))):
            _table(table)
        cells = tuple(
            RecordedCell(_text(cell["label"]), cell_axes(info, place), cell_settings(info, place))
            for place, cell in enumerate(info["cells"])
        )
        trials = tuple(
            RecordedTrial(
                _file_name(trial["name"]),
                _count(trial["cell"]),
                tuple(map(_count, trial["seeds"])),
                None if trial.get("resources") is None else _table(trial["resources"]),
            )
            for trial in info["trials"]
        )
        storage = info.get("storage")
        recorded = cls(
            sweep_id=_text(info["sweep_id"]),
            epochs=_count(info["epochs"]),
            seeds=tuple(map(_count, info["seeds"])),
            return_metric=_text(info["return_metric"]),
            cells=cells,
            trials=trials,
            launches=tuple(_table(launch) for launch in info["launches"]),
            storage=storage if storage is None else _text(storage),
        )
        recorded._check()
        return recorded

    def _check(self) -> None:
        if not self.cells or not self.launches:
            raise ValueError("it has no cells or no launches")
        for what, values in (
            ("two cells", [cell.label for cell in self.cells]),
            ("two trials", [trial.name for trial in self.trials]),
            ("two trials of a cell", [(trial.cell, seed) for trial in self.trials for seed in trial.seeds]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"{what} are the same")
        if any(trial.cell >= len(self.cells) or not trial.seeds for trial in self.trials):
            raise ValueError("its trials do not fit its cells")


def read_recorded(folder: Path, shown: str) -> RecordedSweep:
    """The identity of the sweep in ``folder``, which holds a ``sweep.json`` and is told of as ``shown``.

    Raises:
        SweepError: The file is damaged, or of a version that kept too little to go on from.
    """
    try:
        info = _table(json.loads((folder / SWEEP_FILE).read_text()))
        old = "sweep_id" not in info and "cells" in info
        recorded = None if old else RecordedSweep.of(info)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split()).rstrip(".")
        raise SweepError(
            f"The sweep in {shown} cannot go on, its {SWEEP_FILE} is damaged ({reason}): "
            f"restore that file from a copy, {WAYS_OUT}."
        ) from error
    if recorded is None:
        raise SweepError(
            f"The sweep in {shown} was run by an earlier version, which kept too little to go on from: {WAYS_OUT}."
        )
    return recorded


def new_sweep_id() -> str:
    """An id that no other sweep has."""
    return secrets.token_hex(8)


def split_settings(settings: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings that all cells share, and what each cell has beside them."""
    first, *others = settings
    texts = [{key: _canonical(value) for key, value in cell.items()} for cell in settings]
    shared = {
        key: value
        for key, value in first.items()
        if all(key in cell and cell[key] == texts[0][key] for cell in texts[1:])
    }
    own = [{key: value for key, value in cell.items() if key not in shared} for cell in (first, *others)]
    return shared, own


def cell_settings(info: Mapping[str, Any], cell: int) -> dict[str, Any]:
    """The complete settings of a cell from the content of ``sweep.json``; empty where an earlier version wrote it.

    What an earlier version called otherwise has today's name.
    """
    from vagram_ray.envs.distractors import current_distractor_settings

    settings = {**info.get("settings", {}), **info["cells"][cell].get("settings", {})}
    return current_distractor_settings(settings) if settings else {}


def cell_axes(info: Mapping[str, Any], cell: int) -> dict[str, Any]:
    """The axes of a cell from the content of ``sweep.json``, in today's names as ``cell_settings``."""
    axes = dict(info["cells"][cell].get("axes", {}))
    if "distractor_process" in axes:
        axes["distractor_process"] = cell_settings(info, cell).get("distractor_process", axes["distractor_process"])
    return axes


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{_shown(value)} stands for a table")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{_shown(value)} stands for a name")
    return value


def _file_name(value: Any) -> str:
    if _text(value) in (".", "..") or "/" in value or "\\" in value or "\0" in value:
        raise ValueError(f"{_shown(value)} is no name of a trial")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{_shown(value)} stands for a whole number")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
