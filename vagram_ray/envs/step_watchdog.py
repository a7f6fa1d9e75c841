"""A time limit for steps of environments: a simulator that hangs ends its process instead of waiting for ever.

A step runs in the process that trains, so nobody inside can interrupt it. But Tune starts a trial's process again
when it ends, and the trial goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

EXIT_STATUS = 75
"""Of a process that a hanging step has ended (``EX_TEMPFAIL``: try again)."""


class StepWatchdog:
    """Ends this process when a guarded block takes longer than ``limit_s``, with every thread's stack in ``output``.

    A thread looks at the clock: guarding a step costs two assignments. A step that holds Python's lock for ever would
    stop that thread too, so it keeps a timer of ``faulthandler`` wound up, which needs no lock.

    Args:
        limit_s: Seconds.
        output: An open file with a descriptor.
        before_end: Called when the traceback is written, before this process ends.
    """

    GRACE_S = 60.0
    """Seconds beyond twice the limit that the thread may be kept from running before the process ends."""

    def __init__(self, limit_s: float, output: IO[str], before_end: Callable[[], None] | None = None) -> None:
        self.limit_s, self._output, self._before_end = limit_s, output, before_end
        self._started: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="env-step-watchdog", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Guard a block."""
        self._started = time.monotonic()
        try:
            yield
        finally:
            self._started = None

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        period = min(1.0, self.limit_s / 4)
        try:
            while not self._stopped.wait(period):
                faulthandler.dump_traceback_later(2 * self.limit_s + self.GRACE_S, exit=True, file=self._output)
                started = self._started
                if started is not None and time.monotonic() - started > self.limit_s:
                    self._end_process()
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _end_process(self) -> None:
        self._output.write(
            f"An environment step exceeded its time limit of {self.limit_s:g} s (env_step_time_limit_s); this process "
            "ends, and Tune starts the trial again from its last checkpoint.\n"
        )
        self._output.flush()
        faulthandler.dump_traceback(file=self._output, all_threads=True)
        try:
            if self._before_end is not None:
                self._before_end()
        finally:
            os._exit(EXIT_STATUS)
