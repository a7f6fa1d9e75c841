"""Stopping a sweep by signal: in order at the first, at once at the second."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from rich.console import Console

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; what `kill`, batch systems and containers send; a closed terminal or connection."""

NOTHING_RUNS = "nothing is running yet, so the sweep ends."
RAY_STARTS = "the sweep ends as soon as Ray has started; a second signal ends it at once."
TRIALS_RUN = "stopping the trials; a second signal ends the sweep at once."
ENDING = "the trials have ended; what is being written is finished first."


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
        """128 and the number of the signal, as shells count; 0 without one."""
        return 0 if self.signal_number is None else 128 + self.signal_number

    def note_signals(self, announcement: str) -> None:
        """From now on a signal is noted and announced in these words, and ends nothing by itself."""
        self._announcement = announcement

    @contextlib.contextmanager
    def while_ray_starts(self) -> Iterator[None]:
        """Within the block signals are noted alone; at its end they end the command.

        Ray takes over SIGTERM while it starts, with a handler that raises; so the signals are also read from the
        descriptor that Python writes them to, whatever handler there is.
        """
        before, self._announcement = self._announcement, RAY_STARTS
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:  # SystemExit is of Ray's handler
            failure = error
        signal.set_wakeup_fd(previous)
        self._take_signals()
        with contextlib.suppress(BlockingIOError):  # there was none
            for number in os.read(reader, 1024):
                self._note(number)
        os.close(reader)
        os.close(writer)
        self._announcement = before
        if self.happened:
            raise SystemExit(self.exit_status) from failure
        if failure is not None:
            raise failure

    def _take_signals(self) -> dict[int, Any]:
        """Set the handler, again where Ray has set its own; returns the handlers before."""
        return {number: signal.signal(number, self._on_signal) for number in self._handled}

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.happened:
            if self._console is not None:
                self._console.show_cursor(True)  # a live table hides it
            os._exit(128 + number)
        self._note(number)
        if self._announcement is NOTHING_RUNS:
            raise SystemExit(self.exit_status)

    def _note(self, number: int) -> None:
        if number not in self._handled or self.happened:
            return
        self.signal_number = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        with contextlib.suppress(OSError, RuntimeError):  # the terminal may be gone, or in the midst of a line
            if self._console is not None:
                self._console.print(f"{name} received: {self._announcement}", soft_wrap=True)


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


def leave_at_once_on_signals() -> None:
    """From now on a signal ends this process with the status that it stands for: all is written, Python is ending."""
    for number in STOP_SIGNALS:
        if not _under_nohup(number):
            signal.signal(number, lambda number, frame: os._exit(128 + number))


@contextlib.contextmanager
def spared_from_hangup() -> Iterator[None]:
    """Programs that are started within the block take no notice of SIGHUP, which a closed terminal sends to all.

    A sweep's driver stops in order then, and needs Ray's processes for that. In this process the signal waits.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _under_nohup(number: int) -> bool:
    """Whether this is the signal of a closed terminal, and whoever started this process had it ignored."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
