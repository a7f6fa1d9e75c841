"""What a sweep's folder may hold: the one check of ``sweep.json`` and of every record.

Whatever the files hold, reading them takes bounded memory and time, and what is wrong is named in a few words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, TypeGuard

from vagram_ray.text import printable

MAX_EPOCHS = 1_000_000
"""Epochs of a sweep."""
MAX_SWEEP_FILE_BYTES = 32 * 2**20
MAX_RECORDS_BYTES = 512 * 2**20
MAX_RECORD_BYTES = 8 * 2**20
"""Of one line."""
RETURN_METRIC = "eval/episode_return"
"""The return of sweeps that do not name their metric."""
_LARGEST = 2**63 - 1
_LONGEST_TIME_S = 1e10
_DEEPEST = 50

Check = Callable[[Any, str], None]
"""Takes a value and the words for its place. Raises ``ValueError`` unless the value is as it should be."""


def parse_json(content: bytes) -> Any:
    """JSON in UTF-8.

    Raises:
        ValueError: It is none, or is nested too deeply, or holds text that cannot be written.
    """
    try:
        value = json.loads(content.decode())
        if b"\\ud" in content.lower():  # half a character, which no terminal and no file takes
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise ValueError("it is no text in UTF-8") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


# -- values ------------------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) <= _LARGEST else f"{str(value)[:20]}..."
    return text if len(text) <= 60 else f"{text[:59]}…"


def _refuse(place: str, value: Any, wanted: str) -> NoReturn:
    raise ValueError(f"{place} is {_shown(value)}, not {wanted}")


def is_whole(value: Any, least: int = 0, most: int = _LARGEST) -> bool:
    """Whether a value is a whole number within bounds. ``True`` is none."""
    return type(value) is int and least <= value <= most


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number. ``True`` is none."""
    return math.isfinite(value) if type(value) is float else is_whole(value, -_LARGEST)


def _check(is_sound: Callable[[Any], bool], wanted: str) -> Check:
    def check(value: Any, place: str) -> None:
        if not is_sound(value):
            _refuse(place, value, wanted)

    return check


def _whole(least: int = 0, most: int = _LARGEST) -> Check:
    wanted = f"a whole number from {least} {'on' if most == _LARGEST else f'to {most:,}'}"
    return _check(lambda value: is_whole(value, least, most), wanted)


def _names_file(value: Any) -> bool:
    sound = isinstance(value, str) and value not in ("", ".", "..") and value.isprintable()
    return sound and not set(value) & {"/", "\\", "\0"} and len(value.encode()) <= 240


_seconds = _check(lambda value: is_number(value) and 0 <= value <= _LONGEST_TIME_S, "a time in seconds")
_nonnegative = _check(lambda value: is_number(value) and value >= 0, "a number from 0 on")
_text = _check(lambda value: isinstance(value, str), "a text")
_name = _check(lambda value: isinstance(value, str) and value != "", "a name")
_printable_name = _check(lambda value: isinstance(value, str) and value != "" and value.isprintable(), "a name")
_file_name = _check(_names_file, "the name of a trial")
_boolean = _check(lambda value: isinstance(value, bool), "true or false")


def _plain(value: Any, place: str, depth: int = 0) -> None:
    """Anything that JSON holds, but no deep nesting and no number that is larger than a float."""
    if depth > _DEEPEST:
        raise ValueError(f"{place} is nested too deeply")
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _plain(item, place, depth + 1)
    elif isinstance(value, int) and abs(value) > 10**300:
        _refuse(place, value, "a number that can be used")


def _list_of(check: Check) -> Check:
    def check_all(value: Any, place: str) -> None:
        if not isinstance(value, list):
            _refuse(place, value, "a list")
        for position, item in enumerate(value):
            check(item, f"{place}[{position}]")

    return check_all


