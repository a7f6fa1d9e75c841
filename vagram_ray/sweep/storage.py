"""Where a sweep's results go: a folder of its own, checked before anything starts."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vagram_ray.sweep.spec import SweepError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

DEFAULT_STORAGE = "results"


@dataclass(frozen=True)
class SweepStorage:
    """The folder of one sweep.

    ``location`` is what the user gave: a directory, or a URI such as ``s3://bucket/path``. Under a URI Tune keeps
    its checkpoints there, while the driver writes its own files to ``./results/NAME`` and copies them at the end.
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

    def check(self) -> None:
        """Refuse a name that exists and a location that cannot be written; leaves nothing behind.

        Raises:
            SweepError: One sentence with the way out.
        """
        try:
            if self.folder.exists():
                raise SweepError(
                    f"There is a sweep at {self.shown} already; give another --name or remove that folder."
                )
            existing = self.folder.parent
            while not existing.exists():
                existing = existing.parent
            if not existing.is_dir():
                raise NotADirectoryError(f"{existing} is not a directory")
            with tempfile.TemporaryFile(dir=existing):
                pass
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a home directory that nobody has
            raise self._not_writable(error) from error
        if self.is_remote:
            self._check_remote()

    def create(self) -> None:
        """Make the folder.

        Raises:
            SweepError: It cannot be made.
        """
        try:
            self.folder.mkdir(parents=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._not_writable(error) from error

    def upload(self) -> None:
        """Copy the driver's files beside Tune's, where those lie at a URI."""
        if self.is_remote:
            from pyarrow import fs

            filesystem, path = fs.FileSystem.from_uri(f"{self.location.rstrip('/')}/{self.name}")
            fs.copy_files(str(self.folder), path, destination_filesystem=filesystem)

    def free_bytes(self) -> int | None:
        """Free disk where results go, as far as it can be told."""
        if self.is_remote:
            return None
        existing = self.folder.parent
        while not existing.exists():
            existing = existing.parent
        return shutil.disk_usage(existing).free

    def _not_writable(self, error: Exception) -> SweepError:
        reason = _reason(error)
        if self.is_remote:
            return SweepError(
                f"The sweep's own files cannot be written to {DEFAULT_STORAGE!r} ({reason}); "
                "start it in a directory that can be written."
            )
        return SweepError(f"--storage {self.location!r} cannot be written ({reason}); give a directory that can.")

    def _check_remote(self) -> None:
        from pyarrow import ArrowException, fs

        uri = f"{self.location.rstrip('/')}/{self.name}"
        try:
            filesystem, path = fs.FileSystem.from_uri(uri)
            exists = filesystem.get_file_info(path).type != fs.FileType.NotFound
        except (ArrowException, OSError, ValueError) as error:
            raise SweepError(f"--storage {self.location!r} cannot be used: {_reason(error)}.") from error
        if exists:
            raise SweepError(f"There is a sweep at {uri} already; give another --name.")
        try:
            _write_probe(filesystem, path)
        except (ArrowException, OSError, ValueError) as error:
            raise SweepError(
                f"--storage {self.location!r} cannot be written ({_reason(error)}); give a location that can."
            ) from error


def _write_probe(filesystem: FileSystem, path: str) -> None:
    """Write and delete a small object beside ``path``, which does not exist."""
    from pyarrow import fs

    parent, _, name = path.rpartition("/")
    if isinstance(filesystem, fs.LocalFileSystem):  # object stores need no directory to be there
        while parent and filesystem.get_file_info(parent).type == fs.FileType.NotFound:
            parent = parent.rpartition("/")[0]
    probe = f"{parent}/.{name}-{uuid.uuid4().hex}.probe"
    with filesystem.open_output_stream(probe) as stream:
        stream.write(b"probe")
    filesystem.delete_file(probe)


def _reason(error: Exception) -> str:
    """What went wrong, to stand inside a sentence."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(text.split()).replace(". Detail:", ":").rstrip(".")


def short_path(path: Path | str) -> str:
    """A path relative to the working directory where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
