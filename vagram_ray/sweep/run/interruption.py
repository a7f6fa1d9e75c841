"""Stopping a sweep by signal: in order at the first, at once at the second."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; what `kill`, batch systems and containers send; a closed terminal or connection."""


@dataclass
class Interruption:
    """Whether a sweep has been asked to stop."""

    signal_number: int | None = None

    @property
    def happened(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number is not None

    @property
    def exit_status(self) -> int:
        """128 and the number of the signal, as shells count; 0 without one."""
        return 0 if self.signal_number is None else 128 + self.signal_number


@contextlib.contextmanager
def stop_on_signals(console: Console) -> Iterator[Interruption]:
    """Within the block the first of ``STOP_SIGNALS`` is noted and announced, and the second ends this process at once.

    Processes that Ray has started in this one end with it.
    """
    interruption = Interruption()

    def on_signal(number: int, frame: Any) -> None:
        if interruption.happened:
            console.show_cursor(True)  # a live table hides it
            os._exit(128 + number)
        interruption.signal_number = number
        with contextlib.suppress(OSError):  # the terminal may be gone
            console.print(_announcement(number), soft_wrap=True)

    before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS if not _under_nohup(number)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def spared_from_hangup() -> Iterator[None]:
    """Programs that are started within the block take no notice of SIGHUP, which a closed terminal sends to all.

    A sweep's driver stops in order then, and needs Ray's processes for that.
    """
    try:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    except ValueError:  # not in the main thread, where signals cannot be set
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _under_nohup(number: int) -> bool:
    """Whether this is the signal of a closed terminal, and whoever started this process had it ignored."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


def _announcement(number: int) -> str:
    if number == signal.SIGINT:
        return "Stopping the trials; press Ctrl-C again to leave at once."
    return f"{signal.Signals(number).name} received: stopping the trials; a second signal ends the sweep at once."
