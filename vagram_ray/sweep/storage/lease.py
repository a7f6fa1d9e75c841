"""One driver per sweep at a URI, across machines: a small object beside the sweep that its driver keeps renewing.

The lock in the driver's folder (``driver_lock``) keeps processes of one machine apart and is gone with its process. An
object store knows no such lock, so a driver writes ``.NAME.driver.json`` beside the sweep every ``RENEW_EVERY_S``. Who
finds the object of another driver waits until it is ``STALE_AFTER_S`` old, by the storage's own clock, and takes over.
If it is renewed meanwhile, that driver lives. A driver that finds its object in other hands, or away, has lost the
sweep: it stops, and copies nothing more to the URI (``check_held``).

This is no fence. Two drivers that start at the same moment are told apart by who wrote last, after ``SETTLE_S``. On a
storage slower than that both may run until the next renewal.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vagram_ray.checkpoint.files import is_local, read_file, resolve, write_file_atomically
from vagram_ray.sweep.processes import load_psutil
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

logger = logging.getLogger(__name__)

RENEW_EVERY_S = 15.0
STALE_AFTER_S = 60.0
SETTLE_S = 1.0
"""So long after writing, the object is read again: a driver that started at the same time may have written too."""
_LOST: set[str] = set()
"""URIs of sweeps that this process has lost."""


class LostSweepError(OSError):
    """Another driver has taken over the sweep at the URI to which something was to be copied."""


def check_held(storage: SweepStorage) -> None:
    """Nothing may be copied to a sweep that another driver has taken over.

    Raises:
        LostSweepError: That is so.
    """
    holder = _read_holder(storage)
    if storage.uri in _LOST or (holder is not None and not holder.is_own):
        who = f" ({holder})" if holder is not None and not holder.is_own else ""
        raise LostSweepError(f"another process{who} has taken over the sweep in {storage.uri}")


@dataclass(frozen=True)
class Holder:
    """Who has written the object, and when by the storage's clock."""

    token: str
    host: str
    machine: str
    """Of the host, since it was started, and of the space that its process ids are from: names repeat."""
    pid: int
    started_s: float
    """When its process was started, by its machine's clock."""
    renewal: int
    """Counts how often it has been written."""
    written_s: float

    @property
    def is_here(self) -> bool:
        """Whether its process ids are those of this machine."""
        return self.machine == _machine()

    @property
    def is_alive(self) -> bool:
        """Whether its process runs on this machine."""
        return self.is_here and abs(_started(self.pid) - self.started_s) < 1.0

    @property
    def is_own(self) -> bool:
        """Whether this process has written it."""
        return self.is_alive and self.pid == os.getpid()

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
        self._token, self._renewals = uuid.uuid4().hex, 0
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
            if not self._is_mine(holder := self._holder()):
                raise self._refusal(holder)
        except (ArrowException, OSError, ValueError) as error:
            self._delete_own()
            raise SweepError(f"{self.storage.uri} cannot be used ({error}); give a --storage that can.") from error
        except BaseException:  # Ctrl-C among them
            self._delete_own()
            raise
        _LOST.discard(self.storage.uri)
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
        """Return once the object is away, stale, or of a process of this machine that has ended."""
        first = self._holder()
        if first is None or (first.is_here and not first.is_alive):
            return
        if first.is_alive:
            raise self._refusal(first)
        wait = STALE_AFTER_S - (self._storage_time() - first.written_s)
        begin = time.monotonic()
        if wait > 0:
            self._say(f"{first} was running this sweep a moment ago; waiting {wait:.0f} s to see if it still is.")
        while time.monotonic() - begin < wait:
            time.sleep(min(2.0, STALE_AFTER_S / 10))
            holder = self._holder()
            if holder is None:
                return
            if (holder.token, holder.renewal) != (first.token, first.renewal):
                raise self._refusal(holder)

    def _refusal(self, holder: Holder | None) -> SweepError:
        who = f" ({holder})" if holder is not None else ""
        return SweepError(
            f"Another process{who} is running the sweep in {self.storage.uri}: wait for its end, or give another "
            "--name."
        )

    def _renew_until_ended(self) -> None:
        while not self._ended.wait(RENEW_EVERY_S):
            try:
                holder = self._holder()
                if holder is None:  # nobody deletes it but another driver at its end
                    time.sleep(SETTLE_S)
                    holder = self._holder()
                if not self._is_mine(holder):
                    _LOST.add(self.storage.uri)
                    logger.warning("%s has taken over the sweep in %s.", holder or "Another process", self.storage.uri)
                    self._lost()
                    return
                self._write()
            except Exception:  # a storage that does not answer stops no sweep
                continue

    def _is_mine(self, holder: Holder | None) -> bool:
        return holder is not None and holder.token == self._token

    # -- the object --------------------------------------------------------------------------------------------

    def _holder(self) -> Holder | None:
        return _read_holder(self.storage)

    def _write(self) -> None:
        filesystem, path = _lease_object(self.storage)
        pid, self._renewals = os.getpid(), self._renewals + 1
        content = {"token": self._token, "host": socket.gethostname(), "machine": _machine(), "pid": pid}
        _write(filesystem, path, {**content, "started_s": _started(pid), "renewal": self._renewals})

    def _delete_own(self) -> None:
        with contextlib.suppress(Exception):  # then it becomes stale
            if self._is_mine(self._holder()):
                filesystem, path = _lease_object(self.storage)
                filesystem.delete_file(path)

    def _storage_time(self) -> float:
        """The time by the storage's clock, which another machine's may differ from."""
        filesystem, path = _lease_object(self.storage)
        probe = f"{path}-{self._token}"
        _write(filesystem, probe, {})
        written_ns = filesystem.get_file_info(probe).mtime_ns
        filesystem.delete_file(probe)
        return (written_ns or 0) / 1e9


def _lease_object(storage: SweepStorage) -> tuple[FileSystem, str]:
    filesystem, path = resolve(storage.uri)
    parent, _, name = path.rpartition("/")
    return filesystem, f"{parent}/.{name}.driver.json"


def _read_holder(storage: SweepStorage) -> Holder | None:
    """Who has written the object, or None if it is not there or cannot be understood."""
    filesystem, path = _lease_object(storage)
    try:
        written_ns = filesystem.get_file_info(path).mtime_ns
        found = json.loads(read_file(filesystem, path))
        return Holder(
            token=str(found["token"]),
            host=str(found["host"]),
            machine=str(found["machine"]),
            pid=int(found["pid"]),
            started_s=float(found["started_s"]),
            renewal=int(found["renewal"]),
            written_s=(written_ns or 0) / 1e9,
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _machine() -> str:
    """Tells machines, and containers that share a host's name, apart."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> float:
    """When a process of this machine was started, in seconds, or infinity if there is none."""
    psutil = load_psutil()
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return math.inf


def _write(filesystem: FileSystem, path: str, content: dict[str, Any]) -> None:
    if is_local(filesystem):  # object stores need no folder
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    write_file_atomically(filesystem, path, json.dumps(content).encode())
