"""The folder of a sweep: its files' names, and the one place that writes and reads them.

``sweep.json`` says what was asked for and how each launch went. ``records/TRIAL.jsonl`` gets one line for each epoch of
a trial while it runs::

    {"training_iteration": 3, "env_steps": 8000, "time_total_s": 33.1, "time": {...}, "perf": {...},
     "seeds": {"0": {"eval/episode_return": -310.2, "failed": 0, ...}, "1": {...}}}

Numbers that are not finite are left out: a missing metric was not measured. The last record of a trial that a scheduler
or a stopper has ended has ``"stopped_by": "AsyncHyperBandScheduler"``. A trial that went on from a checkpoint
writes the epochs from there on a second time: on reading, the line of an epoch takes the place of all earlier lines
from that epoch on. A process that was killed may leave half a line, which is passed over. Any other line that is no
record is damage: it is named, and no seed of its trial counts. Where a trial's checkpoints reach further than its
records, as after a loss of power, its first result brings along what they lack.
"""

from __future__ import annotations

import itertools
import json
import math
import numbers
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vagram_ray.files import open_file, read_file, write_atomically
from vagram_ray.records.errors import SweepError
from vagram_ray.records.schema import (
    MAX_EPOCHS,
    MAX_RECORD_BYTES,
    MAX_RECORDS_BYTES,
    MAX_SWEEP_FILE_BYTES,
    check_record,
    check_sweep,
    parse_json,
)
from vagram_ray.text import format_value, plural, reason

SWEEP_FILE, SWEEP_FILE_COPY, RECORDS_FOLDER = "sweep.json", "sweep_file.py", "records"
RESULTS_FILE, SUMMARY_CSV, SUMMARY_MARKDOWN = "results.csv", "summary.csv", "summary.md"
ERROR_FILE = "error.txt"
"""In the folder of a trial: its errors."""
EARLIER_RESULTS = "earlier_results"
"""Key of a trial's first result after a resume: the results of all epochs before it."""
STOPPED_BY = "stopped_by"
"""Key of a trial's last record where a scheduler or stopper has ended it before its last epoch: who did."""

Record = Mapping[str, Any]


class Records(NamedTuple):
    """The records of one trial."""

    records: tuple[Record, ...]
    """One per epoch, in order."""
    damage: str = ""
    """The damage in a few words, empty where there is none."""


