"""Where a sweep's results go: a folder of its own, checked before anything starts."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vagram_ray.commands import first_existing
from vagram_ray.files import below
from vagram_ray.records.folder import SWEEP_FILE
from vagram_ray.sweep.spec import SweepError
from vagram_ray.text import reason, short_path

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

DEFAULT_STORAGE = "results"
WITH_BUCKETS = ("s3", "gs", "gcs", "abfs", "abfss")
"""Schemes of URIs that begin with a bucket or container."""
ANSWER_WITHIN_S = 30.0
"""A storage that has not answered by then is refused: PyArrow itself would wait for minutes."""
SAY_AFTER_S = 3.0
"""From then on the user is told what is waited for."""


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
        return below(self.location, self.name)

    def trial_folder(self, name: str) -> str:
        """Path or URI of a trial's folder."""
        return below(self.location, self.name, name) if self.is_remote else f"{self.folder}/{name}"

    def check(self, say: Callable[[str], None] = lambda sentence: None) -> None:
        """Refuse a location that cannot be written and a folder that is no sweep's. Leaves nothing behind.

        Args:
            say: Is told that a storage takes long to answer.

        Raises:
            SweepError: One sentence with the way out.
        """
        try:
            existing = first_existing(self.folder)
            if not existing.is_dir():
                raise NotADirectoryError(f"{existing} is not a directory")
            with tempfile.TemporaryFile(dir=existing):
                pass
            if existing == self.folder and not is_sweep_folder(existing):
                raise SweepError(f"There is something at {self.shown} that is no sweep; give another --name.")
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a home directory that nobody has
            raise self.not_writable(error) from error
        if self.is_remote:
            self._check_uri(say)

    def _check_uri(self, say: Callable[[str], None]) -> None:
        scheme, _, rest = self.location.partition("://")
        if scheme in WITH_BUCKETS and not rest.partition("?")[0].partition("/")[0]:
            raise SweepError(f"--storage {self.location!r} names no bucket; give {scheme}://BUCKET/PATH.")
        refusals: list[BaseException] = []

        def ask() -> None:
            try:
                check_writable(self)
            except BaseException as error:
                refusals.append(error)

        asking = threading.Thread(target=ask, name="storage-check", daemon=True)  # nothing ends a call of PyArrow
        asking.start()
        asking.join(SAY_AFTER_S)
        if asking.is_alive():
            say(f"Waiting for {self.location} to answer, at most {ANSWER_WITHIN_S:.0f} s.")
            asking.join(ANSWER_WITHIN_S - SAY_AFTER_S)
        if asking.is_alive():
            raise SweepError(
                f"--storage {self.location!r} has not answered within {ANSWER_WITHIN_S:.0f} s; check the network and "
                "the credentials, or give a directory."
            )
        if refusals:
            raise refusals[0]

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
        return shutil.disk_usage(first_existing(self.folder.parent)).free

    def not_writable(self, error: Exception) -> SweepError:
        """What to say when the driver's folder cannot be written."""
        why = reason(error)
        if self.is_remote:
            return SweepError(
                f"The sweep's own files cannot be written to {DEFAULT_STORAGE!r} ({why}); "
                "start it in a directory that can be written."
            )
        return SweepError(f"--storage {self.location!r} cannot be written ({why}); give a directory that can.")


def check_writable(storage: SweepStorage) -> None:
    """Refuse a URI that cannot be used or written. Leaves nothing behind.

    Raises:
        SweepError: One sentence with the way out.
    """
    from vagram_ray.checkpoint.files import resolve  # brings PyArrow along, which a folder does without

    with as_sweep_error(storage, "be used"):
        filesystem, path = resolve(storage.uri)
        filesystem.get_file_info(path)
    with as_sweep_error(storage, "be written", "; give a location that can"):
        _write_probe(filesystem, path)


@contextlib.contextmanager
def as_sweep_error(storage: SweepStorage, what: str, way_out: str = "") -> Iterator[None]:
    """Turn what an object store raises into one sentence: the location cannot ``what``.

    Raises:
        SweepError: The sentence.
    """
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError, ValueError) as error:
        end = f" ({reason(error)}){way_out}" if way_out else f": {reason(error)}"
        raise SweepError(f"--storage {storage.location!r} cannot {what}{end}.") from error


def _write_probe(filesystem: FileSystem, path: str) -> None:
    """Make and delete a folder with a small object beside ``path``: what a checkpoint takes.

    On Google Cloud to make a folder takes another right than to write an object.
    """
    from pyarrow import fs

    parent, _, name = path.rpartition("/")
    if isinstance(filesystem, fs.LocalFileSystem):  # object stores need no directory to be there
        parent = str(first_existing(Path(parent)))
    probe = f"{parent}/.{name}-{uuid.uuid4().hex}.probe"
    filesystem.create_dir(probe, recursive=True)
    with filesystem.open_output_stream(f"{probe}/probe") as stream:
        stream.write(b"probe")
    filesystem.delete_dir(probe)


def is_sweep_folder(folder: Path) -> bool:
    """Whether a folder is a sweep's, or has nothing in it but what a driver leaves that is killed at its start."""
    own = (entry.name.startswith(".") or entry.suffix == ".tmp" for entry in folder.iterdir())
    return (folder / SWEEP_FILE).is_file() or all(own)
