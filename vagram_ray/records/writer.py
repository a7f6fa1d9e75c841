"""Records that survive a full disk: what cannot be written now is written later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vagram_ray.records.folder import SweepFolder
from vagram_ray.text import plural


class RecordWriter:
    """Appends results to a sweep's records, in order, and keeps in memory what the disk does not take.

    A trial's lines that could not be written are tried again before its next one and by ``flush``. What a failed
    attempt leaves behind is half a line at most, which is passed over on reading and followed by a new line.

    Args:
        folder: The sweep's folder.
        warn: Is told once, in one sentence, when a record could not be written.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None] = lambda sentence: None) -> None:
        self.folder, self._warn = folder, warn
        self._sweep = SweepFolder(folder)
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
            self._reason = error.strerror or str(error)
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
            f"Not written, because {self.folder} cannot be written ({self._reason}): {', '.join(lacking)}. "
            "Once it can be, run the same command again."
        )

    def _write(self, trial_name: str) -> None:
        waiting = self._waiting[trial_name]
        try:
            while waiting:
                self._sweep.append(trial_name, waiting[0])
                waiting.popleft()
            del self._waiting[trial_name]
        except OSError as error:
            self._warn_once(error)

    def _warn_once(self, error: OSError) -> None:
        self._reason = error.strerror or str(error)
        if not self._warned:
            self._warned = True
            self._warn(
                f"Records cannot be written to {self.folder} ({self._reason}); training goes on, and they are kept in "
                "memory and written when it is possible again."
            )
