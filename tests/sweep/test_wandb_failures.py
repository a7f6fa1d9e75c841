"""W&B that fails, hangs or is not there: the sweep goes on."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.sweep.wandb_support import (
    HOOK,
    KEY,
    Trial,
    by_seed,
    callback,
    in_a_process,
    own_home,  # noqa: F401
    read,
    result,
    steps,
    wandb_service,  # noqa: F401
    warnings_in,
)
from vagram_ray.sweep.wandb import service
from vagram_ray.sweep.wandb.runs import SeedRun


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_failing_wandb_warns_once_and_stops_nothing(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionResetError("Connection lost\nand a second line")

    if broken == "init":
        monkeypatch.setattr(wandb, "init", fail)
    else:
        monkeypatch.setattr(wandb.Run, broken, fail)
    runs = callback(tmp_path)
    trial = Trial()
    runs.on_trial_start(**HOOK, trial=trial)
    for env_steps in (1000, 2000):
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    runs.on_trial_complete(**HOOK, trial=trial)
    runs.on_experiment_end(trials=[trial])
    runs.finish_all()
    assert len(warnings_in(caplog)) == 1
    assert "(Connection lost); what was logged so far is in" in warnings_in(caplog)[0]


def test_a_call_that_never_returns_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forever = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **kwargs: forever.wait(600))
    monkeypatch.setattr(service, "STUCK_AFTER_S", 0.2)
    runs = callback(tmp_path)
    begin = time.monotonic()
    runs.on_trial_start(**HOOK, trial=Trial())
    time.sleep(0.5)
    for env_steps in (1000, 2000):
        runs.on_trial_result(**HOOK, trial=Trial(), result=result(env_steps))
    runs.finish_all()
    seconds = time.monotonic() - begin
    forever.set()
    assert seconds < 50
    assert len(warnings_in(caplog)) == 1
    assert "(wandb has not answered for 0.2 s)" in warnings_in(caplog)[0]


def test_finish_all_waits_while_runs_keep_finishing_and_gives_up_when_none_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finished: list[int] = []
    forever = threading.Event()

    def slow_finish(run: SeedRun, *args: Any) -> None:
        if run.seed == 99:
            forever.wait(600)
        time.sleep(0.3)
        finished.append(run.seed)

    monkeypatch.setattr(SeedRun, "open", lambda run, *args: None)
    monkeypatch.setattr(SeedRun, "finish", slow_finish)
    runs, trial = callback(tmp_path), Trial()
    trial.config = {**trial.config, "seeds": tuple(range(10))}
    runs.on_trial_start(**HOOK, trial=trial)
    runs.finish_all(timeout_s=2.0)  # 10 times 0.3 s in all
    assert finished == list(range(10))
    assert not warnings_in(caplog)

    stuck = Trial("ab123_00001", {**trial.config, "seeds": (10, 99, 12)})
    runs.on_trial_start(**HOOK, trial=stuck)
    begin = time.monotonic()
    runs.finish_all(timeout_s=0.8)
    assert 0.9 < time.monotonic() - begin < 50
    forever.set()
    assert finished[10] == 10
    assert len(warnings_in(caplog)) == 1
    assert "(it finished nothing for 0.8 s)" in warnings_in(caplog)[0]


def test_a_folder_that_cannot_be_made_and_a_failing_cell_name_warn_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    runs = callback(tmp_path / "file" / "sweep")
    runs.on_trial_result(**HOOK, trial=Trial(), result=result(1000))
    runs.finish_all()
    assert len(warnings_in(caplog)) == 1

    runs = callback(tmp_path, cell_of=lambda config: config["no such key"])
    runs.on_trial_result(**HOOK, trial=Trial(), result=result(1000))
    runs.on_trial_complete(**HOOK, trial=Trial())
    runs.finish_all()
    assert len(warnings_in(caplog)) == 2


def test_disabled_and_results_without_seeds_log_nothing(tmp_path: Path) -> None:
    for runs in (callback(tmp_path, mode="disabled"), callback(tmp_path)):
        runs.on_trial_result(**HOOK, trial=Trial(), result={"training_iteration": 1})
        runs.on_trial_complete(**HOOK, trial=Trial())
        runs.finish_all()
    assert list(tmp_path.glob("wandb/*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="finds the service process in /proc")
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGSTOP"])
def test_a_dead_or_hanging_service_process_holds_nobody(signal_name: str, tmp_path: Path) -> None:
    script = f"""
wandb_service.TEARDOWN_S = 1.0
runs, trial = callback(directory), Trial()
runs.on_trial_result(**HOOK, trial=trial, result=result(1000))
assert runs._worker.drain(100)
pid = service_pid()
os.kill(pid, signal.{signal_name})
begin = time.monotonic()
for env_steps in range(2000, 50_000, 1000):
    runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
runs.on_trial_complete(**HOOK, trial=trial)
assert time.monotonic() - begin < 20, "the driver waited"
runs.finish_all(timeout_s=2)
runs.finish_all(timeout_s=2)
assert time.monotonic() - begin < 60, "finish_all waited too long"
print(pid, flush=True)
"""
    process = in_a_process(script, tmp_path)
    assert not Path(f"/proc/{int(process.stdout)}").exists(), "the service process was left behind"
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert process.stderr.count("what was logged so far is in") == 1


def test_online_without_an_answer_becomes_offline(tmp_path: Path) -> None:
    script = """
wandb_target.INIT_TIMEOUT_S = 1.0
runs, trial = callback(directory, mode="online"), Trial()
for env_steps in (1000, 2000):
    runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
runs.on_trial_complete(**HOOK, trial=trial)
runs.finish_all()
"""
    process = in_a_process(script, tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL="http://127.0.0.1:9")
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("W&B cannot log online") == 1
    assert "what was logged so far is in" not in process.stderr
    found = by_seed(read(callback(tmp_path)))
    assert [steps(run) for run in found[3] + found[7]] == [[1000, 2000], [1000, 2000]]
