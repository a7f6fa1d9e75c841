"""The process that logs a sweep, started by ``supervisor``: the only one that calls wandb to log anything.

Orders come as lines of JSON on its standard input, and what it has to tell goes as such to its standard output. Where
the input ends, the driver is dead: the process closes what is open, within ``ORPHAN_LIMIT_S``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from vagram_ray.sweep.processes import children_of
from vagram_ray.sweep.wandb.follower import Follower, NotOnlineError, ServerGoneError
from vagram_ray.sweep.wandb.target import Target
from vagram_ray.sweep.wandb.text import first_line

LOCK_FILE = ".driver-wandb.lock"
"""One process logs a sweep at a time."""
LOCK_WAIT_S, ORPHAN_LIMIT_S = 60, 30.0


class PipeOrders:
    """The orders as they come in on a pipe.

    Args:
        source: Where they come from.
    """

    def __init__(self, source: TextIO) -> None:
        self.online = self.offline_now = self.reached = self.ended = self.interrupted = False
        self.failed: set[str] = set()
        self.artifacts: tuple[str, ...] = ()
        self._source = source
        self._news = threading.Event()

    def read(self) -> dict[str, Any]:
        """Take the next line. Returns what it says beside the orders. Empty at the end of the pipe."""
        line = self._source.readline()
        if not line:
            return {}
        message = json.loads(line)
        for name in ("online", "offline_now", "reached", "ended", "interrupted"):
            setattr(self, name, message.get(name, getattr(self, name)))
        self.failed |= set(message.get("failed", ()))
        self.artifacts = tuple(message.get("artifacts", ()))
        self._news.set()
        return dict(message)

    def listen(self) -> None:
        """Take all further lines, in a thread of its own."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until an order comes."""
        self._news.wait(seconds)
        self._news.clear()

    def _listen(self) -> None:
        while self.read():
            pass
        self.ended = self.interrupted = True
        self._news.set()
        threading.Event().wait(ORPHAN_LIMIT_S)
        leave(1)


class PipeReporter:
    """Tells the driver, as long as there is one.

    Args:
        sink: Where messages go.
    """

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink

    def beat(self) -> None:
        """The process is alive."""
        self.tell()

    def tell(self, **message: Any) -> None:
        """One message."""
        with contextlib.suppress(OSError, ValueError):  # the driver is dead
            self._sink.write(json.dumps(message) + "\n")
            self._sink.flush()


def leave(status: int) -> None:
    """End this process and wandb's at once: what wandb does at the interpreter's exit may take for ever."""
    for pid in children_of(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(status)


def main() -> None:
    """Log a sweep. The exit status is 0 when all was done that could be."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # wandb and whoever else prints stay out of the messages
    orders, reporter = PipeOrders(sys.stdin), PipeReporter(messages)
    start = orders.read()
    target = Target(Path(start["folder"]), start["project"], start["sweep_name"])
    orders.listen()
    status = 1
    try:
        lock = _lock(target.folder, reporter)
        if orders.artifacts:
            from vagram_ray.sweep.wandb.artifacts import log_artifacts

            log_artifacts(target, orders.artifacts, lambda text, style="": reporter.tell(say=text, style=style))
        else:
            Follower(target, orders, reporter).follow()
        lock.release()
        status = 0
    except NotOnlineError as error:
        reporter.tell(offline=first_line(error))
    except ServerGoneError as error:
        reporter.tell(gone=first_line(error))
    except BaseException as error:  # wandb also raises SystemExit
        reporter.tell(failed=first_line(error))
    leave(status)


def _lock(folder: Path, reporter: PipeReporter) -> FileLock:
    """Wait for the process of a driver that was killed just now."""
    lock = FileLock(folder / LOCK_FILE)
    for _ in range(LOCK_WAIT_S):
        reporter.beat()
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=1.0)
            return lock
    raise TimeoutError("another process logs this sweep")


if __name__ == "__main__":
    main()
