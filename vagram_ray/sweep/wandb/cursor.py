"""How far each run of a sweep is logged: ``wandb_logged.json``, the one file that is kept for W&B beside the records.

Online, W&B's server has the last word, and what stands here saves asking it. Offline nobody can be asked: a run's rows
count where they stand in a piece that is named here (``offline``).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vagram_ray.files import read_file, write_atomically

logger = logging.getLogger(__name__)

CURSOR_FILE = "wandb_logged.json"
NO_STEP = -1
_LIMIT = 2**26


@dataclass(frozen=True)
class Logged:
    """What of one run is known to be at W&B, or in pieces where it is logged offline."""

    env_steps: int = NO_STEP
    """The last step."""
    exit_code: int | None = None
    """How the run was closed, or None while it is open, or when it is not known to have arrived."""
    online: bool = False
    pieces: tuple[str, ...] = ()
    """Names of its offline folders."""


class Cursor:
    """Reads and writes the file.

    Args:
        folder: The sweep's folder.
        place: Names server and project: each has its own entries.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self._file, self._place = folder / CURSOR_FILE, place
        self._places = _read(self._file)
        self._runs = self._places.setdefault(place, {})

    def get(self, run_id: str) -> Logged:
        """What is known of a run."""
        return self._runs.get(run_id, Logged())

    def pieces(self, run_id: str) -> set[str]:
        """Offline folders of a run of this project, to whichever server they would have gone."""
        project = self._place.partition(" ")[2]
        runs = (runs for place, runs in self._places.items() if place.partition(" ")[2] == project)
        return {name for own in runs if run_id in own for name in own[run_id].pieces}

    def all_pieces(self) -> set[str]:
        """Offline folders of all runs of all projects."""
        return {name for runs in self._places.values() for logged in runs.values() for name in logged.pieces}

    def note(self, entries: Mapping[str, Logged]) -> None:
        """Keep what has become known.

        Raises:
            OSError: The disk is full or not writable.
        """
        self._runs |= entries
        places = {name: {key: asdict(entry) for key, entry in runs.items()} for name, runs in self._places.items()}
        write_atomically(self._file, json.dumps({"places": places}, indent=1) + "\n")


def _read(file: Path) -> dict[str, dict[str, Logged]]:
    """What is logged, by place and run: nothing where the file is not there or damaged."""
    try:
        places = json.loads(read_file(file, _LIMIT))["places"]
        return {place: {key: _logged(**entry) for key, entry in runs.items()} for place, runs in places.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        logger.warning("%s is damaged and not used.", file)
        return {}


def _logged(*, env_steps: int, exit_code: int | None, online: bool, pieces: Sequence[str], **_earlier: Any) -> Logged:
    """What is known of one run. Earlier versions noted more. Raises ``ValueError`` or ``TypeError`` for damage."""
    code = None if exit_code is None else int(exit_code)
    return Logged(int(env_steps), code, bool(online), tuple(Path(piece).name for piece in pieces))
