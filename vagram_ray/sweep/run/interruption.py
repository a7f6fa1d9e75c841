"""Stopping a sweep by signal: in order at the first, at once at the second."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from rich.console import Console

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what `kill`, batch systems and containers send, a closed terminal or connection."""

NOTHING_RUNS = "nothing is running yet, so the sweep ends."
RAY_STARTS = "the sweep ends as soon as Ray has started; a second signal ends it at once."
TRIALS_RUN = "stopping the trials; a second signal ends the sweep at once."
ENDING = "the trials have ended; what is being written is finished first."

_TAKE_SIGNALS_EVERY_S = 0.01
_TOLD_WITHIN_S = 0.05
"""A thread that the kernel has handed a signal to has told Python of it by then."""


class Interruption:
    """Whether a sweep has been asked to stop.

    While nothing runs, a signal ends the command by ``SystemExit``. Later its handler only notes it: what it raised
    would be lost where Python calls it in a hook, as while Ray starts processes.
    """

    def __init__(self, signal_number: int | None = None, console: Console | None = None) -> None:
        self.signal_number, self._console = signal_number, console
        self._announcement = NOTHING_RUNS
        self._handled: tuple[int, ...] = ()

    @property
    def happened(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number is not None

    @property
    def exit_status(self) -> int:
        """128 and the number of the signal, as shells count, or 0 without one."""
        return 0 if self.signal_number is None else 128 + self.signal_number

    def note_signals(self, announcement: str) -> None:
        """From now on a signal is noted and announced in these words, and ends nothing by itself."""
        self._announcement = announcement

    def await_ray(self, start: Callable[[], None]) -> None:
        """Call ``start``, which starts Ray: signals are noted meanwhile, and end the command when it has returned.

        Raises:
            SystemExit: A signal has come.
        """

        def take() -> None:
            self._take_signals()
            if self.happened:
                signal.alarm(0)  # of Ray's C++ where it was first to see SIGTERM: it ends this process after 3 s

        before, self._announcement = self._announcement, RAY_STARTS
        try:
            call_beside_signals(start, take)
        except Exception as error:
            if self.happened:
                raise SystemExit(self.exit_status) from error
            raise
        self._announcement = before
        if self.happened:
            raise SystemExit(self.exit_status)

    def _take_signals(self) -> dict[int, Any]:
        """Set the handler. Returns the handlers before."""
        return {number: signal.signal(number, self._on_signal) for number in self._handled}

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.happened:
            if self._console is not None:
                self._console.show_cursor(True)  # a live table hides it
            os._exit(128 + number)
        self.signal_number = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        with contextlib.suppress(OSError, RuntimeError):  # the terminal may be gone, or in the midst of a line
            if self._console is not None:
                self._console.print(f"{name} received: {self._announcement}", soft_wrap=True)
        if self._announcement is NOTHING_RUNS:
            raise SystemExit(self.exit_status)


@contextlib.contextmanager
def stop_on_signals(console: Console) -> Iterator[Interruption]:
    """Within the block the first of ``STOP_SIGNALS`` is announced and answered, and the second ends this process.

    Processes that Ray has started in this one end with it.
    """
    interruption = Interruption(console=console)
    interruption._handled = tuple(number for number in STOP_SIGNALS if not _under_nohup(number))
    before = interruption._take_signals()
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def call_beside_signals(work: Callable[[], None], take_signals: Callable[[], object]) -> None:
    """Call ``work``, which starts or ends Ray, in a thread of its own, and ``take_signals`` here until it returns.

    Python runs the handlers of signals in the main thread alone, so none lands within ``work``, where what it raises
    may be lost, and Ray's Python sets no handler of SIGTERM beside it. Ray's C++ does as it starts, and takes every
    handler away as it ends: so the handlers are set again every few milliseconds.

    The thread lives as long as the process: Ray's processes are told to end with the thread that started them.

    Raises:
        BaseException: Whatever ``work`` raises.
    """
    returned, failures = threading.Event(), list[BaseException]()

    def target() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        returned.set()
        if not failures:
            threading.Event().wait()

    threading.Thread(target=target, name="ray-lifetime", daemon=True).start()
    waiting = True
    while waiting:
        waiting = not returned.wait(_TAKE_SIGNALS_EVERY_S)
        take_signals()
    if failures:
        raise failures[0]


def leave_at_once_on_signals() -> None:
    """From now on a signal ends this process with the status that it stands for: no sweep runs, or all is written."""
    for number in STOP_SIGNALS:
        if not _under_nohup(number):
            signal.signal(number, lambda number, frame: os._exit(128 + number))


def end_process(status: Callable[[], int]) -> NoReturn:
    """End this process without Python's last steps, in which it heeds no signal. No signal is lost here.

    The kernel may hand one to any thread of Ray's, which has to run before Python knows. So signals end the process
    in the kernel from now on, past Python, and those that a thread has been handed before are waited for.

    Args:
        status: The exit status, asked for at the very end.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    set_disposition = ctypes.CDLL(None).signal  # Python's own would make it forget the handlers at the same time
    set_disposition.argtypes, set_disposition.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    for number in STOP_SIGNALS:
        if not _under_nohup(number):
            set_disposition(number, None)  # SIG_DFL
    time.sleep(_TOLD_WITHIN_S)
    os._exit(status())


@contextlib.contextmanager
def spared_from_hangup() -> Iterator[None]:
    """Programs that are started within the block take no notice of SIGHUP, which a closed terminal sends to all.

    A sweep's driver stops in order then, and needs Ray's processes for that. In this thread the signal waits.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _under_nohup(number: int) -> bool:
    """Whether this is the signal of a closed terminal, and whoever started this process had it ignored."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