class SweepFolder:
    """The files of one sweep.

    Args:
        path: The folder.
        shown: How messages call it.
    """

    def __init__(self, path: str | Path, shown: str | None = None) -> None:
        self.path = Path(path)
        self.shown = repr(str(path)) if shown is None else shown
        self.file = self.path / SWEEP_FILE

    @property
    def is_there(self) -> bool:
        """Whether a sweep has been started here."""
        return os.path.lexists(self.file)

    # -- sweep.json --------------------------------------------------------------------------------------------

    def read(self, cannot: str = "be read", way_out: str = "restore that file from a copy") -> dict[str, Any]:
        """The content of ``sweep.json``, checked.

        Args:
            cannot: What cannot be done with a sweep whose file is damaged, for the message.
            way_out: What to do then.

        Raises:
            FileNotFoundError: There is no such file.
            SweepError: It is damaged.
        """
        try:
            return check_sweep(parse_json(read_file(self.file, MAX_SWEEP_FILE_BYTES)))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.shown} is not the folder of a sweep: there is no {SWEEP_FILE} in it."
            ) from error
        except (OSError, ValueError) as error:
            raise SweepError(
                f"The sweep in {self.shown} cannot {cannot}, its {SWEEP_FILE} is damaged ({reason(error)}): {way_out}."
            ) from error

    def write(self, content: Mapping[str, Any]) -> None:
        """Write ``sweep.json``. Values that JSON does not hold become texts."""
        write_atomically(self.file, json.dumps(content, indent=2, default=format_value) + "\n")

    def update(self, changes: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """Put what ``changes`` makes of the content of ``sweep.json`` beside it, or in its place under equal keys."""
        content = self.read()
        self.write({**content, **changes(content)})

    # -- records -----------------------------------------------------------------------------------------------

    def records_file(self, trial: str) -> Path:
        """Where the records of a trial are."""
        return self.path / RECORDS_FOLDER / f"{trial}.jsonl"

    def records_files(self) -> list[Path]:
        """The records of all trials that have reported."""
        return list((self.path / RECORDS_FOLDER).glob("*.jsonl"))

    def append(self, trial: str, result: Mapping[str, Any]) -> None:
        """Add one result of a trial to its records, and before it what they lack of the results that it brings along.

        Args:
            trial: The trial's name.
            result: As RLlib reports it.
        """
        results = [*self._lacking_results(trial, result), result]
        text = "".join(json.dumps(make_record(each), allow_nan=False) + "\n" for each in results)
        path = self.records_file(trial)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a killed process left half a line
                    text = "\n" + text
            file.write(text.encode())

    def _lacking_results(self, trial: str, result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Of the earlier results that came with a result, those from the first epoch on that has no record."""
        earlier = [each for each in result.get(EARLIER_RESULTS) or () if "training_iteration" in each]
        if not earlier:
            return []
        whole = whole_epochs(self.records(trial))
        return [each for each in earlier if whole < each["training_iteration"] < result["training_iteration"]]

    def records(self, trial: str) -> tuple[Record, ...]:
        """The records of a trial, one per epoch and in order, or none if it has not reported yet."""
        return self.read_records(trial).records

    def read_records(self, trial: str, epochs: int = MAX_EPOCHS) -> Records:
        """The records of a trial, and what in its file is none.

        Args:
            trial: The trial's name.
            epochs: Epochs of the sweep. A record of a later one is damage.
        """
        records: list[Record] = []
        damage = ""
        try:
            with open_file(self.records_file(trial), MAX_RECORDS_BYTES) as file:
                for number, line in enumerate(_lines(file), start=1):
                    try:
                        record = parse_record(line, epochs)
                    except ValueError as error:
                        damage = damage or f"line {number} is no record: {reason(error)}"
                        continue
                    if record is not None:
                        _replace_from_epoch(records, record)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            damage = reason(error)
        return Records(tuple(records), damage)

    def set_aside(self, trial: str, sound: Sequence[Record]) -> None:
        """Keep the damaged records of a trial under another name. Those of them that are sound take their place."""
        file = self.records_file(trial)
        names = (file.with_suffix(f".damaged{number or ''}") for number in itertools.count())
        file.replace(next(name for name in names if not os.path.lexists(name)))
        if sound:
            write_atomically(file, "".join(json.dumps(record) + "\n" for record in sound))


class RecordWriter:
    """Appends results to a sweep's records, in order, and keeps in memory what the disk does not take.

    A trial's lines that could not be written are tried again before its next one and by ``flush``. What a failed
    attempt leaves behind is half a line at most, which is passed over on reading and followed by a new line.

    Args:
        folder: The sweep's folder.
        warn: Is told once, in one sentence, when a record could not be written.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None] = lambda sentence: None) -> None:
        self._folder, self._warn = SweepFolder(folder), warn
        self._waiting: dict[str, deque[Mapping[str, Any]]] = {}
        self._lacking: dict[str, None] = {}
        self._reason = ""
        self._warned = False

    @property
    def unwritten(self) -> int:
        """Records that wait for room on the disk."""
        return sum(len(records) for records in self._waiting.values())

    def append(self, trial_name: str, result: Mapping[str, Any]) -> None:
        """Write one result of a trial, now or later."""
        kept = {key: value for key, value in result.items() if key != "config"}  # large, and in no record
        self._waiting.setdefault(trial_name, deque()).append(kept)
        self._write(trial_name)

    def flush(self) -> int:
        """Try once more. Returns how many records could still not be written."""
        for trial_name in list(self._waiting):
            self._write(trial_name)
        return self.unwritten

    def attempt(self, name: str, write: Callable[[], Any]) -> bool:
        """Write something else to the folder if that is possible. ``name`` is what it is called."""
        try:
            write()
        except OSError as error:
            self._reason = reason(error)
            self._lacking[name] = None
            return False
        self._lacking.pop(name, None)
        return True

    def describe_unwritten(self) -> str:
        """One sentence about what could not be written, empty if all was."""
        lacking = list(self._lacking)
        if self.unwritten:
            epochs = plural(self.unwritten, "epoch")
            lacking.insert(0, f"the records of {epochs} of {plural(len(self._waiting), 'trial')}")
        if not lacking:
            return ""
        return (
            f"Not written, because {self._folder.path} cannot be written ({self._reason}): {', '.join(lacking)}. "
            "Once it can be, run the same command again."
        )

    def _write(self, trial_name: str) -> None:
        waiting = self._waiting[trial_name]
        try:
            while waiting:
                self._folder.append(trial_name, waiting[0])
                waiting.popleft()
            del self._waiting[trial_name]
        except OSError as error:
            self._warn_once(error)

    def _warn_once(self, error: OSError) -> None:
        self._reason = reason(error)
        if not self._warned:
            self._warned = True
            self._warn(
                f"Records cannot be written to {self._folder.path} ({self._reason}); training goes on, and they are "
                "kept in memory and written when it is possible again."
            )


