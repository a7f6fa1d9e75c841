"""The driver's side: starts the process that logs a sweep (``child``), starts it again, and waits for it at the end.

Nothing here waits for W&B but ``finish``. A thread of its own listens to the process. One that has died, or has said
nothing for ``SILENT_AFTER_S``, is killed with the process that wandb has started, and a new one begins: at once, then
after pauses that grow.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from vagram_ray.sweep.processes import import_path
from vagram_ray.sweep.wandb.target import CALL_LIMIT_S, Target
from vagram_ray.text import plural, short_path

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
        target: Where the runs go.
        mode: ``"online"`` or ``"offline"``: what ``prepare_wandb`` returned.

    Raises:
        ValueError: An unknown mode.
    """

    def __init__(self, target: Target, mode: str) -> None:
        if mode not in ("online", "offline"):
            raise ValueError(f"W&B mode {mode!r} must be online or offline: prepare_wandb() settles it.")
        self._target = target
        self._orders: dict[str, Any] = {
            "folder": str(target.folder), "project": target.project, "sweep_name": target.sweep_name,
            "online": mode == "online", "offline_now": False, "reached": False,
            "failed": [], "ended": False, "interrupted": False,
        }  # fmt: skip
        self._changed = threading.Event()
        self._done = threading.Event()
        self._given_up = False
        self._last_done = 0.0
        self._left = 0
        self._fewest_left = sys.maxsize
        self._lacking: int | None = None
        self._reason = ""
        self._told: set[str] = set()
        self._say: Callable[[str], None] = logger.info
        self._thread = threading.Thread(target=self._supervise, name="wandb-supervisor", daemon=True)

    def start(self) -> None:
        """Begin to log."""
        self._thread.start()

    def trial_failed(self, name: str) -> None:
        """A trial has failed for good: its runs end as failed."""
        self._orders["failed"] = sorted({*self._orders["failed"], name})
        self._changed.set()

    def finish(
        self,
        failed: Collection[str] = (),
        *,
        interrupted: bool = False,
        say: Callable[[str], None] = logger.info,
        stopped: Callable[[], bool] = lambda: False,
    ) -> int:
        """No trial runs any more: wait until W&B has everything, or until nothing moves.

        Args:
            failed: Names of trials that have failed for good.
            interrupted: The sweep was stopped by hand: what is not open is left to the next launch.
            say: Told what is being done, if there is something to do.
            stopped: Whether the user has had enough of waiting.

        Returns:
            How many runs still lack something. A warning has said so.
        """
        self._say = say
        self._orders |= {
            "failed": sorted({*self._orders["failed"], *failed}), "ended": True, "interrupted": interrupted
        }  # fmt: skip
        begin = self._last_done = time.monotonic()
        self._changed.set()
        limit = STOPPED_LIMIT_S if interrupted else END_LIMIT_S
        while not self._done.wait(0.1):
            now = time.monotonic()
            if now - begin > limit or now - self._last_done > IDLE_LIMIT_S or (stopped() and not interrupted):
                self._reason = self._reason or ("interrupted" if stopped() else "it takes too long")
                self._given_up = True
                self._changed.set()
                self._done.wait(10.0)
                break
        lacking = max(self._left, 1) if self._lacking is None else self._lacking  # None: no process came to its end
        if lacking and not interrupted:
            self._tell_what_lacks(plural(lacking, "run") if self._lacking or self._left else "the sweep")
        return lacking

    # -- in the thread -------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        failures = 0
        try:
            while not self._given_up:
                at_the_end = bool(self._orders["ended"])
                before, whole = self._fewest_left, self._run_child()
                if whole:
                    return
                moved = self._fewest_left < before or at_the_end != self._orders["ended"]
                failures = 1 if moved else failures + 1
                if at_the_end and failures >= TRIES_AT_THE_END:
                    return
                if failures > 1 and not self._orders["ended"]:
                    self._wait_for_the_end(min(LONGEST_PAUSE_S, 2.0**failures))
        finally:
            self._done.set()

    def _wait_for_the_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._orders["ended"] and (left := deadline - time.monotonic()) > 0:
            self._changed.wait(left)
            self._changed.clear()

    def _run_child(self) -> bool:
        """Run the process until it ends. Returns whether it did all that could be done."""
        whole, reason, due = False, "", 0
        self._changed.set()
        with follower_process() as process:
            for message in self._messages(process):
                self._orders["reached"] |= bool(message.get("reached"))
                self._left = message.get("left", self._left)
                due = max(due, message.get("left", 0))
                if "done" in message:
                    self._left, self._last_done = self._left - 1, time.monotonic()
                    self._fewest_left = min(self._left, self._fewest_left)
                if "say" in message:
                    self._say(message["say"])
                if "warn" in message:
                    self._warn(message["warn"])
                if "offline" in message:
                    self._go_offline(message["offline"])
                    return False
                if "gone" in message:
                    reason = message["gone"]
                    self._warn(
                        f"W&B does not answer ({reason}): what it lacks waits in the sweep's records and is handed "
                        "over later."
                    )
                    self._reason = reason
                    return False
                reason = message.get("failed", reason)
                if "lacking" in message:
                    self._lacking, self._reason = message["lacking"], message["reason"]
                    whole = True
            if self._given_up or whole:
                return True
            status = process.poll()
            reason = reason or (
                f"its process ended with status {status}" if status is not None
                else f"its process said nothing for {SILENT_AFTER_S:g} s"
            )  # fmt: skip
        self._reason, self._left = reason, due  # nothing that it did is known to have arrived
        self._warn(f"W&B logging is started again ({reason}); the sweep's records have everything.")
        return False

    def _messages(self, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
        """What the process says, until it ends, says nothing for too long, or is no longer waited for."""
        assert process.stdin is not None and process.stdout is not None
        pipe, heard, buffer = process.stdout.fileno(), time.monotonic(), b""
        os.set_blocking(process.stdin.fileno(), False)
        while time.monotonic() - heard < SILENT_AFTER_S and not self._given_up:
            if self._changed.is_set():
                self._changed.clear()
                with contextlib.suppress(OSError):  # it has died, or hangs
                    os.write(process.stdin.fileno(), json.dumps(self._orders).encode() + b"\n")
            if not select.select([pipe], [], [], 0.1)[0]:
                continue
            chunk = os.read(pipe, 65536)
            if not chunk:
                process.wait()
                return
            heard = time.monotonic()
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)

    def _go_offline(self, reason: str) -> None:
        self._orders["offline_now"] = True
        self._warn(
            f"W&B cannot log online ({reason}): logging offline in {self._target.folder / 'wandb'}; the sweep's "
            "command hands it over when it is run again, or `wandb sync`."
        )

    def _tell_what_lacks(self, whose: str) -> None:
        online = " --wandb online" if self._reason == "they were begun online" else ""
        logger.warning(
            "W&B lacks results of %s (%s), which the sweep's records have: run the sweep's command again%s to hand "
            "them over, or `python -m vagram_ray.sweep.wandb %s%s`.",
            whose, self._reason or "it did not take them", online,
            short_path(self._target.folder), online,
        )  # fmt: skip

    def _warn(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            logger.warning("%s", sentence)


def hand_over_artifacts(target: Target, kinds: Sequence[str], console: Console) -> None:
    """Have a sweep's artifacts made and logged, and show what the process tells of it. Ctrl-C leaves the rest."""

    def say(text: str, style: str = "") -> None:
        console.print(Text(f"W&B: {text}", style=style), soft_wrap=True)

    start = {"folder": str(target.folder), "project": target.project, "sweep_name": target.sweep_name}
    problem = "its process has died"
    try:
        with follower_process() as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps({**start, "artifacts": list(kinds)}).encode() + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                problem = message.get("failed", problem)
                if "say" in message:
                    say(message["say"], message["style"])
            if process.wait() != 0:
                say(f"the artifacts are not logged ({problem}); the results are complete.", "yellow")
    except KeyboardInterrupt:
        say("left before all artifacts were logged; the results are complete.", "yellow")


@contextlib.contextmanager
def follower_process() -> Iterator[subprocess.Popen[bytes]]:
    """The process, which at the end is killed with all that it has started: a mark in their environment tells them."""
    mark = f"VAGRAM_RAY_FOLLOWER={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    process = subprocess.Popen(
        CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": import_path(), name: value}, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for environment in Path("/proc").glob("[0-9]*/environ"):  # empty where the system is no Linux
            with contextlib.suppress(OSError):  # another user's, or it has just ended
                if mark.encode() in environment.read_bytes():
                    os.kill(int(environment.parent.name), signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
