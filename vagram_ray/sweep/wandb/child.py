"""The process that logs a sweep, started by ``supervisor``: the only one that calls wandb to log rows.

It is told by a line on its standard input that the sweep has ended, and tells what it does as lines of JSON on its
standard output. Where the input ends, the driver is dead: it ends too, and the next launch goes on from the records.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vagram_ray.sweep.processes import children_of
from vagram_ray.sweep.wandb.follower import Follower
from vagram_ray.text import first_line

LOCK_FILE = ".driver-wandb.lock"
"""One process logs a sweep at a time."""
LOCK_WAIT_S = 60.0
"""For the process of a driver that was killed just now."""


def main() -> None:
    """Log the sweep that the arguments name. The exit status is 0 when all was done that could be."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # wandb and whoever else prints stay out of the messages
    folder, project, mode = sys.argv[1:]
    ended = threading.Event()
    threading.Thread(target=_listen, args=(ended,), name="driver", daemon=True).start()

    def tell(**message: Any) -> None:
        with contextlib.suppress(OSError):  # the driver is dead
            messages.write(json.dumps(message) + "\n")
            messages.flush()

    status = 1
    try:
        lock = _lock(Path(folder))
        Follower(Path(folder), project, tell, ended, online=mode == "online").follow()
        lock.release()
        status = 0
    except BaseException as error:  # wandb also raises SystemExit
        tell(failed=first_line(error))
    _leave(status)


def _listen(ended: threading.Event) -> None:
    for _ in sys.stdin:
        ended.set()
    _leave(1)


def _leave(status: int) -> None:
    """End this process and wandb's at once: what wandb does at the interpreter's exit may take for ever."""
    for pid in children_of(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(status)


def _lock(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=LOCK_WAIT_S)
    except Timeout as error:
        raise TimeoutError("another process logs this sweep") from error
    return lock


if __name__ == "__main__":
    main()
