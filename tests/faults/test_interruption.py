"""Signals to the driver, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.faults.signal_moments import stop_process
from vagram_ray.sweep.run.interruption import STOP_SIGNALS, Interruption

pytestmark = pytest.mark.ci

SCRIPT = """
import ctypes, signal, time
from pathlib import Path
from vagram_ray.commands import make_console
from vagram_ray.sweep.run.interruption import TRIALS_RUN, stop_on_signals

def ignored():
    masks = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(masks["SigIgn"], 16) & 1 << signal.SIGTERM - 1

def ray_starts():
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes = [ctypes.c_int, ctypes.c_void_p]
    set_handler(signal.SIGTERM, int(signal.SIG_IGN))  # Ray's C++ sets a handler that Python knows nothing of,
    for _ in range(1000):
        if not ignored():
            break
        time.sleep(0.01)
    print("ready", flush=True)
    for _ in range(6000):
        if interruption.happened:
            break
        time.sleep(0.01)
    signal.alarm(1)  # and an alarm that ends the process
    time.sleep(600 if {stubborn} else 2)
    print("started", flush=True)
    if {fails}:
        raise OSError("cannot be started")

with stop_on_signals(make_console()) as interruption:
    if {phase!r} == "ray starts":
        interruption.await_ray(ray_starts)
    if {phase!r} == "trials run":
        interruption.note_signals(TRIALS_RUN)
    print("ready", flush=True)
    for _ in range(600):
        if interruption.happened and not {stubborn}:
            break
        time.sleep(0.05)
print("in order", flush=True)
raise SystemExit(interruption.exit_status)
"""


AT_THE_EDGE = """
import os, signal
from types import SimpleNamespace
from vagram_ray.sweep import commandline, launch
from vagram_ray.sweep.__main__ import main

class Ended(SimpleNamespace):
    @property
    def status(self):  # is the last that is read of a sweep
        os.kill(os.getpid(), {number})
        return 0

def ended(request, console, interruption):
    interruption.note_signals("what is being written is finished first.")
    return Ended(ray_lost=False)

def killed(*arguments):
    os.kill(os.getpid(), {number})
    return 0

if {edge!r} == "the sweep's last step":
    launch.plan_and_run = ended
else:
    commandline.launch = killed
main(args=["dmc"])
"""


@pytest.mark.parametrize("edge", ["the sweep's last step", "outside the sweep"])
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_where_handlers_change_ends_the_command_with_its_status(number: signal.Signals, edge: str) -> None:
    command = [sys.executable, "-c", AT_THE_EDGE.format(number=int(number), edge=edge)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "", "")


def start(phase: str = "trials run", stubborn: bool = False, fails: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT.format(phase=phase, stubborn=stubborn, fails=fails)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_ends_in_order(number: signal.Signals) -> None:
    process = start()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert output.endswith("in order\n")
    assert "received: stopping the trials" in output
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


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_before_anything_runs_a_signal_ends_the_command(number: signal.Signals) -> None:
    process = start("planning")
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "received: nothing is running yet, so the sweep ends." in output and "in order" not in output
    assert errors == ""


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_while_ray_starts_a_signal_is_noted_whatever_ray_does_to_handlers(number: signal.Signals, fails: bool) -> None:
    process = start("ray starts", fails=fails)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "received: the sweep ends as soon as Ray has started" in output
    assert output.endswith("started\n")
    assert errors == ""


def test_while_ray_starts_a_second_signal_ends_at_once() -> None:
    process = start("ray starts", stubborn=True)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert "Ctrl-C received" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert (output, errors) == ("", "")


@pytest.mark.parametrize("error", [OSError("no"), SystemExit(3), KeyboardInterrupt()])
def test_what_ray_raises_as_it_starts_is_raised(error: BaseException) -> None:
    def fails() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        Interruption().await_ray(fails)
    assert raised.value is error


def test_without_a_signal_nothing_happened() -> None:
    assert not Interruption().happened
    assert Interruption().exit_status == 0
    assert Interruption(signal.SIGHUP).exit_status == 129


def test_a_closed_terminal_ends_no_program_started_meanwhile_and_reaches_this_one() -> None:
    script = """
import signal, subprocess, sys, threading
from vagram_ray.sweep.run.interruption import spared_from_hangup
signal.signal(signal.SIGHUP, lambda number, frame: print("heard", flush=True))
with spared_from_hangup():
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"],
                             stdout=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGHUP)
    signal.pthread_kill(threading.get_ident(), signal.SIGHUP)  # of this thread: NumPy's would not let it wait
    print("block", flush=True)
child.terminate()
print(-child.wait(), flush=True)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["block", "heard", str(int(signal.SIGTERM))]


LAST_MILLISECONDS = """
import select, threading, time
from vagram_ray.sweep.run.interruption import end_process, leave_at_once_on_signals

leave_at_once_on_signals()
for _ in range(60):  # as Ray's threads, which the kernel may hand a signal to
    threading.Thread(target=select.select, args=([], [], [], 60), daemon=True).start()
print("ready", flush=True)
stop = time.perf_counter() + 0.01
while time.perf_counter() < stop:
    pass
end_process(lambda: 0)
"""


def test_no_signal_is_lost_in_the_last_milliseconds_whichever_thread_gets_it() -> None:
    alive = 0
    for attempt in range(20):
        process = subprocess.Popen([sys.executable, "-c", LAST_MILLISECONDS], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.004 + 0.0003 * attempt)
        was_alive = stop_process(process.pid)  # or it might be ending before the signal comes
        if was_alive:
            process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        status = process.wait(timeout=60)
        process.stdout.close()
        assert not was_alive or status in (-signal.SIGTERM, 128 + signal.SIGTERM), attempt
        alive += was_alive
    assert alive > 10
