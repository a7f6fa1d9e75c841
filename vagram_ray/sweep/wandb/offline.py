"""Runs without a server: folders that wandb writes, and that are there completely or not at all.

wandb's process writes a *piece* of each run, a folder with the run's rows from one step to another, in a hidden
folder. When that process has ended the pieces are whole: they are noted in the cursor and moved to ``wandb/``. After a
kill in between, ``settle`` moves what is noted, and removes the rest, whose rows are written anew from the records.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vagram_ray.sweep.wandb.cursor import NO_STEP, Cursor, Logged
from vagram_ray.sweep.wandb.runs import RunIdentity, open_run, sweep_digest
from vagram_ray.sweep.wandb.trials import Row

FOLDER = "wandb"
_STAGING = f"{FOLDER}/.writing"


@dataclass(frozen=True)
class Piece:
    """What is to be written of one run."""

    identity: RunIdentity
    rows: Iterable[Row]
    summary: Mapping[str, Any]
    exit_code: int


def write_pieces(
    pieces: Iterable[Piece], folder: Path, project: str, tags: tuple[str, ...], beat: Callable[[], None]
) -> dict[str, Logged]:
    """Write pieces into the hidden folder. They are whole when this returns; ``settle`` moves them when they are noted.

    Args:
        pieces: What is written. Rows are asked for one run after the other.
        folder: The sweep's.
        project: ``PROJECT`` or ``ENTITY/PROJECT``.
        tags: Of all runs.
        beat: Called before each call of wandb.

    Returns:
        Last step, exit code and name of the piece of each run by its id.

    Raises:
        OSError: The disk does not take them.
        Exception: Whatever wandb raises.
    """
    import wandb

    (folder / _STAGING).mkdir(parents=True, exist_ok=True)
    written: dict[str, Logged] = {}
    least_bytes: dict[Path, int] = {}
    for piece in pieces:
        beat()
        live = open_run(piece.identity, folder / _STAGING, project, tags, online=False)
        step, num_bytes = NO_STEP, 0
        for step, row in piece.rows:
            live.log(row, step=step, commit=True)
            num_bytes += sum(len(key) + len(repr(value)) for key, value in row.items())
        live.summary.update(piece.summary)
        beat()
        live.finish(exit_code=piece.exit_code)
        least_bytes[Path(live.settings.sync_file)] = num_bytes
        written[piece.identity.run_id] = Logged(step, piece.exit_code, pieces=(Path(live.sync_dir).name,))
    beat()
    wandb.teardown()  # returns when all is written
    for file, num_bytes in least_bytes.items():
        if file.resolve().parents[1] != (folder / _STAGING / FOLDER).resolve():
            raise OSError(f"{file} is not where wandb was told to write")
        if file.stat().st_size < num_bytes:
            raise OSError(f"{file} is cut short, as on a disk that is full")
    return written


def settle(folder: Path, cursor: Cursor) -> None:
    """Move the pieces that the cursor names out of the hidden folder, and remove what else is in it."""
    noted = cursor.all_pieces()
    for piece in (folder / _STAGING / "wandb").glob("offline-run-*"):
        if piece.name in noted:
            os.rename(piece, folder / FOLDER / piece.name)
    shutil.rmtree(folder / _STAGING, ignore_errors=True)


def offline_runs(folder: Path, sweep_id: str) -> list[Path]:
    """Folders of a sweep's offline runs that W&B does not have, oldest first: what ``wandb sync`` takes."""
    pieces = (folder / FOLDER).glob(f"offline-run-*-{sweep_digest(sweep_id)}-*")
    return sorted(piece for piece in pieces if any(piece.glob("*.wandb")) and not any(piece.glob("*.wandb.synced")))


def mark_synced(folder: Path, name: str) -> None:
    """Have ``wandb sync`` leave an offline run's folder alone: W&B has its rows."""
    for file in (folder / FOLDER / name).glob("*.wandb"):
        file.with_suffix(".wandb.synced").touch()
