"""A sweep at a URI such as ``s3://bucket/path``: the driver's own files beside the folders of its trials.

The driver works in ``./results/NAME`` and copies what changes to the URI: ``sweep.json`` at once, records and tables
every ``UPLOAD_EVERY_S``, all the rest at the end. Should its machine be lost, the same command elsewhere fetches the
files and goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vagram_ray.checkpoint.files import resolve
from vagram_ray.files import TEMPORARY
from vagram_ray.records.folder import RECORDS_FOLDER, SWEEP_FILE, SweepFolder, whole_epochs
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage, as_sweep_error
from vagram_ray.sweep.storage.lease import LostSweepError, check_held
from vagram_ray.text import reason

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

logger = logging.getLogger(__name__)

UPLOAD_EVERY_S = 30.0


def has_sweep(storage: SweepStorage) -> bool:
    """Whether there is a sweep at the URI.

    Raises:
        SweepError: There is something else, or it cannot be told.
    """
    from pyarrow import fs

    with as_sweep_error(storage, "be used"):
        filesystem, path = resolve(storage.uri)
        if filesystem.get_file_info(f"{path}/{SWEEP_FILE}").type == fs.FileType.File:
            return True
        there = filesystem.get_file_info(path).type != fs.FileType.NotFound
    if there and not (storage.folder / SWEEP_FILE).is_file():  # killed before its first file was copied, perhaps
        raise SweepError(f"There is something at {storage.uri} that is no sweep; give another --name.")
    return False


def fetch(storage: SweepStorage, folder: Path) -> None:
    """Copy the driver's files from the URI to ``folder``, which may hold some already: what reaches further stays.

    Raises:
        SweepError: They cannot be read, or ``folder`` holds another sweep.
    """
    own = SweepFolder(folder)
    with as_sweep_error(storage, "be read"), tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY) as temporary:
        fetched = SweepFolder(temporary)
        filesystem, path = resolve(storage.uri)
        _fetch_file(filesystem, filesystem.get_file_info(f"{path}/{SWEEP_FILE}"), fetched.file)
        for info in _files_below(filesystem, f"{path}/{RECORDS_FOLDER}"):
            if info.base_name.endswith(".jsonl"):
                _fetch_file(filesystem, info, fetched.path / RECORDS_FOLDER / info.base_name)
        if _is_newer(storage, fetched, own):
            os.replace(fetched.file, own.file)
        (folder / RECORDS_FOLDER).mkdir(exist_ok=True)
        for file in fetched.records_files():
            if not own.records_file(file.stem).exists() or _reach(fetched, file.stem) > _reach(own, file.stem):
                os.replace(file, own.records_file(file.stem))


def _is_newer(storage: SweepStorage, fetched: SweepFolder, own: SweepFolder) -> bool:
    """Whether the fetched ``sweep.json`` knows of more launches than one's own. A damaged one is the worse of the two.

    Raises:
        SweepError: They are of different sweeps.
    """
    here, there = _launches(own), _launches(fetched)
    if here and there and here[0] != there[0]:
        raise SweepError(
            f"{storage.shown} and {storage.uri} hold different sweeps: remove one of them, or give another --name."
        )
    return not own.is_there or (there is not None and (here is None or there[1:] > here[1:]))


def _launches(folder: SweepFolder) -> tuple[str, int, bool] | None:
    """Id of a sweep, the number of its launches, and whether the last has ended, or None where it cannot be read."""
    try:
        info = folder.read()
    except (FileNotFoundError, SweepError):
        return None
    launches = info.get("launches") or [{}]
    return info.get("sweep_id", ""), len(launches), "ended" in launches[-1]


def _reach(folder: SweepFolder, trial: str) -> int:
    return whole_epochs(folder.records(trial))


def upload_all(storage: SweepStorage) -> None:
    """Copy every file of the driver's folder to the URI, if the sweep is at one. A failure is a warning."""
    if not storage.is_remote:
        return
    try:
        DriverFiles(storage).upload(everything=True)
    except LostSweepError as error:
        logger.warning("Nothing more is copied there: %s.", error)
    except Exception as error:  # the results are here, and that is what has to be said
        logger.warning(
            "The files in %s are not all copied to %s (%s); run the same command again to copy them.",
            storage.shown,
            storage.uri,
            reason(error),
        )


class DriverFiles:
    """Copies the driver's files to the URI, those that have changed since they were copied last."""

    def __init__(self, storage: SweepStorage) -> None:
        self.storage = storage
        self._copied: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def upload(self, *, everything: bool = False) -> None:
        """Copy what has changed: ``sweep.json``, records and tables, or every file of the folder.

        Raises:
            OSError: The storage does not take them, or another driver has taken over the sweep.
        """
        with self._lock:
            check_held(self.storage)
            filesystem, path = resolve(self.storage.uri)
            folder = self.storage.folder
            for file in sorted(folder.rglob("*") if everything else _small_files(folder)):
                own = file.name.startswith((".driver", TEMPORARY)) or file.suffix == ".tmp"
                if own or not file.is_file() or (state := _state(file)) == self._copied.get(file):
                    continue
                target = f"{path}/{file.relative_to(folder).as_posix()}"
                filesystem.create_dir(target.rpartition("/")[0], recursive=True)
                with filesystem.open_output_stream(target) as stream:
                    stream.write(file.read_bytes())
                self._copied[file] = state

    @contextlib.contextmanager
    def uploading(self, every_s: float = UPLOAD_EVERY_S) -> Iterator[None]:
        """Copy now and then, from a thread of its own. What fails is tried again and warned of once."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep_uploading, args=(ended, every_s), name="driver-files", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(every_s)

    def _keep_uploading(self, ended: threading.Event, every_s: float) -> None:
        warned = False
        while True:
            try:
                self.upload()
                warned = False
            except Exception as error:  # a storage that does not answer stops no sweep
                if not warned:
                    logger.warning("The driver's files are not copied to %s (%s).", self.storage.uri, reason(error))
                warned = True
            if ended.wait(every_s):
                return


def _small_files(folder: Path) -> list[Path]:
    return [*folder.glob("*"), *SweepFolder(folder).records_files()]


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _files_below(filesystem: FileSystem, path: str) -> list[FileInfo]:
    from pyarrow import fs

    return list(filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True)))


def _fetch_file(filesystem: FileSystem, info: FileInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with filesystem.open_input_stream(info.path) as stream:
        content = stream.read()
    target.write_bytes(content)
    if info.mtime_ns:  # when a trial reported last is told by its file
        os.utime(target, ns=(info.mtime_ns, info.mtime_ns))
