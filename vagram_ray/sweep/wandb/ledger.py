"""What Weights & Biases is known to have of a sweep: a small file beside the records, so that nobody has to ask.

``wandb_logged.json`` is no more than a shortcut. Where it is missing, damaged or about another project, W&B's own
files and server are looked at.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vagram_ray.files import write_atomically

logger = logging.getLogger(__name__)

LEDGER_FILE = "wandb_logged.json"
NO_STEP = -1


@dataclass(frozen=True)
class Logged:
    """What of one run is known to be at W&B, or in its files where it is logged offline."""

    env_steps: int = NO_STEP
    """The last step."""
    exit_code: int | None = None
    """How the run was closed; None while it is open, or when it is not known to have arrived."""
    online: bool = False
    content: str = ""
    """Digest of the summary, for the sweep's own run."""
    deleted: bool = False
    """Somebody has deleted it at W&B, which takes no run of the same id again."""


class Ledger:
    """Reads and writes the file.

    Args:
        directory: The sweep's folder.
        place: Names server and project. What was written about another place is not used.
    """

    def __init__(self, directory: Path, place: str) -> None:
        self._path, self._place = directory / LEDGER_FILE, place
        self._runs = self._read()

    def get(self, run_id: str) -> Logged | None:
        """What is known of a run; None if nothing is."""
        return self._runs.get(run_id)

    def note(self, run_id: str, logged: Logged) -> None:
        """Keep what has become known. A disk that is full or not writable costs the file, no more."""
        if self._runs.get(run_id) == logged:
            return
        self._runs[run_id] = logged
        content = {"place": self._place, "runs": {name: asdict(entry) for name, entry in self._runs.items()}}
        with contextlib.suppress(OSError):
            write_atomically(self._path, json.dumps(content, indent=1) + "\n")

    def _read(self) -> dict[str, Logged]:
        try:
            content = json.loads(self._path.read_text())
            if content["place"] != self._place:
                return {}
            return {str(name): _logged(entry) for name, entry in content["runs"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            logger.warning("%s is damaged and not used: W&B itself is looked at for what it has.", self._path)
            return {}


def _logged(entry: dict[str, Any]) -> Logged:
    logged = Logged(**entry)
    sound = (
        _is_int(logged.env_steps)
        and (logged.exit_code is None or _is_int(logged.exit_code))
        and isinstance(logged.online, bool)
        and isinstance(logged.content, str)
        and isinstance(logged.deleted, bool)
    )
    if not sound:
        raise TypeError("an entry of other types")
    return logged


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
