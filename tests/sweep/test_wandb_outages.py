"""What a W&B server has after it was unreachable, slow or gone for a while: every step of every seed once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb

from tests.sweep.wandb_server import Server, running_server
from tests.sweep.wandb_support import KEY, in_a_process, own_home, warnings_in  # noqa: F401
from tests.sweep.wandb_sweep import PlayedSweep, all_steps, offline
from vagram_ray.sweep.wandb import refill as wandb_refill
from vagram_ray.sweep.wandb import service as wandb_service
from vagram_ray.sweep.wandb import target as wandb_target
from vagram_ray.sweep.wandb.ledger import LEDGER_FILE

# Threads of wandb's that outlive its service process would print a traceback into the sweep's terminal.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
IMPORT = "from tests.sweep.wandb_sweep import PlayedSweep\n"


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def connect(
    own_home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], None]]:
    """Points W&B at a server, from the next run on."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_service, "TEARDOWN_S", 2.0)
    monkeypatch.setattr(wandb_refill, "ANSWER_WITHIN_S", 2.0)

    def to(url: str) -> None:
        wandb.teardown()  # it reads its settings once
        monkeypatch.setenv("WANDB_BASE_URL", url)

    yield to
    with contextlib.suppress(SystemExit):
        wandb.teardown()


@contextlib.contextmanager
def impatience() -> Iterator[None]:
    """W&B is waited for a few seconds only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wandb_target, "INIT_TIMEOUT_S", 4.0)
        yield


def check_whole(sweep: PlayedSweep, server: Server) -> None:
    assert server.steps() == [sweep.steps] * 4
    assert server.exits() == [0] * 4


def play_all(sweep: PlayedSweep, mode: str = "online") -> int:
    runs = sweep.callback(mode)
    for trial in sweep.trials:
        sweep.play(runs, trial, 1, sweep.epochs, complete=True)
    runs.on_experiment_end(trials=list(sweep.trials))
    return runs.refill()


def sync(folder: Path, server: Server) -> None:
    """Upload the offline runs as a user would."""
    folders = [str(path) for path in folder.glob("wandb/offline-run-*")]
    environ = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    synced = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *folders], cwd=folder, env={**environ, "WANDB_BASE_URL": server.url},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert synced.returncode == 0, synced.stdout + synced.stderr


def test_nothing_is_asked_when_nothing_is_lacking(
    tmp_path: Path, server: Server, connect: Callable[[str], None]
) -> None:
    connect(server.url)
    sweep = PlayedSweep(tmp_path)
    assert play_all(sweep) == 0
    check_whole(sweep, server)
    asked = server.num_requests
    assert sweep.callback("online").refill() == 0
    assert server.num_requests == asked
    (tmp_path / LEDGER_FILE).unlink()
    assert sweep.callback("online").refill() == 0
    assert server.num_requests > asked, "without the ledger nobody knows"
    check_whole(sweep, server)


def test_a_driver_that_is_killed_costs_the_server_no_row(
    tmp_path: Path, server: Server, connect: Callable[[str], None]
) -> None:
    connect(server.url)
    crash = """
sweep = PlayedSweep(directory)
runs = sweep.callback("online")
sweep.play(runs, sweep.trials[0], 1, 5, complete=True)
sweep.play(runs, sweep.trials[1], 1, 3)
assert runs._worker.drain(100)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_a_process(IMPORT + crash, tmp_path).returncode == -9
    assert sum(map(len, server.steps())) < 2 * 5 + 2 * 3, "the crash lost nothing: the test shows nothing"
    sweep = PlayedSweep(tmp_path, launch="cd456")
    assert sweep.callback("online").refill() == 0  # before the second trial goes on
    runs = sweep.callback("online")
    sweep.play(runs, sweep.trials[1], 3, 5, complete=True)
    assert runs.refill() == 0
    check_whole(sweep, server)


