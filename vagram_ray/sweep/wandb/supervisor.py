"""The driver's side: starts the process that logs a sweep (``child``), starts it again, and waits for it at the end.

Nothing here waits for W&B but ``finish``. A thread of its own listens to the process, which is told one thing: that the
sweep has ended. One that has died, or has said nothing for ``SILENT_AFTER_S``, is killed with the process that wandb
has started, and a new one begins: at once, then after pauses that grow.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vagram_ray.sweep.processes import import_path
from vagram_ray.sweep.wandb.runs import CALL_LIMIT_S
from vagram_ray.text import first_line, plural, short_path

logger = logging.getLogger(__name__)

SILENT_AFTER_S = CALL_LIMIT_S + 40.0
"""No call of wandb takes so long."""
LONGEST_PAUSE_S = 600.0
TRIES_AT_THE_END = 3
IDLE_LIMIT_S, END_LIMIT_S, STOPPED_LIMIT_S = 120.0, 900.0, 60.0
"""At the end: how long no run need be finished, how long it may take in all, and after a stop by hand."""
CHILD = [sys.executable, "-m", "vagram_ray.sweep.wandb.child"]


class Supervisor:
    """Keeps a sweep's W&B up to date from its records, in another process.

    Args:
        folder: The sweep's.
        project: ``PROJECT`` or ``ENTITY/PROJECT``.
        mode: ``"online"`` or ``"offline"``: what ``prepare_wandb`` returned.

    Raises:
        ValueError: An unknown mode.
    """

    def __init__(self, folder: Path, project: str, mode: str) -> None:
        if mode not in ("online", "offline"):
            raise ValueError(f"W&B mode {mode!r} must be online or offline: prepare_wandb() settles it.")
        self._folder, self._arguments = folder, [str(folder), project, mode]
        self._ended, self._given_up, self._done = threading.Event(), threading.Event(), threading.Event()
        self._left: int | None = None
        """Runs that are still to be handed over at the end, the fewest of all processes."""
        self._moved_at = 0.0
        self._lacking: int | None = None
        self._reason = ""
        self._told: set[str] = set()
        self._say: Callable[[str], None] = logger.info
        self._thread = threading.Thread(target=self._supervise, name="wandb-supervisor", daemon=True)

    def start(self) -> None:
        """Begin to log."""
        self._thread.start()

    def finish(
        self,
        *,
        interrupted: bool = False,
        say: Callable[[str], None] = logger.info,
        stopped: Callable[[], bool] = lambda: False,
    ) -> int:
        """No trial runs any more: wait until W&B has everything, or until nothing moves.

        Args:
            interrupted: The sweep was stopped by hand: there is less time.
            say: Told what is being done, if there is something to do.
            stopped: Whether the user has had enough of waiting.

        Returns:
            How many runs still lack something. A warning has said so.
        """
        self._say = say
        begin = self._moved_at = time.monotonic()
        self._ended.set()
        limit = STOPPED_LIMIT_S if interrupted else END_LIMIT_S
        while not self._done.wait(0.1):
            now = time.monotonic()
            if now - begin > limit or now - self._moved_at > IDLE_LIMIT_S or (stopped() and not interrupted):
                self._reason = self._reason or ("interrupted" if stopped() else "it takes too long")
                self._given_up.set()
                self._done.wait(10.0)
                break
        lacking = self._lacking
        if lacking is None:  # no process came to its end
            lacking = max(self._left or 0, 1)
        if lacking and not interrupted:
            self._tell_what_lacks(plural(lacking, "run") if self._lacking or self._left else "the sweep")
        return lacking

    # -- in the thread -------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        failures = 0
        try:
            while not self._given_up.is_set():
                at_the_end, before, begin = self._ended.is_set(), self._left, time.monotonic()
                try:
                    self._run_child()
                except Exception as error:  # as where there is no process or file left for another one
                    self._reason = first_line(error)
                    self._warn_of_another_try()
                if self._lacking is not None:
                    return
                moved = self._left != before or at_the_end != self._ended.is_set()
                lasted = time.monotonic() - begin > LONGEST_PAUSE_S
                failures = 1 if moved or lasted else failures + 1
                if at_the_end and failures >= TRIES_AT_THE_END:
                    return
                if failures > 1:
                    self._ended.wait(min(LONGEST_PAUSE_S, 2.0**failures))
        finally:
            self._done.set()

    def _run_child(self) -> None:
        """Run the process until it ends."""
        failure = ""
        with follower_process(self._arguments) as process:
            for message in self._messages(process):
                if "say" in message:
                    self._say(message["say"])
                if "warn" in message:
                    self._warn(message["warn"])
                if "left" in message and (self._left is None or message["left"] < self._left):
                    self._left, self._moved_at = message["left"], time.monotonic()
                failure = message.get("failed", failure)
                if "lacking" in message:
                    self._lacking, self._reason = message["lacking"], message["reason"]
            if self._lacking is not None or self._given_up.is_set():
                return
            if process.poll() is None:
                failure = f"its process said nothing for {SILENT_AFTER_S:g} s"
            self._reason = failure or f"its process ended with status {process.returncode}"
        self._warn_of_another_try()

    def _messages(self, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
        """What the process says, until it ends, says nothing for too long, or is no longer waited for."""
        assert process.stdin is not None and process.stdout is not None
        pipe, heard, buffer, told = process.stdout.fileno(), time.monotonic(), b"", False
        with selectors.DefaultSelector() as selector:  # select() takes no descriptor above 1023
            selector.register(pipe, selectors.EVENT_READ)
            while time.monotonic() - heard < SILENT_AFTER_S and not self._given_up.is_set():
                if self._ended.is_set() and not told:
                    told = True
                    with contextlib.suppress(OSError):  # it has died
                        os.write(process.stdin.fileno(), b"ended\n")
                if not selector.select(0.1):
                    continue
                chunk = os.read(pipe, 65536)
                if not chunk:
                    process.wait()
                    return
                heard = time.monotonic()
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    def _tell_what_lacks(self, whose: str) -> None:
        online = " --wandb online" if self._reason == "they were begun online" else ""
        logger.warning(
            "W&B lacks results of %s (%s), which the sweep's records have: run the sweep's command again%s to hand "
            "them over, or `python -m vagram_ray.sweep.wandb %s%s`.",
            whose, self._reason or "it did not take them", online, short_path(self._folder), online,
        )  # fmt: skip

    def _warn_of_another_try(self) -> None:
        self._warn(f"W&B logging is tried again ({self._reason}); the sweep's records have everything.")

    def _warn(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            logger.warning("%s", sentence)


@contextlib.contextmanager
def follower_process(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The process, which at the end is killed with all that it has started: a mark in their environment tells them."""
    name, value = "VAGRAM_RAY_FOLLOWER", uuid.uuid4().hex
    process = subprocess.Popen(
        [*CHILD, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": import_path(), name: value}, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for environment in Path("/proc").glob("[0-9]*/environ"):  # empty where the system is no Linux
            with contextlib.suppress(OSError):  # another user's, or it has just ended
                if f"{name}={value}".encode() in environment.read_bytes():
                    os.kill(int(environment.parent.name), signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