def _table(
    required: Mapping[str, Check] | None = None,
    optional: Mapping[str, Check] | None = None,
    others: Check = _plain,
) -> Check:
    """A table with the keys that are required. ``null`` under any other key is as if the key were not there."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            _refuse(place or "it", value, "a table")
        before = f"{place}." if place else ""
        for key in required or {}:
            if key not in value:
                raise ValueError(f"{place or 'it'} lacks {key!r}")
        known = {**(required or {}), **(optional or {})}
        for key, item in value.items():
            if item is not None or key in (required or {}):
                known.get(key, others)(item, f"{before}{_key(key)}")

    return check


def _key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= 40 else _shown(key)


# -- sweep.json --------------------------------------------------------------------------------------------------

_RESOURCES = _table(optional={"CPU": _nonnegative, "GPU": _nonnegative, "accelerator_type": _text})
_MACHINE = _table(optional={"processor": _text, "cpus": _whole(), "gpus": _whole(), "memory_gib": _nonnegative})
_ORIGIN: Mapping[str, Check] = {
    "command": _text,
    "started": _text,
    "git_commit": _text,
    "versions": _table(others=_text),
    "machine": _MACHINE,
    "wandb": _table(),
    "wall_time_s": _seconds,
}
_CELL = _table(
    {"label": _name},
    {
        "axes": _table(),
        "settings": _table(),
        "trials": _list_of(_name),
        "epoch_length": _whole(),
        "warmup_steps": _whole(),
    },
)
_TRIAL = _table({"name": _file_name, "cell": _whole(), "seeds": _list_of(_whole())}, {"resources": _RESOURCES})
_TUNING = _table(
    {"metric": _name, "mode": _name},
    {"scheduler": _name, "search_alg": _name, "stop": _name, "num_samples": _whole(1)},
)
_SWEEP = _table(
    {
        "epochs": _whole(1, MAX_EPOCHS),
        "seeds": _list_of(_whole()),
        "cells": _list_of(_CELL),
        "trials": _list_of(_TRIAL),
    },
    {
        **_ORIGIN,
        "name": _text,
        "description": _text,
        "scale": _text,
        "replaced_task": _text,
        "return_metric": _printable_name,
        "slots": _whole(1),
        "resources": _RESOURCES,
        "overrides": _table(),
        "settings": _table(),
        "sweep_id": _text,  # only going on needs one (read_recorded)
        "storage": _name,
        "launches": _list_of(_table(optional={**_ORIGIN, "ended": _text, "host": _text})),
        "tuning": _TUNING,
        "stopped_by": _name,
        "interrupted": _boolean,
        "failed_trials": _table(others=_text),
    },
)


def check_sweep(content: Any) -> dict[str, Any]:
    """The content of ``sweep.json``: ``null`` and what earlier versions did not write have their defaults.

    Raises:
        ValueError: It is not as a sweep writes it. The message names the place and the value.
    """
    _SWEEP(content, "")
    info = {"return_metric": RETURN_METRIC, **{key: value for key, value in content.items() if value is not None}}
    info["cells"] = [
        {"axes": {}, **{k: v for k, v in cell.items() if v is not None}, "label": printable(cell["label"])}
        for cell in content["cells"]
    ]
    _check_trials(info)
    for place in (info, *info.get("launches", ())):
        place.update({key: _printable_lines(place[key]) for key in _SHOWN if isinstance(place.get(key), str)})
    return info


_SHOWN = (
    "name", "description", "scale", "storage", "command", "started", "git_commit", "ended", "host", "stopped_by",
    "replaced_task",
)  # fmt: skip
"""Texts that commands print."""


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _check_trials(info: Mapping[str, Any]) -> None:
    """Every cell has a name of its own and one trial for each seed."""
    labels, seeds = [cell["label"] for cell in info["cells"]], info["seeds"]
    if not labels or not seeds:
        raise ValueError("it has no cells or no seeds")
    trained: list[list[int]] = [[] for _ in labels]
    for trial in info["trials"]:
        if trial["cell"] >= len(labels):
            raise ValueError(f"the trial {_shown(trial['name'])} is of cell {trial['cell']}, which is not there")
        if not trial["seeds"]:
            raise ValueError(f"the trial {_shown(trial['name'])} has no seeds")
        trained[trial["cell"]] += trial["seeds"]
    _check_different("cells", labels)
    _check_different("trials", [trial["name"] for trial in info["trials"]])
    _check_different("seeds", seeds)
    for label, own in zip(labels, trained, strict=True):
        _check_different(f"seeds of the cell {_shown(label)}", own)
        if lacking := set(seeds).difference(own):
            raise ValueError(f"the cell {_shown(label)} has no trial of seed {min(lacking)}")


def _check_different(what: str, values: Collection[Any]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"two {what} are the same")


# -- records -----------------------------------------------------------------------------------------------------


def check_record(content: Any, epochs: int = MAX_EPOCHS) -> dict[str, Any]:
    """One record, with what earlier versions did not write.

    Args:
        content: What a line of the records holds.
        epochs: Epochs of the sweep: a later one is none of its own.

    Raises:
        ValueError: It is not as a sweep writes it. The message names the place and the value.
    """
    if not isinstance(content, dict):
        _refuse("it", content, "a table")
    record = {"time_total_s": 0.0, "time": {}, "perf": {}, **content}
    _whole(1, epochs)(record.get("training_iteration"), "training_iteration")
    _whole()(record.get("env_steps"), "env_steps")
    _seconds(record["time_total_s"], "time_total_s")
    if record.get("stopped_by") is not None:
        _name(record["stopped_by"], "stopped_by")
    seeds = record.get("seeds")
    if not isinstance(seeds, dict):
        _refuse("seeds", seeds, "a table")
    for name in seeds:
        if not (name.isascii() and name.isdecimal() and len(name) <= 19):
            _refuse("a seed", name, "a whole number")
    for place, values in (("time", record["time"]), ("perf", record["perf"]), *seeds.items()):
        if not isinstance(values, dict):
            _refuse(place if place in record else f"seed {place}", values, "a table")
        for name, value in values.items():
            if not is_number(value):
                _refuse(f"{_key(name) if len(name) < 60 else _shown(name)} of {place}", value, "a number")
    return record
