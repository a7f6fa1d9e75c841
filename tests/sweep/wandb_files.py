"""Read the ``.wandb`` files that Weights & Biases leaves on disk, record by record.

A ``.wandb`` file is a log in LevelDB's framing: a header of 7 bytes, then blocks of 32 KiB that hold chunks
(checksum, length, type, data); the chunks of one record together are one ``wandb_internal_pb2.Record``.
wandb has no public reader. A process that was killed leaves the last record cut short; reading stops before it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FILE_HEADER = struct.Struct("<4sHB")
_MAGIC = (b":W&B", 0xBEE1)
_BLOCK_BYTES = 32768
_CHUNK_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


class WandbFileError(ValueError):
    """A file that was given as a ``.wandb`` file is none; the message names it."""


@dataclass
class OfflineRun:
    """One run folder as read back from its ``.wandb`` file."""

    run_id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    """What was given to ``wandb.init(config=...)``; wandb's own ``_wandb`` entry is left out."""
    step_metrics: dict[str, str] = field(default_factory=dict)
    """Defined metric (a name or a pattern) -> its x axis."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One dict per logged row, in file order; ``_step`` is the row's step."""
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Artifact's name -> the file on disk for each path in it."""
    exit_code: int | None = None
    """None while the run is not finished (still open, or its process was killed)."""


def iterate_records(path: str | Path) -> Iterator[Any]:
    """Yield every whole ``wandb_internal_pb2.Record`` of a ``.wandb`` file.

    Raises:
        WandbFileError: the file does not begin as a ``.wandb`` file does.
    """
    from wandb.proto import wandb_internal_pb2

    for data in _iterate_payloads(Path(path)):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        record.ParseFromString(data)
        yield record


def read_offline_run(path: str | Path) -> OfflineRun:
    """Read one run from its folder (``offline-run-...``) or from the ``.wandb`` file itself.

    Raises:
        WandbFileError: the folder holds no ``.wandb`` file, or the file is none.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.wandb"))
        if not files:
            raise WandbFileError(f"{path} holds no .wandb file: give a folder such as wandb/offline-run-...")
        path = files[0]
    run = OfflineRun()
    for record in iterate_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            _read_run_record(run, record.run)
        elif kind == "config":
            _update(run.config, record.config.update)
            run.config.pop("_wandb", None)
        elif kind == "metric":
            run.step_metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "history":
            row: dict[str, Any] = {"_step": record.history.step.num}
            _update(row, record.history.item)
            run.history.append(row)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "artifact":
            entries = record.artifact.manifest.contents
            run.artifacts[record.artifact.name] = {entry.path: Path(entry.local_path) for entry in entries}
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _read_run_record(run: OfflineRun, record: Any) -> None:
    run.run_id, run.name, run.project = record.run_id, record.display_name, record.project
    run.group, run.job_type, run.tags = record.run_group, record.job_type, tuple(record.tags)
    _update(run.config, record.config.update)
    run.config.pop("_wandb", None)


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        target["/".join(item.nested_key) or item.key] = json.loads(item.value_json)


def _iterate_payloads(path: Path) -> Iterator[bytes]:
    """Yield the bytes of each record, joined from its chunks; stop at the first damaged or missing chunk."""
    content = path.read_bytes()
    if len(content) < _FILE_HEADER.size or _FILE_HEADER.unpack_from(content)[:2] != _MAGIC:
        raise WandbFileError(f"{path} is not a .wandb file: its first bytes are {content[:7]!r}.")
    position, parts = _FILE_HEADER.size, b""
    while position + _CHUNK_HEADER.size <= len(content):
        room = _BLOCK_BYTES - position % _BLOCK_BYTES
        if room < _CHUNK_HEADER.size:  # a block's last few bytes are padding
            position += room
            continue
        checksum, length, kind = _CHUNK_HEADER.unpack_from(content, position)
        data = content[position + _CHUNK_HEADER.size : position + _CHUNK_HEADER.size + length]
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return
        position += _CHUNK_HEADER.size + length
        parts = data if kind in (_FULL, _FIRST) else parts + data
        if kind in (_FULL, _LAST):
            yield parts
