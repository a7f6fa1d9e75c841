"""What the process that logs a sweep hears from the driver and tells it, as lines of JSON on two pipes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from typing import Any, TextIO

from vagram_ray.sweep.processes import children_of

ORPHAN_LIMIT_S = 30.0
"""So long what is open may take to be closed once the driver is dead."""


class Orders:
    """What the driver wants, as it comes in.

    Args:
        source: Where it comes from.
    """

    online = False
    """Whether runs shall go to W&B's server."""
    offline_now = False
    """Whether this launch is logged offline all the same, because the server could not be reached at its start."""
    reached = False
    """Whether the server has taken a run since the launch began."""
    ended = False
    """No trial runs any more: finish, and end."""
    interrupted = False
    """The sweep was stopped by hand: finish what is open, and leave the rest to the next launch."""

    def __init__(self, source: TextIO) -> None:
        self.failed: set[str] = set()
        """Names of the trials that have failed for good."""
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


class Reporter:
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
        """One message. ``say`` and ``warn`` are for the user. The others are read by the supervisor."""
        with contextlib.suppress(OSError, ValueError):  # the driver is dead
            self._sink.write(json.dumps(message) + "\n")
            self._sink.flush()


def leave(status: int) -> None:
    """End this process and wandb's at once: what wandb does at the interpreter's exit may take for ever."""
    for pid in children_of(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(status)
