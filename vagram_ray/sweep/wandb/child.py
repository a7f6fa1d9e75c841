"""The process that logs a sweep, started by ``supervisor``: the only one that calls wandb to log anything.

Orders come as lines of JSON on its standard input, and what it has to tell goes as such to its standard output. Where
the input ends, the driver is dead: the process closes what is open (``orders``).
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from vagram_ray.sweep.wandb.follower import Follower, NotOnlineError, ServerGoneError
from vagram_ray.sweep.wandb.orders import Orders, Reporter, leave
from vagram_ray.sweep.wandb.target import Target
from vagram_ray.text import first_line

LOCK_FILE = ".driver-wandb.lock"
"""One process logs a sweep at a time."""
LOCK_WAIT_S = 60


def main() -> None:
    """Log a sweep. The exit status is 0 when all was done that could be."""
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # wandb and whoever else prints stay out of the messages
    orders, reporter = Orders(sys.stdin), Reporter(messages)
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


def _lock(folder: Path, reporter: Reporter) -> FileLock:
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
