"""A soak: sweeps run for hours while memory, open files, threads, processes and disk are watched.

    python -m benchmarks.soak --hours 2 [--interval 10] [--folder FOLDER]
    python -m benchmarks.soak --report FOLDER

Two sweeps run side by side through the real command line, each with its own driver and its own Ray:

- ``many``: tiny trials of a few epochs, one after another, each in a process of its own;
- ``long``: one trial that lasts as long as the soak does, in epochs of a few seconds.

Both are stopped in order when the time is over. Written are ``samples.jsonl`` (a line per sample), ``report.md`` and
``report.json``: level at the start and the end of every series, its slope per hour (Theil-Sen over block medians, with
a 95 % interval), and whether it stays within its limit. Exit status: 0 when all do and no process is left behind.
Reads /proc, so it needs Linux. The code must not be changed while it runs: every trial is a new process.

Measured by ``--hours 1.33`` on 2026-11-22 to 23 (commit 43ecef5, a busy machine with two cores): resident memory,
first and last in MiB, and its slope in MiB per hour with the 95 % interval::

    driver, many trials            493.4 -> 515.4   +20.4 [+18.1, +22.9]
    driver, one trial              487.3 -> 486.6   -0.7 [-1.3, +0.2]
    a trial's process, one trial   546.9 -> 556.4   +8.1 [+6.8, +9.4]
    Ray's GCS, many trials          53.4 -> 64.4    +10.1 [+9.6, +10.5]
    W&B's service, many trials      35.6 -> 38.8    +3.6 [+2.3, +4.5]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.soak_report import write_report

SWEEP_FILE = """
from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep import Sweep

SWEEP = Sweep(
    name={name!r},
    config=MBPOConfig()
    .environment("Pendulum-v1")
    .training(
        model_loss="vagram", actor_hidden_sizes=(16, 16), critic_hidden_sizes=(16, 16), num_layers=2, hidden_size=16,
        ensemble_size=3, num_elites=2, model_max_epochs=5, model_patience=2, train_batch_size_per_learner=64,
        epoch_length={epoch_length}, num_steps_sampled_before_learning_starts=200, model_train_freq=50,
        rollouts_per_step=10, utd_ratio=2, replay_capacity=2000,
    )
    .evaluation(evaluation_interval=1, evaluation_duration=1),
    epochs={epochs},
    seeds={seeds},
)
"""
MANY_EPOCHS, MANY_EPOCH_LENGTH = 5, 100
LONG_EPOCH_LENGTH = 400
SHORTEST_TRIAL_S, SHORTEST_EPOCH_S = 4.0, 0.5
"""No trial of ``many`` and no epoch of ``long`` is shorter: so many are planned that they outlast the soak."""
MARK = "VAGRAM_RAY_SOAK"
"""Environment variable that every process of a soak has from its driver, orphans too."""
STOP_S = 300.0


def plan_sweep(name: str, hours: float) -> dict[str, Any]:
    """Epochs, seeds and epoch length with which a sweep outlasts the soak."""
    seconds = 3600 * hours
    if name == "many":
        seeds = math.ceil(seconds / SHORTEST_TRIAL_S) + 2
        return {"epochs": MANY_EPOCHS, "seeds": seeds, "epoch_length": MANY_EPOCH_LENGTH}
    return {"epochs": math.ceil(seconds / SHORTEST_EPOCH_S) + 2, "seeds": 1, "epoch_length": LONG_EPOCH_LENGTH}


class RunningSweep:
    """One sweep's driver, and what can be measured of it from outside."""

    def __init__(self, name: str, folder: Path, hours: float) -> None:
        self.name, self.folder = name, folder / "sweeps" / name
        self.plan = plan_sweep(name, hours)
        self.mark = f"{name}-{secrets.token_hex(8)}"
        # Short, because the path of a socket has at most 107 characters.
        self.ray_folder = Path(tempfile.mkdtemp(prefix="soak", dir="/tmp"))
        file = folder / f"{name}.py"
        file.write_text(SWEEP_FILE.format(name=name, **self.plan))
        command = [sys.executable, "-m", "vagram_ray.sweep", str(file), "--storage", str(self.folder.parent)]
        command += ["--name", name, "--seeds-per-trial", "1", "--max-concurrent", "1", "--wandb", "offline"]
        if name == "long":  # a checkpoint about as often as a trial of many writes one
            command += ["--checkpoint-every", "20"]
        environment = {**os.environ, MARK: self.mark, "RAY_TMPDIR": str(self.ray_folder), "OMP_NUM_THREADS": "1"}
        self._log = (folder / f"{name}.log").open("wb")
        self.driver = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, env=environment
        )

    def sample(self) -> dict[str, Any]:
        """Processes by role, the size of the folders, and how far the sweep is."""
        roles: dict[str, dict[str, int]] = {}
        for pid in marked_processes(self.mark):
            role = "driver" if pid == self.driver.pid else role_of(pid)
            usage = usage_of(pid)
            if usage is None:
                continue
            most = roles.setdefault(role, {"processes": 0, **dict.fromkeys(usage, 0)})
            most["processes"] += 1
            for key, value in usage.items():
                most[key] = max(most[key], value)
        epochs = [record_count(path) for path in self.folder.glob("records/*.jsonl")]
        return {
            "roles": roles,
            "ray_folder": folder_size(self.ray_folder),
            "sweep_folder": folder_size(self.folder),
            "trials_done": sum(count >= self.plan["epochs"] for count in epochs),
            "epochs_done": sum(epochs),
            "trials_failed": failed_trials(self.folder),
        }

    def stop(self) -> dict[str, Any]:
        """Stop the sweep as Ctrl-C does; tells how it ended and what it left behind."""
        status = self.driver.poll()
        ended_early = status is not None
        if not ended_early:
            self.driver.send_signal(signal.SIGINT)
            try:
                status = self.driver.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.driver.kill()
                status = self.driver.wait()
        self._log.close()
        orphans = [describe_process(pid) for pid in marked_processes(self.mark, patience_s=20.0)]
        for pid in marked_processes(self.mark):
            os.kill(pid, signal.SIGKILL)
        left = folder_size(self.ray_folder)
        shutil.rmtree(self.ray_folder, ignore_errors=True)
        return {"status": status, "ended_early": ended_early, "orphans": orphans, "ray_folder_left": left}


