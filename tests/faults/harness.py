"""Sweeps as real processes that are disturbed, and what has to be the same afterwards."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sweep.wandb_files import WandbFileError, read_offline_run
from vagram_ray.records.folder import SweepFolder

ROOT = Path(__file__).resolve().parents[2]
MARK = "VAGRAM_RAY_FAULT_TEST"
"""Environment variable that every process of a sweep has from its driver, orphans too."""
SIMULATOR = Path(__file__).with_name("simulator.py").read_text()
"""Source of an extension with a simulator that goes wrong on cue."""
EPOCHS, SEEDS = 5, (0, 1)
EPOCH_LENGTH, SHORT_EPOCH_LENGTH = 400, 200
"""Of what takes minutes, and of what every test run does."""

SWEEP_FILE = """
from ray import tune
from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep import Sweep

SWEEP = Sweep(
    name="faults",
    config=MBPOConfig()
    .environment({env!r}, env_step_time_limit_s={step_limit})
    .training(
        model_loss=tune.grid_search(["vagram", "nll"]),
        actor_hidden_sizes=(16, 16),
        critic_hidden_sizes=(16, 16),
        num_layers=1,
        hidden_size=16,
        ensemble_size=3,
        num_elites=2,
        model_max_epochs=2,
        epoch_length={epoch_length},
        num_steps_sampled_before_learning_starts=60,
        model_train_freq=50,
        rollouts_per_step=4,
        utd_ratio=2,
        train_batch_size_per_learner=32,
        extensions={extensions},
    )
    .evaluation(evaluation_duration=1),
    epochs={epochs},
    seeds={seeds},
)
"""


def write_sweep_file(
    folder: Path,
    *,
    extension: str = "",
    env: str = "Pendulum-v1",
    step_limit: float | None = None,
    epoch_length: int = EPOCH_LENGTH,
    epochs: int = EPOCHS,
    seeds: tuple[int, ...] = SEEDS,
) -> Path:
    """A small sweep of two cells in ``folder``; ``extension`` is the source of a file that every process imports."""
    folder.mkdir(parents=True, exist_ok=True)
    if extension:
        (folder / "extension.py").write_text(extension)
    path = folder / "faults.py"
    names = ["extension.py"] if extension else []
    values = {"env": env, "step_limit": step_limit, "epoch_length": epoch_length, "epochs": epochs, "seeds": seeds}
    path.write_text(SWEEP_FILE.format(extensions=names, **values))
    return path


@dataclass
class SweepRun:
    """A sweep's command, which may be started several times.

    Attributes:
        file: The sweep file.
        storage: Where results go.
        arguments: Further arguments of the command.
        environment: Further environment variables.
        directory: Where the command is given.
        prefix: What stands before the command, such as ``ip netns exec NAME``.
    """

    file: Path
    storage: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = ROOT
    prefix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.output = ""
        self._driver: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.storage / "faults"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command in a session of its own, as a shell does."""
        command = [*self.prefix, sys.executable, "-m", "vagram_ray.sweep", str(self.file)]
        command += ["--storage", str(self.storage)]
        command += ["--seeds-per-trial", "2", "--checkpoint-every", "1", "--wandb", "offline", *self.arguments]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "RAY_"))}
        environment |= {MARK: self.mark, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        environment["RAY_worker_niceness"] = "0"  # Ray lets others on a busy machine go first
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment |= {"PYTHONPATH": os.pathsep.join(paths), **self.environment}
        self._log = self.file.parent / f"output-{self.mark}.txt"
        with self._log.open("ab") as log:
            self._driver = subprocess.Popen(
                command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_heed_signals,
            )  # fmt: skip
        return self._driver

    @property
    def driver(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._driver is not None
        return self._driver

    def wait(self, timeout_s: float = 900.0) -> int:
        """The exit status; the sweep is killed when it takes longer."""
        try:
            return self.driver.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.clean_up()
            raise AssertionError(f"the sweep has not ended within {timeout_s:g} s:\n{self.read_output()}") from None

    def run(self, timeout_s: float = 900.0) -> int:
        """Start the command and wait for its end."""
        self.start()
        return self.wait(timeout_s)

    def read_output(self) -> str:
        """What all commands so far have printed."""
        return self._log.read_text(errors="replace")

    # -- processes ---------------------------------------------------------------------------------------------

    def pids(self, role: str = "") -> list[int]:
        """Living processes of this sweep; ``role`` is a part of the command line (``ray::MBPO`` is a trial)."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                marked = wanted in (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # has just ended, or is somebody else's
                continue
            if marked and state != "Z" and role in command:
                found.append(int(entry.name))
        return sorted(found)

    def left_behind(self, patience_s: float = 100.0, *, helpers: bool = True) -> list[str]:
        """Command lines of processes that are still there after a while.

        Args:
            patience_s: How long to wait for their end.
            helpers: Whether Ray's agents count. Those that lose their raylet end when a request to its control
                process has timed out, after 60 s.
        """

        def others() -> list[int]:
            return sorted(set(self.pids()) - (set() if helpers else set(self.pids("Agent"))))

        until(lambda: not others(), patience_s)
        return [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in others()]

    def clean_up(self) -> None:
        """Kill what is there."""
        for pid in self.pids():
            kill(pid, signal.SIGKILL)
        if self._driver is not None:
            self._driver.wait()

    # -- progress ----------------------------------------------------------------------------------------------

    def epochs(self) -> dict[str, int]:
        """Epochs that are recorded, by trial."""
        paths = self.folder.glob("records/*.jsonl")
        return {path.stem: max(_epochs_in(path), default=0) for path in paths}

    def wait_for_epoch(self, epoch: int, timeout_s: float = 600.0) -> None:
        """Until some trial has recorded this epoch."""
        self.wait_until(lambda: max(self.epochs().values(), default=0) >= epoch, timeout_s)

    def wait_until(self, condition: Callable[[], Any], timeout_s: float = 600.0) -> None:
        """Until something is so; fails when the driver ends before."""
        begin = time.monotonic()
        while not condition():
            ended = self.driver.poll()
            assert ended is None or condition(), f"the driver has ended with {ended}:\n{self.read_output()}"
            assert time.monotonic() - begin < timeout_s, f"not within {timeout_s:g} s:\n{self.read_output()}"
            time.sleep(0.05)


def _heed_signals() -> None:
    """As a shell's foreground process: tests that run under ``nohup`` or in the background hand on what they ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@dataclass(frozen=True)
class Undisturbed:
    """The sweep that nothing happened to: its folder, and how long the command took."""

    folder: Path
    seconds: float
    epoch_length: int = EPOCH_LENGTH


def run_undisturbed(place: Path, epoch_length: int = EPOCH_LENGTH) -> Undisturbed:
    """Run the sweep with nothing happening to it; nothing of it may be left, neither processes nor files of Ray."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as temporary:  # short, for the paths of sockets
        file = write_sweep_file(place, epoch_length=epoch_length)
        run = SweepRun(file, place / "results", environment={"RAY_TMPDIR": temporary})
        begin = time.monotonic()
        try:
            status = run.run()
            seconds = time.monotonic() - begin
            assert status == 0, run.read_output()
            assert run.left_behind() == []
            assert list(Path(temporary).glob("ray/session_2*")) == []
        finally:
            run.clean_up()
    return Undisturbed(run.folder, seconds, epoch_length)


def _epochs_in(path: Path) -> Iterator[int]:
    for line in path.read_text(errors="replace").splitlines():
        found = re.match(r'\{"training_iteration": (\d+), .*\}$', line)
        if found:
            yield int(found[1])


def kill(pid: int, number: int) -> bool:
    """Send a signal; False if the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], Any], timeout_s: float) -> bool:
    """Wait for something; whether it came."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > timeout_s:
            return False
        time.sleep(0.1)
    return True


# -- what has to be the same -----------------------------------------------------------------------------------

Rows = dict[tuple[str, int, int], dict[str, Any]]


def recorded(folder: Path) -> Rows:
    """All metrics of every cell, seed and epoch, without times, and the number of environment steps."""
    info = json.loads((folder / "sweep.json").read_text())
    rows: Rows = {}
    for trial in info["trials"]:
        label = info["cells"][trial["cell"]]["label"]
        for record in SweepFolder(folder).records(trial["name"]):
            for seed, metrics in record["seeds"].items():
                row = {"env_steps": record["env_steps"], **metrics}
                rows[label, int(seed), record["training_iteration"]] = row
    return rows


def logged(folder: Path) -> dict[tuple[str, int], list[tuple[int, Any]]]:
    """Steps and a metric that W&B holds of every cell and seed, in the order in which they were logged."""
    rows: dict[tuple[str, int], list[tuple[int, Any]]] = {}
    for run_folder in sorted(folder.glob("wandb/offline-run-*")):
        if not any(run_folder.glob("*.wandb")):
            continue
        try:
            run = read_offline_run(run_folder)
        except WandbFileError:  # a full disk did not even take its first bytes
            continue
        if run.job_type == "seed":
            own = rows.setdefault((run.group, int(run.config["seed"])), [])
            own += [(row["_step"], row.get("eval/episode_return")) for row in run.history]
    return rows


def remnants(folder: Path) -> list[str]:
    """Files and folders that only stand there while something is being written."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return [name for name in names if re.search(r"(^|/)(\.tmp|checkpoint_tmp)|\.tmp$", name)]


def check_equal(folder: Path, undisturbed: Path, only: str = "") -> None:
    """Records equal bit for bit, W&B with each step once and the same values, nothing left half-written.

    Args:
        folder: The sweep that was disturbed.
        undisturbed: The other one.
        only: Look at cells with this in their name.
    """
    expected = {key: row for key, row in recorded(undisturbed).items() if only in key[0]}
    found = {key: row for key, row in recorded(folder).items() if only in key[0]}
    assert sorted(found) == sorted(expected)
    different = [key for key in expected if found[key] != expected[key]]
    assert not different, f"differ from the undisturbed sweep: {different}"
    steps: dict[tuple[str, int], list[tuple[int, Any]]] = {}
    for (label, seed, _), row in sorted(expected.items()):
        steps.setdefault((label, seed), []).append((row["env_steps"], row["eval/episode_return"]))
    assert {key: rows for key, rows in logged(folder).items() if only in key[0]} == steps
    assert remnants(folder) == []
