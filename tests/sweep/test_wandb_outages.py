"""What a W&B server has after it was unreachable, slow or gone for a while: every step of every seed once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sweep.wandb_server import Server, running_server
from tests.sweep.wandb_support import KEY, in_a_process, own_home, warnings_in  # noqa: F401
from tests.sweep.wandb_sweep import PlayedSweep, all_steps, offline, processes, wait_for
from vagram_ray.sweep.wandb import supervisor
from vagram_ray.sweep.wandb.cursor import CURSOR_FILE
from vagram_ray.sweep.wandb.offline import offline_runs

pytestmark = pytest.mark.ci

IMPATIENT = """
from vagram_ray.sweep.wandb import runs
runs.CALL_LIMIT_S = 4.0
from vagram_ray.sweep.wandb.child import main
main()
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def connect(
    own_home: Path,  # noqa: F811
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], None]:
    """Points W&B at a server, from the next process on; W&B is waited for a few seconds only."""

    def to(url: str) -> None:
        monkeypatch.setenv("WANDB_BASE_URL", url)

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(supervisor, "CHILD", [sys.executable, "-c", IMPATIENT])
    to(server.url)
    return to


def check_whole(sweep: PlayedSweep, server: Server) -> None:
    assert server.steps() == [sweep.steps] * 4
    assert server.exits() == [0] * 4


def sync(folder: Path, server: Server) -> None:
    """Upload the offline runs as a user would."""
    folders = [str(path) for path in folder.glob("wandb/offline-run-*")]
    synced = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *folders], cwd=folder,
        env={**os.environ, "WANDB_BASE_URL": server.url}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert synced.returncode == 0, synced.stdout + synced.stderr


def test_a_server_gets_every_row_once_and_is_asked_no_more_than_needed(tmp_path: Path, server: Server) -> None:
    sweep = PlayedSweep(tmp_path)
    follower = sweep.follow("online")
    sweep.play(sweep.trials[0], 1, 3)
    wait_for(lambda: len(server.runs) == 2)
    server.delay_s = 0.3
    sweep.play(sweep.trials[0], 2, 5)
    sweep.play(sweep.trials[1], 1, 5)
    assert follower.finish() == 0
    check_whole(sweep, server)
    asked = server.num_requests
    assert sweep.catch_up("online") == 0
    assert server.num_requests == asked
    (tmp_path / CURSOR_FILE).unlink()
    assert sweep.catch_up("online") == 0
    assert server.num_requests > asked, "without the cursor nobody knows"
    check_whole(sweep, server)


def test_a_final_return_is_taken_back_when_the_sweep_gets_more_epochs(tmp_path: Path, server: Server) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play_all()
    assert sweep.catch_up("online") == 0
    finals = [run["summary"].get("eval/episode_return_final") for name, run in server.runs.items() if "seed" in name]
    assert finals == [5.0, 15.0, 105.0, 115.0]
    longer = PlayedSweep(tmp_path, epochs=8, settings={"gamma": 0.5})
    longer.play(longer.trials[0], 5, 6)
    assert longer.catch_up("online") == 0
    assert server.steps() == [longer.steps[:6]] * 2 + [longer.steps[:5]] * 2
    first, second, *_ = (run for name, run in server.runs.items() if "seed" in name)
    for run in (first, second):
        assert "eval/episode_return_final" not in run["summary"]
        assert run["summary"]["env_steps"] == 650
        assert run["config"]["gamma"]["value"] == 0.5


@pytest.mark.parametrize("victim", ["vagram_ray.sweep.wandb", "wandb-core", "driver"])
def test_a_process_that_is_killed_costs_the_server_no_row(victim: str, tmp_path: Path, server: Server) -> None:
    if victim == "driver":
        crash = """
sweep = PlayedSweep(directory)
follower = sweep.follow("online")
sweep.play(sweep.trials[0], 1, 3)
wait_for(lambda: (directory / "wandb_logged.json").exists())
os.kill(os.getpid(), signal.SIGKILL)
"""
        assert in_a_process(crash, tmp_path).returncode == -9
        sweep = PlayedSweep(tmp_path)
        follower = sweep.follow("online")
    else:
        sweep = PlayedSweep(tmp_path)
        follower = sweep.follow("online")
        sweep.play(sweep.trials[0], 1, 3)
        wait_for(lambda: len(server.runs) == 2)
        for pid in processes(os.getpid(), victim)[:1]:
            os.kill(pid, 9)
    sweep.play(sweep.trials[0], 3, 5)
    sweep.play(sweep.trials[1], 1, 5)
    assert follower.finish() == 0
    check_whole(sweep, server)


def test_a_server_that_is_not_there_gets_everything_later(
    tmp_path: Path, server: Server, connect: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    connect("http://127.0.0.1:9")
    sweep = PlayedSweep(tmp_path)
    sweep.play_all()
    assert sweep.catch_up("online") == 4
    (lacks,) = warnings_in(caplog)
    assert "W&B lacks results of 4 runs (the server does not answer within 10 s)" in lacks
    found = offline(tmp_path)
    assert [all_steps(runs) for runs in found.values()] == [sweep.steps] * 4
    assert len(offline_runs(tmp_path, "f00d")) == 4 + 1


def test_offline_runs_go_on_online_whether_they_were_uploaded_or_not(
    tmp_path: Path, server: Server, connect: Callable[[str], None]
) -> None:
    connect("http://127.0.0.1:9")
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 3)
    assert sweep.catch_up("offline") == 0
    sync(tmp_path, server)
    assert server.steps() == [sweep.steps[:3]] * 2
    sweep.play(sweep.trials[0], 4, 5)
    assert sweep.catch_up("offline") == 0
    sweep.play(sweep.trials[1], 1, 5)
    connect(server.url)
    assert sweep.catch_up("online") == 0
    check_whole(sweep, server)
    sync(tmp_path, server)
    check_whole(sweep, server)


