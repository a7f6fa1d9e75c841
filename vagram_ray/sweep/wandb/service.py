"""The thread that makes wandb's calls, and letting go of the process that wandb starts for them.

A call of wandb can block (a network that does not answer, a service process that hangs) and can raise anything. A
``WandbWorker`` keeps both away from the sweep: jobs are done one after another in a thread of its own, and after the
first that fails or never returns none is begun any more.
"""

from __future__ import annotations

import contextlib
import math
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from vagram_ray.sweep.wandb.text import first_line

STUCK_AFTER_S = 180.0
"""No call takes so long: those that wait for a network give up after a third of it."""
TEARDOWN_S = 15.0


class WandbWorker:
    """Does jobs one after another in a daemon thread, which starts with the first job.

    Args:
        on_off: Called once, with the reason, when wandb fails; in either thread.
    """

    def __init__(self, on_off: Callable[[str], None]) -> None:
        self.off = False
        self._on_off = on_off
        self._jobs: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._busy_since: float | None = None
        self._last_done = -math.inf
        self._service_in_doubt = False

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Have a job done."""
        if self.off:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="wandb-seed-runs", daemon=True)
            self._thread.start()
        self._jobs.put(lambda: self._do(function, *args))

    def works(self) -> bool:
        """Whether jobs are still done; a job that has taken ``STUCK_AFTER_S`` ends that."""
        since = self._busy_since
        if not self.off and since is not None and time.monotonic() - since > STUCK_AFTER_S:
            self.switch_off(f"wandb has not answered for {STUCK_AFTER_S:g} s")
        return not self.off

    def switch_off(self, reason: str) -> None:
        """Begin no further job, and say why if that was not said before."""
        with self._lock:
            if self.off:
                return
            self.off = self._service_in_doubt = True
        self._on_off(reason.rstrip("."))

    def drain(self, timeout_s: float, limit_s: float = math.inf) -> bool:
        """Wait until all jobs submitted so far are done.

        Returns:
            False as soon as none was done for ``timeout_s``, or after ``limit_s``.
        """
        if self._thread is None:
            return True
        done = threading.Event()
        self._jobs.put(done.set)
        begin = time.monotonic()
        while (left := min(max(begin, self._last_done) + timeout_s, begin + limit_s) - time.monotonic()) > 0:
            if done.wait(left):
                return True
        return done.is_set()

    def settle(self, timeout_s: float, limit_s: float = math.inf) -> None:
        """``drain``, and where that does not succeed or wandb has failed before, let go of its service process."""
        begin = time.monotonic()
        if not self.off and not self.drain(timeout_s, limit_s):
            late = time.monotonic() - begin >= limit_s
            self.switch_off(f"it takes more than {limit_s:g} s" if late else f"it finished nothing for {timeout_s:g} s")
        if self._service_in_doubt:
            self._service_in_doubt = False
            abandon_service()

    def _do(self, function: Callable[..., Any], *args: Any) -> None:
        if self.off:
            return
        try:
            function(*args)
        except BaseException as error:  # wandb also raises SystemExit
            self.switch_off(first_line(error))

    def _loop(self) -> None:
        while True:
            job = self._jobs.get()
            self._busy_since = time.monotonic()
            job()
            self._last_done = time.monotonic()
            self._busy_since = None


def abandon_service(timeout_s: float | None = None) -> None:
    """End wandb's service process: in order within ``timeout_s`` (``TEARDOWN_S``), else by force.

    Its exit hook could otherwise hold the interpreter for ever, or end it with a traceback, and rows that it would
    still send or write later would be there twice. The next ``wandb.init`` starts a fresh one.
    """
    if "wandb" not in sys.modules:
        return
    process = _service_process()

    def teardown() -> None:
        import wandb

        with contextlib.suppress(Exception):
            _stop_status_checks()
        with contextlib.suppress(BaseException):  # it also raises SystemExit
            wandb.teardown(exit_code=1)

    thread = threading.Thread(target=teardown, name="wandb-teardown", daemon=True)
    thread.start()
    thread.join(TEARDOWN_S if timeout_s is None else timeout_s)
    if process is not None and process.poll() is None:  # also when wandb has lost its connection to it
        process.kill()
        process.wait()
        thread.join(1.0)


def _stop_status_checks() -> None:
    """End the threads that ask the service about runs that are open, which would end with a traceback without it."""
    from wandb.sdk import wandb_setup

    for run in tuple(getattr(wandb_setup._singleton, "_active_runs", ())):
        run._run_status_checker.stop()


def _service_process() -> subprocess.Popen[bytes] | None:
    """The process that wandb has started in this one; None if there is none, or this version keeps it elsewhere."""
    from wandb.sdk import wandb_setup

    found: Any = wandb_setup
    for name in ("_singleton", "_connection", "_proc", "_process"):
        found = getattr(found, name, None)
    return found if isinstance(found, subprocess.Popen) else None
