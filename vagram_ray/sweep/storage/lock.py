"""One driver per sweep: a lock in the driver's folder, which the system releases when the process ends in any way.

File systems without ``flock`` have a file with the process in it instead, which a killed driver leaves behind. The next
driver removes it on the same machine, and a person does after a kill on another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from vagram_ray.files import write_atomically
from vagram_ray.records.folder import SWEEP_FILE
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lease import DriverLease

LOCK_FILE, HOLDER_FILE = ".driver.lock", ".driver.json"
OWN_FILES = (LOCK_FILE, HOLDER_FILE)


class DriverLock:
    """Held while a driver works in a sweep's folder.

    As a context it locks a folder that is there already. ``hold`` makes the folder of a new sweep. A folder that was
    made for a sweep that then did not start is removed at the end. A sweep at a URI is also kept from drivers on
    other machines (``DriverLease``).

    Args:
        storage: Of the sweep.
        say: Is told that one has to wait for another machine.
    """

    def __init__(self, storage: SweepStorage, say: Callable[[str], None] = lambda sentence: None) -> None:
        self.storage, self.folder, self._say = storage, storage.folder, say
        self._lease: DriverLease | None = None
        self._lock: FileLock | None = None
        self._made: list[Path] = []

    def __enter__(self) -> DriverLock:
        if self.folder.is_dir():
            self.hold()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release(remove=bool(self._made) and not (self.folder / SWEEP_FILE).exists())
        for folder in self._made:  # innermost first. One that is no longer empty stays
            with contextlib.suppress(OSError):
                folder.rmdir()

    def hold(self) -> None:
        """Take the lock, and make the folder if it is not there. Nothing happens if it is held already.

        Raises:
            SweepError: Another process has it, here or elsewhere, or the folder cannot be written.
        """
        if self._lock is not None:
            return
        self._made += [parent for parent in (self.folder, *self.folder.parents) if not parent.exists()]
        self.storage.create()
        lock = FileLock(self.folder / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise SweepError(
                f"Another process{self._holder()} is running the sweep in {self.storage.shown}: wait for its end, or "
                f"give another --name.{self._if_gone()}"
            ) from error
        except NotImplementedError as error:  # older versions of filelock, where there is no flock
            raise SweepError(
                f"{self.storage.shown} lies on a file system without locks: give another --storage, or update filelock."
            ) from error
        except OSError as error:
            raise self.storage.not_writable(error) from error
        self._lock = lock
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        try:
            write_atomically(self.folder / HOLDER_FILE, json.dumps(holder) + "\n")
        except OSError as error:  # a disk that is full takes the lock, which is empty
            raise self.storage.not_writable(error) from error
        if self.storage.is_remote:
            lease = DriverLease(self.storage, self._say)
            try:
                lease.take()
            except BaseException:
                self.release(remove=bool(self._made))
                raise
            self._lease = lease

    def release(self, *, remove: bool = False) -> None:
        """Let go. With ``remove``, delete the lock's file, since nobody shall lock this folder any more."""
        if self._lock is None:
            return
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        for name in (HOLDER_FILE, *([LOCK_FILE] if remove else [])):
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
        self._lock.release()
        self._lock = None

    def move(self, target: Path) -> None:
        """Give the folder another name and go on with an empty one in its place.

        Raises:
            OSError: The folder cannot be renamed.
            SweepError: Another process was quicker.
        """
        self.folder.rename(target)
        if self._lock is not None:  # of the folder that has gone
            self._lock.release()
            self._lock = None
        for name in OWN_FILES:
            with contextlib.suppress(OSError):
                (target / name).unlink()
        self.hold()

    def _if_gone(self) -> str:
        """What helps where a lock outlives its process. Only such a lock has content."""
        lock = self.folder / LOCK_FILE
        try:
            outlives = lock.stat().st_size > 0
        except OSError:
            return ""
        return f" If that process is gone, delete {str(lock)!r}: its file system has no locks." if outlives else ""

    def _holder(self) -> str:
        try:
            holder = json.loads((self.folder / HOLDER_FILE).read_text())
            return f" (pid {holder['pid']} on {holder['host']})"
        except (OSError, ValueError, KeyError, TypeError):
            return ""