def test_a_server_that_is_not_there_gets_everything_later(
    tmp_path: Path, server: Server, connect: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    connect("http://127.0.0.1:9")
    sweep = PlayedSweep(tmp_path)
    with impatience():
        assert play_all(sweep) == 4
    cannot, lacks = warnings_in(caplog)
    assert "W&B cannot log online" in cannot
    assert "W&B lacks results of 4 runs (nothing can be logged online now)" in lacks
    found = offline(tmp_path)
    assert [all_steps(runs) for runs in found.values()] == [sweep.steps] * 4
    assert len(sweep.callback().offline_runs()) == 4 + 1

    connect(server.url)
    assert sweep.callback("online").refill() == 0
    check_whole(sweep, server)
    assert len(sweep.callback().offline_runs()) == 1  # of the sweep itself
    sync(tmp_path, server)
    check_whole(sweep, server)


def test_offline_runs_that_were_uploaded_go_on_online(
    tmp_path: Path, server: Server, connect: Callable[[str], None]
) -> None:
    connect(server.url)
    sweep = PlayedSweep(tmp_path)
    runs = sweep.callback("offline")
    for trial in sweep.trials:
        sweep.play(runs, trial, 1, 3)
    runs.finish_all()
    sync(tmp_path, server)
    assert server.steps() == [sweep.steps[:3]] * 4
    assert play_all(sweep) == 0
    sync(tmp_path, server)
    check_whole(sweep, server)


def test_a_server_that_goes_away_and_comes_back(
    tmp_path: Path, server: Server, connect: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    connect(server.url)
    sweep = PlayedSweep(tmp_path)
    first, second = sweep.trials
    runs = sweep.callback("online")
    sweep.play(runs, first, 1, 3)
    assert runs._worker.drain(100)
    server.down = True
    with impatience():
        sweep.play(runs, first, 4, 5, complete=True)
        sweep.play(runs, second, 1, 5, complete=True)
        runs.finish_all(timeout_s=4.0)
        assert runs.refill() == 4
    assert any(
        "W&B lacks results of 4 runs (nothing can be logged online now)" in warning for warning in warnings_in(caplog)
    )
    begun = {key for key, pieces in offline(tmp_path).items() if pieces}
    assert begun == {("model_loss=nll", 0), ("model_loss=nll", 1)}  # those that the server does not know

    for mode, lacking in (("offline", 2), ("online", 0)):  # what was begun online is left to the server
        server.down = mode == "offline"
        connect(server.url)
        assert sweep.callback(mode).refill() == lacking
    assert "W&B lacks results of 2 runs (they were begun online)" in warnings_in(caplog)[-1]
    sync(tmp_path, server)
    check_whole(sweep, server)


def test_a_trial_that_begins_while_the_server_is_away_is_handed_over_in_the_end(
    tmp_path: Path, server: Server, connect: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    connect(server.url)
    sweep = PlayedSweep(tmp_path)
    first, second = sweep.trials
    runs = sweep.callback("online")
    sweep.play(runs, first, 1, 2)
    assert runs._worker.drain(100)
    server.down = True
    with impatience():
        sweep.play(runs, second, 1, 3)
        assert runs._worker.drain(100)
    server.down = False
    sweep.play(runs, second, 4, 5, complete=True)
    sweep.play(runs, first, 3, 5, complete=True)
    runs.on_experiment_end(trials=list(sweep.trials))
    assert server.steps() == [sweep.steps] * 2
    assert runs.refill() == 0
    check_whole(sweep, server)
    (warning,) = warnings_in(caplog)
    assert "W&B does not answer" in warning
    assert offline(tmp_path) == {}


def test_a_server_that_is_slow_gets_every_row_once(
    tmp_path: Path, server: Server, connect: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    connect(server.url)
    server.delay_s = 0.3
    sweep = PlayedSweep(tmp_path)
    assert play_all(sweep) == 0
    check_whole(sweep, server)
    assert warnings_in(caplog) == []


def test_rows_that_the_server_refuses_are_handed_over_later(
    tmp_path: Path, server: Server, connect: Callable[[str], None]
) -> None:
    connect(server.url)
    server.refused = "file_stream"
    sweep = PlayedSweep(tmp_path)
    assert play_all(sweep) == 4  # wandb itself takes the runs for finished
    server.refused = ""
    assert sweep.callback("online").refill() == 0
    check_whole(sweep, server)


def test_a_run_that_was_deleted_stays_deleted_and_the_others_go_on(
    tmp_path: Path, server: Server, connect: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    connect(server.url)
    sweep = PlayedSweep(tmp_path)
    runs = sweep.callback("online")
    sweep.play(runs, sweep.trials[0], 1, 2)
    runs.finish_all()
    gone = next(iter(server.runs))
    server.deleted.add(gone)
    del server.runs[gone]
    for _ in range(2):
        with impatience():
            assert play_all(sweep) == 0
        assert server.steps() == [sweep.steps] * 3
    (warning,) = warnings_in(caplog)
    assert f"{gone}) was deleted there" in warning


def test_a_final_return_is_taken_back_when_the_sweep_gets_more_epochs(
    tmp_path: Path, server: Server, connect: Callable[[str], None]
) -> None:
    connect(server.url)
    assert play_all(PlayedSweep(tmp_path)) == 0
    finals = [run["summary"].get("eval/episode_return_final") for name, run in server.runs.items() if "seed" in name]
    assert finals == [5.0, 15.0, 105.0, 115.0]
    longer = PlayedSweep(tmp_path, epochs=8, launch="cd456")
    runs = longer.callback("online")
    longer.play(runs, longer.trials[0], 5, 6)
    runs.on_experiment_end(trials=list(longer.trials))  # interrupted
    assert runs.refill() == 0
    assert server.steps() == [longer.steps[:6]] * 2 + [longer.steps[:5]] * 2
    first, second, *_ = (run["summary"] for name, run in server.runs.items() if "seed" in name)
    for summary in (first, second):
        assert "eval/episode_return_final" not in summary
        assert summary["env_steps"] == 650


def test_a_service_process_that_is_killed_costs_the_server_no_row(
    tmp_path: Path, server: Server, connect: Callable[[str], None]
) -> None:
    connect(server.url)
    script = """
sweep = PlayedSweep(directory)
runs = sweep.callback("online")
sweep.play(runs, sweep.trials[0], 1, 3)
assert runs._worker.drain(100)
os.kill(service_pid(), signal.SIGKILL)
sweep.play(runs, sweep.trials[0], 4, 5, complete=True)
sweep.play(runs, sweep.trials[1], 1, 5, complete=True)
runs.on_experiment_end(trials=list(sweep.trials))
assert runs.refill() == 0
"""
    process = in_a_process(IMPORT + script, tmp_path)
    assert process.returncode == 0, process.stderr
    check_whole(PlayedSweep(tmp_path), server)
