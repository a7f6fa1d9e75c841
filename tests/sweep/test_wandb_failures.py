"""W&B or our process that logs dies, hangs or cannot write: in the end every step is there once."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sweep.test_wandb_follower import check_whole
from tests.sweep.wandb_support import in_a_process, own_home, warnings_in  # noqa: F401
from tests.sweep.wandb_sweep import PlayedSweep, all_steps, offline, processes, wait_for
from vagram_ray.sweep.wandb import supervisor
from vagram_ray.sweep.wandb.supervisor import Supervisor

pytestmark = [pytest.mark.ci, pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")]
CHILD, SERVICE = "vagram_ray.sweep.wandb.child", "wandb-core"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Runs a line of Python in the process that logs, before it begins."""

    def breaking(line: str) -> None:
        script = f"import os, time, wandb\n{line}\nfrom vagram_ray.sweep.wandb.child import main\nmain()"
        monkeypatch.setattr(supervisor, "CHILD", [sys.executable, "-c", script])

    return breaking


HOLD = """
init = wandb.init
def holding(**options):
    run = init(**options)
    if not os.path.exists({held!r}):
        open({held!r}, "w").close()
        while not os.path.exists({go!r}):
            time.sleep(0.02)
    return run
wandb.init = holding"""
"""Has the first process wait when it has opened the first run, until a file tells it to go on."""


@pytest.mark.parametrize("name", ["def holding", SERVICE])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_costs_no_row(
    name: str, number: int, tmp_path: Path, broken: Callable[[str], None], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(supervisor, "SILENT_AFTER_S", 15.0)
    held, go = tmp_path / "held", tmp_path / "go"
    broken(HOLD.format(held=str(held), go=str(go)))
    sweep = PlayedSweep(tmp_path)
    follower = sweep.follow()
    sweep.play(sweep.trials[0], 1, 5)
    wait_for(held.exists)
    started = processes(os.getpid(), "wandb")
    (pid,) = processes(os.getpid(), name)
    os.kill(pid, number)
    go.touch()
    sweep.play(sweep.trials[1], 1, 5)
    assert follower.finish() == 0
    check_whole(sweep)
    (warning,) = warnings_in(caplog)
    assert "W&B logging is tried again (" in warning
    assert not [pid for pid in started if Path(f"/proc/{pid}/cmdline").exists()], "a process was left behind"
    assert processes(os.getpid(), "wandb") == []


def test_a_driver_that_is_killed_costs_no_row_and_leaves_nothing(tmp_path: Path) -> None:
    crash = f"""
from vagram_ray.sweep.wandb import supervisor
hold = {HOLD!r}.format(held=str(directory / "held"), go="never")
script = f"import os, time, wandb{{hold}}\\nfrom {CHILD} import main\\nmain()"
supervisor.CHILD = [supervisor.sys.executable, "-c", script]
sweep = PlayedSweep(directory)
follower = sweep.follow()
sweep.play(sweep.trials[0], 1, 5)
sweep.play(sweep.trials[1], 1, 3)
wait_for((directory / "held").exists)
print(*processes(os.getpid(), "wandb"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = in_a_process(crash, tmp_path)
    assert ended.returncode == -9, ended.stderr
    left = ended.stdout.split()
    assert len(left) == 2
    wait_for(lambda: not [pid for pid in left if Path(f"/proc/{pid}/cmdline").exists()])
    assert offline(tmp_path) == {}, "half a run is there"
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[1], 3, 5)
    assert sweep.catch_up() == 0
    check_whole(sweep)


def test_pieces_that_were_noted_and_not_moved_count(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 5)
    assert sweep.catch_up() == 0
    hidden = tmp_path / "wandb" / ".writing" / "wandb"
    hidden.mkdir(parents=True)
    for piece in sorted(tmp_path.glob("wandb/offline-run-*")):
        piece.rename(hidden / piece.name)
    shutil.copytree(piece := next(hidden.iterdir()), hidden / f"{piece.name}-not-noted")
    sweep.play(sweep.trials[1], 1, 5)
    assert sweep.catch_up() == 0
    check_whole(sweep)
    assert not list(tmp_path.glob("wandb/*-not-noted"))


def test_what_fails_each_time_is_told_once_and_ends(
    tmp_path: Path, broken: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    broken("def fail(**options): raise OSError('No space left on device\\nand more')\nwandb.init = fail")
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 5)
    assert sweep.catch_up() == 2
    again, lacks = warnings_in(caplog)
    assert again == "W&B logging is tried again (No space left on device); the sweep's records have everything."
    assert lacks.startswith(
        "W&B lacks results of 2 runs (No space left on device), which the sweep's records have: run the sweep's "
        "command again to hand them over, or `python -m vagram_ray.sweep.wandb "
    )


def test_a_file_that_is_cut_short_is_not_counted(
    tmp_path: Path, broken: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 5)
    cut = "[os.truncate(file, 300) for file in __import__('pathlib').Path('wandb/.writing/wandb').glob('*/*.wandb')]"
    with monkeypatch.context():
        broken(f"end = wandb.teardown\ndef cutting():\n    end()\n    {cut}\nwandb.teardown = cutting")
        monkeypatch.chdir(tmp_path)
        assert sweep.catch_up() == 2
    monkeypatch.setattr(supervisor, "CHILD", [sys.executable, "-m", CHILD])
    monkeypatch.chdir(Path(__file__).parents[2])
    assert sweep.catch_up() == 0
    assert [all_steps(runs) for runs in offline(tmp_path).values()] == [sweep.steps] * 2


def test_a_call_that_never_returns_holds_nobody(
    tmp_path: Path, broken: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "SILENT_AFTER_S", 15.0)
    monkeypatch.setattr(supervisor, "TRIES_AT_THE_END", 2)
    broken("wandb.init = lambda **options: time.sleep(600)")
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 5)
    assert sweep.catch_up() == 2
    assert any("its process said nothing for 15 s" in warning for warning in warnings_in(caplog))
    stopped = sweep.follow()
    assert stopped.finish(stopped=lambda: bool(stopped._left)) == 2
    assert "2 runs (interrupted)" in warnings_in(caplog)[-1]
    assert processes(os.getpid(), "wandb") == []


def test_a_process_that_never_begins_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "CHILD", [sys.executable, "-c", "raise SystemExit(3)"])
    assert PlayedSweep(tmp_path).catch_up() == 1
    again, lacks = warnings_in(caplog)
    assert "tried again (its process ended with status 3)" in again
    assert "W&B lacks results of the sweep (its process ended with status 3)" in lacks


def test_what_runs_is_written_after_a_stop_by_hand(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    follower = sweep.follow()
    sweep.play(sweep.trials[0], 1, 3)
    assert follower.finish(interrupted=True) == 0
    found = offline(tmp_path)
    assert {key: [(run.exit_code, all_steps([run])) for run in runs] for key, runs in found.items()} == {
        ("model_loss=vagram", seed): [(130, sweep.steps[:3])] for seed in (0, 1)
    }


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 5)
    (tmp_path / "wandb_logged.json").mkdir()
    assert sweep.catch_up() == 2
    assert any("Is a directory" in warning for warning in warnings_in(caplog))


def test_modes_that_prepare_wandb_does_not_return_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'auto' must be online or offline"):
        Supervisor(tmp_path, "p", "auto")