# -- /proc -----------------------------------------------------------------------------------------------------


def marked_processes(mark: str, patience_s: float = 0.0) -> list[int]:
    """Living processes with this mark in their environment; waits up to ``patience_s`` for there to be none."""
    wanted = f"{MARK}={mark}".encode()
    deadline = time.monotonic() + patience_s
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # has just ended, or is somebody else's
                continue
        if not found or time.monotonic() >= deadline:
            return sorted(found)
        time.sleep(0.5)


def role_of(pid: int) -> str:
    """What a process does for the sweep, by its command line."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "other"
    for part, role in (
        ("ray::MBPO", "trial"),
        ("ray::IDLE", "idle worker"),
        ("default_worker.py", "idle worker"),
        ("raylet/raylet", "raylet"),
        ("gcs_server", "gcs"),
        ("wandb-core", "wandb"),
        ("Agent", "Ray's helpers"),
        ("/ray/", "Ray's helpers"),
    ):
        if part in arguments:
            return role
    return "other"


def usage_of(pid: int) -> dict[str, int] | None:
    """Resident bytes, open files and threads; None if the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return {
            "rss": pages * os.sysconf("SC_PAGE_SIZE"),
            "files": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
        }
    except OSError:
        return None


def describe_process(pid: int) -> str:
    """Its number and command line."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        arguments = "has ended"
    return f"{pid} {arguments[:200]}"


def folder_size(folder: Path) -> dict[str, int]:
    """Bytes and number of the regular files below a folder."""
    total = count = 0
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        count += 1
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:  # removed meanwhile
            continue
    return {"bytes": total, "files": count}


def record_count(path: Path) -> int:
    """Epochs in a trial's records."""
    return path.read_bytes().count(b"\n")


def failed_trials(folder: Path) -> int:
    """Trials that failed at least once."""
    return sum(1 for _ in folder.glob("*/error.txt"))


# -- the command -----------------------------------------------------------------------------------------------


def run_soak(folder: Path, hours: float, interval_s: float) -> Mapping[str, Any]:
    """Run both sweeps and write the samples; returns how each ended."""
    folder.mkdir(parents=True)
    sweeps = [RunningSweep(name, folder, hours) for name in ("many", "long")]
    started = time.monotonic()
    next_sample = started
    try:
        with (folder / "samples.jsonl").open("w") as file:
            while time.monotonic() - started < 3600 * hours:
                sample = {"seconds": round(time.monotonic() - started, 1)}
                sample |= {sweep.name: sweep.sample() for sweep in sweeps}
                file.write(json.dumps(sample) + "\n")
                file.flush()
                if any(sweep.driver.poll() is not None for sweep in sweeps):  # each was to outlast the soak
                    break
                next_sample += interval_s
                time.sleep(max(0.0, next_sample - time.monotonic()))
    finally:
        ends = {sweep.name: sweep.stop() for sweep in sweeps}
        (folder / "ends.json").write_text(json.dumps(ends, indent=2) + "\n")
    return ends


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, or report on, a soak; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--interval", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--folder", type=Path, default=Path(f"results/soak-{time.strftime('%Y%m%d-%H%M%S')}"))
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="only write the report of an earlier soak anew")
    options = parser.parse_args(arguments)
    if options.report is None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # both sweeps are stopped then, too
        run_soak(options.folder, options.hours, options.interval)
    return write_report(options.report or options.folder)


if __name__ == "__main__":
    sys.exit(main())
