"""How far each run of a sweep is logged: ``wandb_logged.json``, the one file that is kept for W&B beside the records.

Online, W&B's server has the last word, and what stands here saves asking it. Offline nobody can be asked, so a run's
rows are counted by *pieces*, the folders that wandb writes. A piece is counted when wandb's process has closed it and
ended. Where that process or ours was killed before, the piece is removed and its rows are logged anew: the records
have them all.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vagram_ray.files import read_file, write_atomically
from vagram_ray.sweep.wandb.identity import sweep_digest

logger = logging.getLogger(__name__)

CURSOR_FILE = "wandb_logged.json"
NO_STEP = -1
_LIMIT = 2**26


@dataclass(frozen=True)
class Logged:
    """What of one run is known to be at W&B, or in whole pieces where it is logged offline."""

    env_steps: int = NO_STEP
    """The last step."""
    exit_code: int | None = None
    """How the run was closed, or None while it is open, or when it is not known to have arrived."""
    online: bool = False
    content: str = ""
    """Digest of the summary, for the sweep's own run."""
    deleted: bool = False
    """Somebody has deleted it at W&B, which takes no run of the same id again."""
    pieces: tuple[str, ...] = ()
    """Names of its offline folders that are whole."""
    writing: tuple[str, ...] = ()
    """Names of those that are not closed yet."""
    given: int = NO_STEP
    """The last step that was given to those."""


class Cursor:
    """Reads and writes the file.

    Args:
        folder: The sweep's folder.
        place: Names server and project: each has its own entries.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self._folder, self._place = folder, place
        self.sweep_name, self._places = _read(folder)
        self._runs = self._places.setdefault(place, {})

    def get(self, run_id: str) -> Logged:
        """What is known of a run."""
        return self._runs.get(run_id, Logged())

    def pieces(self, run_id: str) -> set[str]:
        """Offline folders of a run of this project, to whichever server they would have gone."""
        project = self._place.partition(" ")[2]
        runs = (runs for place, runs in self._places.items() if place.partition(" ")[2] == project)
        return {name for own in runs if run_id in own for name in own[run_id].pieces}

    def note(self, entries: Mapping[str, Logged]) -> None:
        """Keep what has become known.

        Raises:
            OSError: The disk is full or not writable.
        """
        changed = {run_id: logged for run_id, logged in entries.items() if self._runs.get(run_id) != logged}
        if changed:
            self._runs |= changed
            self.write()

    def write(self) -> None:
        """Write the file."""
        places = {name: {key: asdict(entry) for key, entry in runs.items()} for name, runs in self._places.items()}
        text = json.dumps({"sweep_name": self.sweep_name, "places": places}, indent=1)
        write_atomically(self._folder / CURSOR_FILE, text + "\n")

    def discard_broken_pieces(self) -> None:
        """Remove the pieces that nobody has closed. One that ``wandb sync`` has uploaded stays, and counts."""
        changed = {}
        for run_id, logged in self._runs.items():
            kept = []
            for name in logged.writing:
                piece = self._folder / "wandb" / name
                if not (name.startswith("offline-run-") and run_id in name and piece.is_dir()):
                    continue
                if is_synced(piece):
                    kept.append(name)
                else:
                    shutil.rmtree(piece)
            if logged.writing:
                steps = max(logged.env_steps, logged.given) if kept else logged.env_steps
                whole = (*logged.pieces, *kept)
                changed[run_id] = replace(logged, env_steps=steps, pieces=whole, writing=(), given=NO_STEP)
        self.note(changed)


def logged_name(folder: Path) -> str:
    """The name under which a sweep was logged, which its folder need not have any more, empty if it never was."""
    return _read(folder)[0]


def note_name(folder: Path, name: str) -> None:
    """Keep the name under which a sweep is logged."""
    cursor = Cursor(folder, "")
    if cursor.sweep_name != name:
        cursor.sweep_name = name
        cursor.write()


def offline_runs(folder: Path, sweep_id: str) -> list[Path]:
    """Folders of a sweep's offline runs that W&B does not have, oldest first: what ``wandb sync`` takes."""
    pieces = (folder / "wandb").glob(f"offline-run-*-{sweep_digest(sweep_id)}-*")
    return sorted(piece for piece in pieces if any(piece.glob("*.wandb")) and not is_synced(piece))


def is_synced(piece: Path) -> bool:
    """Whether ``wandb sync`` leaves an offline run's folder alone."""
    return any(piece.glob("*.wandb.synced"))


def mark_synced(piece: Path) -> None:
    """Have ``wandb sync`` leave an offline run's folder alone: W&B has its rows."""
    for file in piece.glob("*.wandb"):
        file.with_suffix(".wandb.synced").touch()


def _read(folder: Path) -> tuple[str, dict[str, dict[str, Logged]]]:
    """The sweep's name and what is logged, by place and run: nothing where the file is not there or damaged."""
    try:
        content = json.loads(read_file(folder / CURSOR_FILE, _LIMIT))
        places = {place: _entries(runs) for place, runs in content["places"].items()}
        return str(content["sweep_name"]), places
    except FileNotFoundError:
        return "", {}
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        logger.warning("%s is damaged and not used.", folder / CURSOR_FILE)
        return "", {}


def _entries(runs: dict[str, Any]) -> dict[str, Logged]:
    """What is known of each run, without those of which it cannot be understood."""
    known: dict[str, Logged] = {}
    for run_id, entry in runs.items():
        try:
            known[run_id] = _entry(entry)
        except (TypeError, AttributeError):
            logger.warning("What %s says of the run %s is damaged and not used.", CURSOR_FILE, run_id)
    return known


def _entry(entry: dict[str, Any]) -> Logged:
    """What is known of one run.

    Raises:
        TypeError: It is none.
    """
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    logged = Logged(**values)
    for name, default in asdict(Logged()).items():
        value = getattr(logged, name)
        if type(value) is not type(default) and not (name == "exit_code" and type(value) is int):
            raise TypeError(name)
    if not all(isinstance(piece, str) and "/" not in piece for piece in (*logged.pieces, *logged.writing)):
        raise TypeError("pieces")
    return logged
