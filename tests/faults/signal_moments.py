"""Signals to a sweep's command at seeded random moments of its start and its end, each to a command of its own."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.harness import SweepRun, until

NUMBERS = (signal.SIGTERM, signal.SIGINT)
PLAN, END = "W&B          ", "Final return"
"""What is printed just before Ray starts, and just after the trials have ended."""
CLOSED = "(checkpoints and logs)"
"""The end of the closing text."""
NOT_HEARD_S = 120.0
"""A command that has not ended by then hangs."""
PF_EXITING = 0x4
"""Linux's flag of a thread that is being ended (``proc_pid_stat(5)``)."""


@dataclass
class Moment:
    """One signal."""

    number: signal.Signals
    after: str
    """``"plan"`` or ``"trials"``: it comes when the plan has been shown, or when the trials have ended."""
    delay_s: float
    was_sent: bool = False
    outcome: str = ""
    problem: str = ""


LATEST_S = {"plan": 12.0, "trials": 3.0}
"""So long after an event a signal comes at the latest."""


def moments(count: int, seed: int, places: tuple[str, ...]) -> list[Moment]:
    """After each of ``places`` in turn, at seeded random moments."""
    generator = random.Random(seed)
    found = []
    for index in range(count):
        after = places[index % len(places)]
        number = NUMBERS[(index // len(places) if after == "trials" else index) % 2]
        found.append(Moment(number, after, generator.uniform(0.0, LATEST_S[after])))
    return found


def send(moment: Moment, run: SweepRun) -> None:
    """Give the command, send the signal, and note what came of it."""
    run.start()
    words = PLAN if moment.after == "plan" else END
    until(lambda: words in run.read_output() or run.driver.poll() is not None, 600.0)
    time.sleep(moment.delay_s)
    if run.driver.poll() is not None:
        moment.outcome = "the command had ended before"
        return
    ended = END in run.read_output()  # on a quick machine also of those that were to come at the start
    if ended and not stop_process(run.driver.pid):
        moment.outcome = "the kernel was ending the command: none was sent"
        return
    run.driver.send_signal(moment.number)
    moment.was_sent = True
    run.driver.send_signal(signal.SIGCONT)
    began = time.monotonic()
    if not until(lambda: run.driver.poll() is not None, NOT_HEARD_S):
        moment.outcome, moment.problem = "hung", f"hung:\n{run.read_output()}"
        run.clean_up()
        return
    status, output = run.driver.returncode, run.read_output()
    moment.outcome = f"exit status {status} after {time.monotonic() - began:.1f} s"
    if status == -moment.number and CLOSED in output:
        moment.outcome += ", after the closing text"  # 128 + the number to a shell: Ray ends, which takes handlers away
    elif status != 128 + moment.number:
        moment.problem = f"exit status {status}:\n{output}"
    elif "Traceback" in output or "Exception ignored" in output:
        moment.problem = f"noise:\n{output}"
    elif " received: " not in output:
        moment.outcome += ", no sentence"
        if not ended:
            moment.problem = f"no sentence:\n{output}"
    elif not ended and END not in output and "stopping the trials" in output:
        moment.problem = f"no closing text:\n{output}"


def stop_process(pid: int) -> bool:
    """Stop a process, so that the next signal finds it alive. False where it has ended or the kernel is ending it.

    Ending takes the kernel a while on a busy machine. What is sent meanwhile reaches nobody, and tells nothing.
    """
    os.kill(pid, signal.SIGSTOP)
    while True:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        state, flags = fields[0], int(fields[6])
        if state == "T":
            return True
        if state in "ZX" or flags & PF_EXITING:
            return False
        time.sleep(0.001)


def table(sent: list[Moment]) -> str:
    """What came of each."""
    lines = [
        f"{index + 1:3d}  {moment.number.name:8s} {moment.delay_s:5.2f} s after the {moment.after:6s}  {moment.outcome}"
        f"{'  PROBLEM' if moment.problem else ''}"
        for index, moment in enumerate(sent)
    ]
    heard = sum(moment.was_sent and not moment.problem for moment in sent)
    tried = sum(moment.was_sent for moment in sent)
    return "\n".join([f"{heard} of {tried} signals heard; {len(sent) - tried} commands had ended before:", *lines])
