"""Where a sweep's results go: a folder of its own, checked before anything starts."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vagram_ray.records.recorded import SWEEP_FILE
from vagram_ray.sweep.spec import SweepError

DEFAULT_STORAGE = "results"


@dataclass(frozen=True)
class SweepStorage:
    """The folder of one sweep.

    ``location`` is what the user gave: a directory, or a URI such as ``s3://bucket/path``. Under a URI trials keep
    their checkpoints there, while the driver writes its own files to ``./results/NAME`` and copies them beside the
    trials as the sweep goes on (``vagram_ray.sweep.storage.remote``).
    """

    location: str
    name: str

    @property
    def is_remote(self) -> bool:
        """Whether the location is a URI."""
        return "://" in self.location

    @property
    def tune_path(self) -> str:
        """``storage_path`` for Tune."""
        return self.location if self.is_remote else str(self.folder.parent)

    @property
    def folder(self) -> Path:
        """The driver's folder of this sweep."""
        parent = DEFAULT_STORAGE if self.is_remote else self.location
        return Path(parent).expanduser().resolve() / self.name

    @property
    def shown(self) -> str:
        """The folder as short as it can be written from here."""
        return short_path(self.folder)

    @property
    def uri(self) -> str:
        """URI of the sweep, where the location is one."""
        return f"{self.location.rstrip('/')}/{self.name}"

    def check(self) -> None:
        """Refuse a location that cannot be written and a folder that is no sweep's; leaves nothing behind.

        Raises:
            SweepError: One sentence with the way out.
        """
        try:
            existing = self.folder
            while not existing.exists():
                existing = existing.parent
            if not existing.is_dir():
                raise NotADirectoryError(f"{existing} is not a directory")
            with tempfile.TemporaryFile(dir=existing):
                pass
            if existing == self.folder and not is_sweep_folder(existing):
                raise SweepError(f"There is something at {self.shown} that is no sweep; give another --name.")
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a home directory that nobody has
            raise self.not_writable(error) from error
        if self.is_remote:
            from vagram_ray.sweep.storage.remote import check_writable

            check_writable(self)

    def create(self) -> None:
        """Make the folder, unless it is there.

        Raises:
            SweepError: It cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise self.not_writable(error) from error

    def free_bytes(self) -> int | None:
        """Free disk where results go, as far as it can be told."""
        if self.is_remote:
            return None
        existing = self.folder.parent
        while not existing.exists():
            existing = existing.parent
        return shutil.disk_usage(existing).free

    def not_writable(self, error: Exception) -> SweepError:
        """What to say when the driver's folder cannot be written."""
        why = reason(error)
        if self.is_remote:
            return SweepError(
                f"The sweep's own files cannot be written to {DEFAULT_STORAGE!r} ({why}); "
                "start it in a directory that can be written."
            )
        return SweepError(f"--storage {self.location!r} cannot be written ({why}); give a directory that can.")


def is_sweep_folder(folder: Path) -> bool:
    """Whether a folder is a sweep's, or has nothing in it but what a driver leaves that is killed at its start."""
    own = (entry.name.startswith(".") or entry.suffix == ".tmp" for entry in folder.iterdir())
    return (folder / SWEEP_FILE).is_file() or all(own)


def reason(error: Exception) -> str:
    """What went wrong, to stand inside a sentence."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(text.split()).replace(". Detail:", ":").rstrip(".")


def short_path(path: Path | str) -> str:
    """A path relative to the working directory where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
