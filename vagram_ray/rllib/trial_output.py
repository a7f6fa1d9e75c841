"""What a Tune trial's process prints, kept in the trial's folder: Tune leaves it on the machine that it ran on."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from types import TracebackType

from pyarrow.fs import FileSystem

from vagram_ray.checkpoint.files import STORAGE_ERRORS, read_file, write_file_atomically

OUTPUT_FILES = ("stdout", "stderr")
"""As Tune's ``log_to_file`` calls them in a sweep."""
KEPT_BYTES = 2**20
"""Of what earlier processes of the trial have printed."""
INTERVAL_S = 60.0


class TrialOutput:
    """Copies a process's output behind that of the trial's earlier processes. As a context, when the block fails.

    A full disk stops nothing: what cannot be copied now is copied next time.

    Args:
        filesystem: Where ``path`` is.
        path: The trial's folder.
        source: The folder in which Tune lets this process write its output.
    """

    def __init__(self, filesystem: FileSystem, path: str, source: str) -> None:
        self._filesystem, self._path, self._source = filesystem, path, Path(source)
        self._earlier: dict[str, bytes] = {}
        for name in OUTPUT_FILES:
            with contextlib.suppress(*STORAGE_ERRORS):
                self._earlier[name] = read_file(filesystem, f"{path}/{name}")[-KEPT_BYTES:]
        self._last = time.monotonic()

    def keep(self) -> None:
        """Copy what is there by now."""
        self._last = time.monotonic()
        with contextlib.suppress(*STORAGE_ERRORS):
            sys.stdout.flush()
            sys.stderr.flush()
        for name in OUTPUT_FILES:
            with contextlib.suppress(*STORAGE_ERRORS):
                if printed := (self._source / name).read_bytes():
                    self._filesystem.create_dir(self._path, recursive=True)
                    content = self._earlier.get(name, b"") + printed
                    write_file_atomically(self._filesystem, f"{self._path}/{name}", content)

    def keep_if_due(self) -> None:
        """The same, once a minute."""
        if time.monotonic() - self._last >= INTERVAL_S:
            self.keep()

    def __enter__(self) -> TrialOutput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.keep()
