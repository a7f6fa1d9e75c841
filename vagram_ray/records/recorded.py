"""The part of ``sweep.json`` with which the same command goes on with a sweep.

Its identity is a random ``sweep_id``, the complete settings of every cell, the seeds, the epochs and the packs of
seeds that were made trials. Settings that all cells share stand once, under ``settings``. A cell's own ``settings``
are those in which it differs.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vagram_ray.records.errors import SweepError
from vagram_ray.records.folder import SWEEP_FILE, SweepFolder

WAYS_OUT = "start anew with --restart (what is there is kept under another name) or give another --name"
PUBLISHED = "published"
"""Key of ``sweep.json`` that says that the folder holds compact records alone (``records.publish``)."""
CPU, GPU, ACCELERATOR_TYPE = "CPU", "GPU", "accelerator_type"
"""Keys of a trial's ``resources``. The last one is there if the trial asks for one kind of GPU."""


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
    """Resources that it asked for when it last ran, or None where an earlier version ran it."""


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
    tuning: Mapping[str, Any] = field(default_factory=dict)
    """Names of scheduler, searcher and stopper, the metric they go by, empty where there are none."""

    @property
    def resources(self) -> dict[str, Mapping[str, Any]]:
        """What each trial asked for when it last ran, by name, where that is known."""
        return {trial.name: trial.resources for trial in self.trials if trial.resources is not None}

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> RecordedSweep:
        """From the content of ``sweep.json``, which a version wrote that kept an id (``SweepFolder.read``)."""
        return cls(
            sweep_id=info["sweep_id"],
            epochs=info["epochs"],
            seeds=tuple(info["seeds"]),
            return_metric=info["return_metric"],
            cells=tuple(
                RecordedCell(cell["label"], cell_axes(info, place), cell_settings(info, place))
                for place, cell in enumerate(info["cells"])
            ),
            trials=tuple(
                RecordedTrial(trial["name"], trial["cell"], tuple(trial["seeds"]), trial.get("resources"))
                for trial in info["trials"]
            ),
            launches=tuple(info["launches"]),
            storage=info.get("storage"),
            tuning=info.get("tuning", {}),
        )


def read_recorded(folder: SweepFolder) -> RecordedSweep:
    """The identity of the sweep in a folder that holds one.

    Raises:
        SweepError: Its file is damaged, or of a version that kept too little to go on from.
    """
    way_out = f"restore that file from a copy, {WAYS_OUT}"
    info = folder.read("go on", way_out)
    if "sweep_id" not in info:
        raise SweepError(
            f"The sweep in {folder.shown} was run by an earlier version, which kept too little to go on from: "
            f"{WAYS_OUT}."
        )
    if info.get(PUBLISHED):
        raise SweepError(
            f"The sweep in {folder.shown} is a published copy without checkpoints, which cannot go on: {WAYS_OUT}."
        )
    damage = "" if info.get("launches") and "settings" in info else "it has no launches or no settings"
    if not info["sweep_id"]:
        damage = "sweep_id is '', not a name"
    if damage:
        raise SweepError(
            f"The sweep in {folder.shown} cannot go on, its {SWEEP_FILE} is damaged ({damage}): {way_out}."
        )
    return RecordedSweep.of(info)


def new_sweep_id() -> str:
    """An id that no other sweep has."""
    return secrets.token_hex(8)


def split_settings(settings: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The settings that all cells share, and what each cell has beside them."""
    first, *others = settings
    texts = [{key: json.dumps(value, sort_keys=True) for key, value in cell.items()} for cell in settings]
    shared = {
        key: value
        for key, value in first.items()
        if all(key in cell and cell[key] == texts[0][key] for cell in texts[1:])
    }
    own = [{key: value for key, value in cell.items() if key not in shared} for cell in (first, *others)]
    return shared, own


def cell_settings(info: Mapping[str, Any], cell: int) -> dict[str, Any]:
    """The complete settings of a cell from the content of ``sweep.json``, empty where an earlier version wrote it.

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


def planned_env_steps(info: Mapping[str, Any], cell: int) -> int | None:
    """Environment steps of each seed of a cell, warm-up included, or None where an earlier version wrote the file."""
    own = info["cells"][cell]
    return own.get("warmup_steps", 0) + info["epochs"] * own["epoch_length"] if "epoch_length" in own else None


def recorded_resources(info: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What each trial asked for when it last ran by the content of ``sweep.json``, where that says it of the trial."""
    return {trial["name"]: trial["resources"] for trial in info["trials"] if trial.get("resources") is not None}


def recorded_amount(info: Mapping[str, Any], trial: str, kind: str) -> float | None:
    """How much of ``CPU`` or ``GPU`` a trial asked for by the content of ``sweep.json``, or None if not told.

    Files of earlier versions say only what the most demanding trial asks for, under ``resources`` of the whole sweep.
    """
    for resources in (recorded_resources(info).get(trial), info.get("resources")):
        if resources and resources.get(kind) is not None:
            return float(resources[kind])
    return None