def test_offline_runs_of_launches_that_were_killed_are_uploaded_once(
    tmp_path: Path, server: Server, connect: Callable[[str], None]
) -> None:
    crash = """
sweep = PlayedSweep(directory)
follower = sweep.follow()
sweep.play(sweep.trials[0], 1, 5)
sweep.play(sweep.trials[1], 1, 3)
wait_for(lambda: len(offline(directory)) == 2)
for pid in processes(os.getpid(), "vagram_ray.sweep.wandb"):
    os.kill(pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_a_process(crash, tmp_path).returncode == -9
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[1], 3, 5)
    assert sweep.catch_up() == 0
    for _ in range(2):  # what is synced already is left alone
        sync(tmp_path, server)
        check_whole(sweep, server)


def test_a_server_that_goes_away_gets_the_rest_when_it_is_back(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = PlayedSweep(tmp_path)
    first, second = sweep.trials
    follower = sweep.follow("online")
    sweep.play(first, 1, 3)
    wait_for(lambda: len(server.runs) == 2)
    server.down = True
    sweep.play(first, 4, 5)
    sweep.play(second, 1, 5)
    wait_for(lambda: any("W&B logging is tried again" in warning for warning in warnings_in(caplog)))
    assert follower.finish() == 4
    assert "W&B lacks results of 4 runs (the server does not answer within 10 s)" in warnings_in(caplog)[-1]
    begun = {key for key, pieces in offline(tmp_path).items() if pieces}
    assert begun == {("model_loss=nll", 0), ("model_loss=nll", 1)}  # those that the server does not know

    assert sweep.catch_up("offline") == 2  # what was begun online is left to the server
    assert "W&B lacks results of 2 runs (they were begun online)" in warnings_in(caplog)[-1]
    server.down = False
    assert sweep.catch_up("online") == 0
    check_whole(sweep, server)
    sync(tmp_path, server)
    check_whole(sweep, server)


def test_a_server_that_comes_back_while_the_sweep_runs_gets_all_of_it(tmp_path: Path, server: Server) -> None:
    sweep = PlayedSweep(tmp_path)
    first, second = sweep.trials
    follower = sweep.follow("online")
    sweep.play(first, 1, 2)
    wait_for(lambda: len(server.runs) == 2)
    server.down = True
    sweep.play(second, 1, 3)
    sweep.play(first, 3, 5)
    wait_for(lambda: follower._told)
    server.down = False
    wait_for(lambda: server.steps() == [sweep.steps] * 2 + [sweep.steps[:3]] * 2)
    sweep.play(second, 4, 5)
    assert follower.finish() == 0
    check_whole(sweep, server)
    assert offline(tmp_path) == {}


def test_rows_that_the_server_refuses_are_handed_over_later(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused = "file_stream"
    sweep = PlayedSweep(tmp_path)
    sweep.play_all()
    assert sweep.catch_up("online") == 4  # wandb itself takes the runs for finished
    assert "W&B lacks results of 4 runs (it did not take them)" in warnings_in(caplog)[-1]
    server.refused = ""
    assert sweep.catch_up("online") == 0
    check_whole(sweep, server)


def test_a_run_that_was_deleted_is_told_and_the_others_go_on(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 2)
    assert sweep.catch_up("online") == 0
    gone = next(iter(server.runs))
    server.deleted.add(gone)
    del server.runs[gone]
    sweep.play(sweep.trials[0], 3, 5)
    sweep.play(sweep.trials[1], 1, 5)
    for _ in range(2):
        assert sweep.catch_up("online") == 1
        assert server.steps() == [sweep.steps] * 3
    refused, lacks, *_ = warnings_in(caplog)
    assert f"run {gone} was previously created and deleted" in refused
    assert "W&B lacks results of 1 run (" in lacks


def test_a_run_that_was_deleted_before_this_machine_logged_it_stops_nothing(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The other runs and the sweep's own are logged. No run is opened under an id that wandb's process still holds."""
    sweep = PlayedSweep(tmp_path)
    sweep.play_all()
    assert sweep.catch_up("online") == 0
    gone = next(run for run in server.runs if "seed0" in run)
    server.deleted.add(gone)
    server.runs.clear()
    (tmp_path / CURSOR_FILE).unlink()
    assert sweep.catch_up("online") == 1
    assert server.steps() == [sweep.steps] * 3
    assert sum("cells/" in "".join(run["summary"]) for run in server.runs.values()) == 1  # the sweep's own
    refused, lacks = warnings_in(caplog)
    assert f"run {gone} was previously created and deleted" in refused and "W&B lacks results of 1 run (" in lacks


def test_the_sweeps_run_takes_back_what_holds_no_more(tmp_path: Path, server: Server) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play_all()
    assert sweep.catch_up("online") == 0

    def finals() -> list[str]:
        (own,) = (run["summary"] for run in server.runs.values() if "complete" in run["summary"])
        return [key for key in own if key.endswith("/final_iqm")]

    assert len(finals()) == 2
    longer = PlayedSweep(tmp_path, epochs=8)
    longer.play(longer.trials[0], 6, 6)
    longer.catch_up("online")
    assert finals() == []  # neither has come to its new end
