"""Signals to the driver, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from vagram_ray.sweep.run.interruption import STOP_SIGNALS, Interruption

SCRIPT = """
import time
from vagram_ray.commands import make_console
from vagram_ray.sweep.run.interruption import stop_on_signals
with stop_on_signals(make_console()) as interruption:
    print("ready", flush=True)
    for _ in range(600):
        if interruption.happened and not {stubborn}:
            break
        time.sleep(0.05)
print("in order", flush=True)
raise SystemExit(interruption.exit_status)
"""


def start(stubborn: bool) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT.format(stubborn=stubborn)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_ends_in_order(number: signal.Signals) -> None:
    process = start(stubborn=False)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert output.endswith("in order\n")
    assert "topping the trials" in output
    assert errors == ""


def test_the_second_signal_ends_at_once() -> None:
    process = start(stubborn=True)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert "SIGTERM received" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT
    assert "in order" not in output
    assert errors == ""


def test_without_a_signal_nothing_happened() -> None:
    assert not Interruption().happened
    assert Interruption().exit_status == 0
    assert Interruption(signal.SIGHUP).exit_status == 129


def test_programs_started_meanwhile_take_no_notice_of_a_closed_terminal() -> None:
    script = (
        "import subprocess, sys\nfrom vagram_ray.sweep.run.interruption import spared_from_hangup\n"
        "ask = [sys.executable, '-c', 'import signal; print(signal.getsignal(signal.SIGHUP).name)']\n"
        "with spared_from_hangup():\n    subprocess.run(ask)\nsubprocess.run(ask)\n"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["SIG_IGN", "SIG_DFL"]