def parse_record(line: bytes, epochs: int = MAX_EPOCHS) -> Record | None:
    """The record in a line, or None for an empty one, and for the half that a killed process left.

    Raises:
        ValueError: It is something else.
    """
    if not line.strip():
        return None
    try:
        content = parse_json(line)
    except json.JSONDecodeError as error:
        if line.startswith(b"{"):
            return None
        raise ValueError("it is no JSON") from error
    return check_record(content, epochs)


def epoch_of_death(records: Sequence[Record]) -> int | None:
    """The epoch in which the last of a trial's seeds has failed, or None while one is left."""
    if not records or not records[-1]["seeds"]:
        return None
    dead = all(metrics.get("failed") for metrics in records[-1]["seeds"].values())
    return int(records[-1]["training_iteration"]) if dead else None


def stopped_by(records: Sequence[Record]) -> str:
    """The scheduler or stopper that ended a trial before its last epoch, empty if none did."""
    return str(records[-1].get(STOPPED_BY, "")) if records else ""


def whole_epochs(records: Sequence[Record]) -> int:
    """Epochs that are recorded without a gap, counted from the first."""
    whole = 0
    for record in records:
        if record["training_iteration"] != whole + 1:
            break
        whole += 1
    return whole


def make_record(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a result of RLlib that is kept: plain finite numbers, by seed."""
    seeds = {
        str(name).removeprefix("seed_"): dict(_finite_numbers(values))
        for name, values in result.get("seeds", {}).items()
        if isinstance(values, Mapping)
    }
    return {
        "training_iteration": int(result["training_iteration"]),
        "env_steps": int(result.get("env_steps", 0)),
        "time_total_s": float(result.get("time_total_s", 0.0)),
        "time": dict(_finite_numbers(result.get("time", {}))),
        "perf": dict(_finite_numbers(result.get("perf", {}))),
        "seeds": seeds,
        **({STOPPED_BY: str(result[STOPPED_BY])} if result.get(STOPPED_BY) else {}),
    }


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file. Raises ``ValueError`` at one that no record has the length of."""
    while line := file.readline(MAX_RECORD_BYTES + 1):
        if len(line) > MAX_RECORD_BYTES:
            raise ValueError(f"it has a line of more than {MAX_RECORD_BYTES:,} bytes")
        yield line


def _replace_from_epoch(records: list[Record], record: Record) -> None:
    """Add a record, which takes the place of all from its epoch on."""
    while records and records[-1]["training_iteration"] >= record["training_iteration"]:
        records.pop()
    records.append(record)


def _finite_numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Nested numbers as flat ``section/name`` pairs, without those that are not finite."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _finite_numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (numbers.Real, np.generic)) and math.isfinite(number := float(value)):
            yield f"{prefix}{key}", int(number) if isinstance(value, (bool, numbers.Integral)) else number
