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
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vagram_ray.files import read_file, write_atomically
from vagram_ray.sweep.wandb.identity import sweep_digest

logger = logging.getLogger(__name__)

CURSOR_FILE = "wandb_logged.json"
NO_STEP = -1
_EARLIER_FILE = "vagram_ray.json"
"""In the folder ``wandb``: where an earlier version kept the sweep's name."""
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
        content = _read(folder)
        self.sweep_name = str(content.get("sweep_name", ""))
        self._places = {name: _entries(runs) for name, runs in _places(content, folder).items()}
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
    name = _read(folder).get("sweep_name")
    if not name:
        name = _read(folder / "wandb", _EARLIER_FILE).get("sweep_name")
    return str(name or "")


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


def _read(folder: Path, name: str = CURSOR_FILE) -> dict[str, Any]:
    try:
        content = json.loads(read_file(folder / name, _LIMIT))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        logger.warning("%s is damaged and not used.", folder / name)
        return {}
    return content


def _places(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The entries by place. An earlier version kept those of one, and no names of pieces."""
    if isinstance(content.get("place"), str) and isinstance(content.get("runs"), dict):
        runs = content["runs"]
        for run_id, entry in runs.items():
            if isinstance(entry, dict) and not entry.get("online"):
                entry["pieces"] = sorted(path.name for path in folder.glob(f"wandb/offline-run-*-{run_id}*"))
        return {content["place"]: runs}
    places = content.get("places")
    return places if isinstance(places, dict) else {}


def _entries(runs: Any) -> dict[str, Logged]:
    """The entries of one place that are sound."""
    found = {}
    for run_id, entry in runs.items() if isinstance(runs, dict) else ():
        logged = _entry(entry)
        if logged is None:
            logger.warning("%s is damaged where it tells of the run %s, which is logged anew.", CURSOR_FILE, run_id)
        else:
            found[str(run_id)] = logged
    return found


def _entry(entry: Any) -> Logged | None:
    if not isinstance(entry, dict) or not set(entry) <= {field.name for field in fields(Logged)}:
        return None
    defaults = asdict(Logged())
    values: dict[str, Any] = {}
    for name, value in entry.items():
        if name in ("pieces", "writing"):
            sound = isinstance(value, list) and all(isinstance(part, str) and "/" not in part for part in value)
            values[name] = tuple(value) if sound else None
        elif name == "exit_code":
            sound = value is None or type(value) is int
            values[name] = value
        else:
            sound = type(value) is type(defaults[name])
            values[name] = value
        if not sound:
            return None
    return Logged(**values)
