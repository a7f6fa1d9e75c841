"""One driver per sweep at a URI, across machines: a small object beside the sweep that its driver keeps renewing.

The lock in the driver's folder (``driver_lock``) keeps processes of one machine apart and is gone with its process. An
object store knows no such lock, so a driver writes ``.NAME.driver.json`` beside the sweep every ``RENEW_EVERY_S``, and
deletes it at its end. Who finds the object of another driver watches it for ``STALE_AFTER_S``, and takes over. If it is
renewed meanwhile, that driver lives. A driver that finds its object in other hands, or away, has lost the sweep: it
stops, and copies nothing more to the URI (``check_held``).

This is no fence. Two drivers that start at the same moment are told apart by who wrote last, after ``SETTLE_S``. On a
storage slower than that both may run until the next renewal.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from vagram_ray.checkpoint.files import is_local, read_file, resolve, write_file_atomically
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

logger = logging.getLogger(__name__)

RENEW_EVERY_S = 15.0
STALE_AFTER_S = 60.0
SETTLE_S = 1.0
"""So long after writing, the object is read again: a driver that started at the same time may have written too."""
_TOKEN = uuid.uuid4().hex
"""Tells this process from all others."""


class LostSweepError(OSError):
    """Another driver has taken over the sweep at the URI to which something was to be copied."""


def check_held(storage: SweepStorage) -> None:
    """Nothing may be copied to a sweep that another driver has taken over, even if that one has ended by now.

    Raises:
        LostSweepError: That is so.
    """
    if not _is_mine(holder := _read_holder(storage)):
        raise LostSweepError(f"another process{_named(holder)} has taken over the sweep in {storage.uri}")


@dataclass(frozen=True)
class Holder:
    """Who has written the object."""

    token: str
    host: str
    pid: int
    renewal: int
    """Counts how often it has been written."""

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


class DriverLease:
    """Held while a driver works on a sweep at a URI.

    Args:
        storage: Where the sweep lies, a URI.
        say: Is told that one has to wait.
        lost: Is called, from another thread, when another driver has taken the sweep over, which happens after this
            one could not write for a while or was suspended. By default this process stops as at SIGTERM.
    """

    def __init__(
        self,
        storage: SweepStorage,
        say: Callable[[str], None] = lambda sentence: None,
        lost: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
    ) -> None:
        self.storage, self._say, self._lost = storage, say, lost
        self._renewals = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """Take the lease, once nobody else has it, and keep it.

        Raises:
            SweepError: Another driver is at work there, or the storage does not answer.
        """
        from pyarrow import ArrowException

        try:
            self._wait_for_others()
            self._write()
            time.sleep(SETTLE_S)
            if not _is_mine(holder := _read_holder(self.storage)):
                raise self._refusal(holder)
        except (ArrowException, OSError, ValueError) as error:
            self._delete_own()
            raise SweepError(f"{self.storage.uri} cannot be used ({error}); give a --storage that can.") from error
        except BaseException:  # Ctrl-C among them
            self._delete_own()
            raise
        self._thread = threading.Thread(target=self._renew_until_ended, name="driver-lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let go, so that the next driver need not wait. Nothing happens if it is not held."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join(RENEW_EVERY_S)
        self._thread = None
        self._delete_own()

    def _wait_for_others(self) -> None:
        """Return once the object is away, or nobody has renewed it for ``STALE_AFTER_S``."""
        first = _read_holder(self.storage)
        if first is None:
            return
        self._say(f"{first} has run this sweep; waiting {STALE_AFTER_S:.0f} s to see if it still does.")
        end = time.monotonic() + STALE_AFTER_S
        while time.monotonic() < end:
            time.sleep(min(2.0, STALE_AFTER_S / 10))
            holder = _read_holder(self.storage)
            if holder is None:
                return
            if holder != first:
                raise self._refusal(holder)

    def _refusal(self, holder: Holder | None) -> SweepError:
        return SweepError(
            f"Another process{_named(holder)} is running the sweep in {self.storage.uri}: wait for its end, or give "
            "another --name."
        )

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEW_EVERY_S):
            try:
                holder = _read_holder(self.storage)
                if holder is None:  # nobody deletes it but another driver at its end
                    time.sleep(SETTLE_S)
                    holder = _read_holder(self.storage)
                if not _is_mine(holder):
                    logger.warning("%s has taken over the sweep in %s.", holder or "Another process", self.storage.uri)
                    self._lost()
                    return
                self._write()
            except Exception:  # a storage that does not answer stops no sweep
                continue

    # -- the object --------------------------------------------------------------------------------------------

    def _write(self) -> None:
        self._renewals += 1
        filesystem, path = _lease_object(self.storage)
        if is_local(filesystem):  # object stores need no folder
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        holder = Holder(_TOKEN, socket.gethostname(), os.getpid(), self._renewals)
        write_file_atomically(filesystem, path, json.dumps(asdict(holder)).encode())

    def _delete_own(self) -> None:
        with contextlib.suppress(Exception):  # then it becomes stale
            if _is_mine(_read_holder(self.storage)):
                filesystem, path = _lease_object(self.storage)
                filesystem.delete_file(path)


def _is_mine(holder: Holder | None) -> bool:
    return holder is not None and holder.token == _TOKEN


def _lease_object(storage: SweepStorage) -> tuple[FileSystem, str]:
    filesystem, path = resolve(storage.uri)
    parent, _, name = path.rpartition("/")
    return filesystem, f"{parent}/.{name}.driver.json"


def _read_holder(storage: SweepStorage) -> Holder | None:
    """Who has written the object, or None if it is not there or cannot be understood."""
    try:
        found = json.loads(read_file(*_lease_object(storage)))
        return Holder(str(found["token"]), str(found["host"]), int(found["pid"]), int(found["renewal"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _named(holder: Holder | None) -> str:
    """To stand behind "another process"."""
    return "" if holder is None else f" ({holder})"
