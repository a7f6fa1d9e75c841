"""One driver per sweep at a URI, across machines: a small object beside the sweep that its driver keeps renewing.

The lock in the driver's folder (``driver_lock``) keeps processes of one machine apart and is gone with its process. An
object store knows no such lock, so a driver writes ``.NAME.driver.json`` beside the sweep every ``RENEW_EVERY_S``. Who
finds the object of another driver waits until it is ``STALE_AFTER_S`` old, by the storage's own clock, and takes over;
if it is renewed meanwhile, that driver lives. Two that start within the same seconds are told apart by who wrote last.
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
from typing import Any

from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage import SweepStorage

logger = logging.getLogger(__name__)

RENEW_EVERY_S = 15.0
STALE_AFTER_S = 60.0
SETTLE_S = 1.0
"""So long after writing, the object is read again: a driver that started at the same time may have written too."""


@dataclass(frozen=True)
class Holder:
    """Who has written the object, and when by the storage's clock."""

    token: str
    host: str
    pid: int
    started_s: float
    """When its process was started, by its machine's clock."""
    written_s: float

    @property
    def is_here(self) -> bool:
        """Whether it was written on this machine."""
        return self.host == socket.gethostname()

    @property
    def lives(self) -> bool:
        """Whether its process runs on this machine."""
        return self.is_here and abs(_started(self.pid) - self.started_s) < 1.0

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"


class DriverLease:
    """Held while a driver works on a sweep at a URI.

    Args:
        storage: Where the sweep lies; a URI.
        say: Is told that one has to wait.
        lost: Is called, from another thread, when another driver has taken the sweep over, which happens after this
            one could not write for a while. By default this process stops as at SIGTERM.
    """

    def __init__(
        self,
        storage: SweepStorage,
        say: Callable[[str], None] = lambda sentence: None,
        lost: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
    ) -> None:
        self.storage, self._say, self._lost = storage, say, lost
        self._token = uuid.uuid4().hex
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
            holder = self._holder()
        except (ArrowException, OSError, ValueError) as error:
            raise SweepError(f"{self.storage.uri} cannot be used ({error}); give a --storage that can.") from error
        if holder is None or holder.token != self._token:
            raise self._refusal(holder)
        self._thread = threading.Thread(target=self._keep, name="driver-lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let go, so that the next driver need not wait; nothing if it is not held."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join(RENEW_EVERY_S)
        self._thread = None
        with contextlib.suppress(Exception):  # then it becomes stale
            holder = self._holder()
            if holder is not None and holder.token == self._token:
                filesystem, path = self._object()
                filesystem.delete_file(path)

    def _wait_for_others(self) -> None:
        """Return once the object is away, stale, or of a process of this machine that has ended."""
        told = False
        first = self._holder()
        begin = time.monotonic()
        while True:
            holder = self._holder()
            if holder is None or (holder.is_here and not holder.lives):
                return
            if holder.lives or first is None or (holder.token, holder.written_s) != (first.token, first.written_s):
                raise self._refusal(holder)
            age = max(self._now() - holder.written_s, time.monotonic() - begin)
            if age > STALE_AFTER_S:
                return
            if not told:
                left = STALE_AFTER_S - age
                self._say(
                    f"{holder} was running this sweep {age:.0f} s ago; waiting {left:.0f} s to see if it still is."
                )
                told = True
            time.sleep(min(1.0, STALE_AFTER_S / 10))

    def _refusal(self, holder: Holder | None) -> SweepError:
        return SweepError(
            f"Another process ({holder or 'which has just ended'}) is running the sweep in {self.storage.uri}: wait "
            "for its end, or give another --name."
        )

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_EVERY_S):
            try:
                holder = self._holder()
                if holder is not None and holder.token != self._token:
                    logger.warning("%s has taken over the sweep in %s.", holder, self.storage.uri)
                    self._lost()
                    return
                self._write()
            except Exception:  # a storage that does not answer stops no sweep
                continue

    # -- the object --------------------------------------------------------------------------------------------

    def _object(self) -> tuple[Any, str]:
        from pyarrow import fs

        filesystem, path = fs.FileSystem.from_uri(self.storage.uri)
        parent, _, name = path.rpartition("/")
        return filesystem, f"{parent}/.{name}.driver.json"

    def _write(self) -> None:
        filesystem, path = self._object()
        pid = os.getpid()
        content = {"token": self._token, "host": socket.gethostname(), "pid": pid, "started_s": _started(pid)}
        _write(filesystem, path, content)

    def _holder(self) -> Holder | None:
        """Who has written the object; None if it is not there or cannot be understood."""
        from pyarrow import fs

        filesystem, path = self._object()
        info = filesystem.get_file_info(path)
        if info.type != fs.FileType.File:
            return None
        try:
            with filesystem.open_input_stream(path) as stream:
                found = json.loads(stream.read())
            who = str(found["token"]), str(found["host"]), int(found["pid"]), float(found["started_s"])
            return Holder(*who, written_s=(info.mtime_ns or 0) / 1e9)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _now(self) -> float:
        """The time by the storage's clock, which another machine's may differ from."""
        filesystem, path = self._object()
        probe = f"{path}-{self._token}"
        _write(filesystem, probe, {})
        written_ns = filesystem.get_file_info(probe).mtime_ns
        filesystem.delete_file(probe)
        return (written_ns or 0) / 1e9


def _started(pid: int) -> float:
    """When a process of this machine was started, in seconds; infinity if there is none."""
    import ray  # noqa: F401, I001  # it brings psutil along
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return math.inf


def _write(filesystem: Any, path: str, content: dict[str, Any]) -> None:
    """Write an object so that nobody ever reads half of it."""
    from pyarrow import fs

    local = isinstance(filesystem, fs.LocalFileSystem)  # object stores need no directory, and show whole objects only
    if local:
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    target = f"{path}.tmp" if local else path
    with filesystem.open_output_stream(target) as stream:
        stream.write(json.dumps(content).encode())
    if local:
        filesystem.move(target, path)
