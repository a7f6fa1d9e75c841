"""W&B logging of a sweep, with the real wandb: offline files read back record by record, and a small local server.

Whatever the user's own login is, it plays no part: HOME and NETRC point into the test's folder.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, cast

import cloudpickle
import numpy as np
import pytest
import wandb

from vagram_ray.sweep import wandb_logging
from vagram_ray.sweep.wandb_logging import WandbSeedRuns, default_cell_name, prepare_wandb
from vagram_ray.sweep.wandb_reader import OfflineRun, WandbFileError, read_offline_run
from vagram_ray.sweep.wandb_runs import SeedRun, flatten, jsonable

KEY = "0123456789" * 4
HOOK: dict[str, Any] = {"iteration": 0, "trials": []}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No key, no settings and no W&B variable of the user's."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    # prepare_wandb sets these; naming them here has monkeypatch take them back afterwards.
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_CONSOLE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return home


@pytest.fixture(scope="module", autouse=True)
def wandb_service() -> Iterator[None]:
    """One service process of wandb for all tests here, ended with them."""
    yield
    wandb.teardown()


@dataclass
class Trial:
    """What the callback reads of Tune's ``Trial``."""

    trial_id: str = "ab123_00000"
    config: dict[str, Any] = field(
        default_factory=lambda: {
            "env": "Hopper-v4",
            "num_distractors": 10,
            "model_loss": "vagram",
            "num_layers": 4,
            "hidden_size": 200,
            "seeds": (3, 7),
            "gamma": 0.99,
            "nested": {"lr": 1e-3, "sizes": (64, 64)},
            "callbacks_class": dict,
            "infinite": math.inf,
        }
    )


def result(env_steps: int, **changes: Any) -> dict[str, Any]:
    """A result of two seeds whose returns are ``env_steps`` + seed; ``changes`` go into seed 3's evaluation."""
    seeds = {
        f"seed_{seed}": {"eval": {"episode_return": float(env_steps + seed)}, "sac": {"alpha": 0.1}, "failed": 0}
        for seed in (3, 7)
    }
    seeds["seed_3"]["eval"] |= changes  # type: ignore[operator]
    return {
        "env_steps": env_steps,
        "training_iteration": env_steps // 1000,
        "seeds": seeds,
        "time": {"epoch_s": 1.5},
        "perf": {"env_steps_per_s": np.float32(2.0)},
        "eval": {"episode_return": -1.0},
        "config": {"not": "logged"},
    }


def callback(directory: Path, **changes: Any) -> WandbSeedRuns:
    return WandbSeedRuns(**{"project": "p", "sweep_name": "distractors", "directory": directory, **changes})


def read(runs: WandbSeedRuns) -> list[OfflineRun]:
    return [read_offline_run(folder) for folder in runs.offline_runs()]


def steps(run: OfflineRun) -> list[int]:
    return [row["env_steps"] for row in run.history]


def by_seed(runs: list[OfflineRun]) -> dict[int, list[OfflineRun]]:
    return {seed: [run for run in runs if run.config["seed"] == seed] for seed in (3, 7)}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        entry.getMessage()
        for entry in caplog.records
        if entry.levelno >= logging.WARNING and entry.name.startswith("vagram_ray")
    ]


def test_each_seed_of_a_trial_is_one_run(tmp_path: Path) -> None:
    runs = callback(tmp_path, tags=("paper", "distractors"))
    trial = Trial()
    runs.on_trial_start(**HOOK, trial=trial)
    runs.on_trial_result(**HOOK, trial=trial, result=result(1000))
    runs.on_trial_result(
        **HOOK, trial=trial, result=result(2000, episode_return=math.nan, episode_length=np.float64(9))
    )
    runs.on_trial_result(**HOOK, trial=trial, result=result(3000, episode_return=5.0))
    runs.on_trial_complete(**HOOK, trial=trial)
    runs.on_experiment_end(trials=[trial])

    found = by_seed(read(runs))
    assert [len(found[3]), len(found[7])] == [1, 1]
    run = found[3][0]
    assert (run.project, run.group) == ("p", "Hopper-v4, 10 distractors, vagram, 4 x 200")
    assert run.name == "Hopper-v4, 10 distractors, vagram, 4 x 200 seed 3"
    assert run.tags == ("distractors", "paper")
    assert run.step_metrics == {"env_steps": "", "*": "env_steps"}
    assert run.exit_code == 0
    assert run.config == {
        "env": "Hopper-v4",
        "num_distractors": 10,
        "model_loss": "vagram",
        "num_layers": 4,
        "hidden_size": 200,
        "seeds": [3, 7],
        "gamma": 0.99,
        "nested": {"lr": 1e-3, "sizes": [64, 64]},
        "callbacks_class": "builtins.dict",
        "infinite": "inf",
        "seed": 3,
        "cell": "Hopper-v4, 10 distractors, vagram, 4 x 200",
        "sweep": "distractors",
        "trial_id": "ab123_00000",
    }
    shared = {"sac/alpha": 0.1, "failed": 0, "time/epoch_s": 1.5, "perf/env_steps_per_s": 2.0}
    rows = [{key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")} for row in run.history]
    expected = [{"eval/episode_return": 1003.0}, {"eval/episode_length": 9.0}, {"eval/episode_return": 5.0}]
    for number, own in enumerate(expected, start=1):
        position = {"_step": 1000 * number, "env_steps": 1000 * number, "training_iteration": number}
        assert rows[number - 1] == {**shared, **position, **own}
    assert run.summary["eval/episode_return"] == 5.0
    assert run.summary["eval/episode_return_best"] == 1003.0
    assert run.summary["eval/episode_return_best_env_steps"] == 1000
    assert [row["eval/episode_return"] for row in found[7][0].history] == [1007.0, 2007.0, 3007.0]


def test_results_delivered_again_are_logged_once(tmp_path: Path) -> None:
    runs = callback(tmp_path)
    trial = Trial()
    for env_steps in (1000, 2000, 3000):
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    runs.on_trial_recover(**HOOK, trial=cast(Any, trial))
    runs.on_trial_start(**HOOK, trial=trial)
    for env_steps in (2000, 3000, 3000, 4000):
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps, episode_return=-1.0))
    runs.on_trial_complete(**HOOK, trial=trial)
    runs.finish_all()
    found = by_seed(read(runs))
    assert [len(found[3]), len(found[7])] == [1, 1]
    assert [row["eval/episode_return"] for row in found[3][0].history] == [1003.0, 2003.0, 3003.0, -1.0]
    assert steps(found[7][0]) == [1000, 2000, 3000, 4000]


def test_a_restored_driver_continues_the_same_runs(tmp_path: Path) -> None:
    first = callback(tmp_path, cell_of=lambda config: f"cell {config['env']}")
    trial = Trial()
    for env_steps in (1000, 2000):
        first.on_trial_result(**HOOK, trial=trial, result=result(env_steps, episode_return=8000.0 - env_steps))
    pickled = cloudpickle.dumps(first)  # as Tune does, with runs that are live
    state = first.get_state()
    first.finish_all()
    restored = cloudpickle.loads(pickled)
    for values in state["progress"].values():
        values["env_steps"] = 9000  # the state says more than the files hold: the files are right
    restored.set_state(state)
    assert restored.offline_runs() == first.offline_runs()
    for env_steps in (1000, 2000, 3000):
        restored.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    restored.on_trial_complete(**HOOK, trial=trial)
    restored.finish_all()

    before, after = by_seed(read(restored))[3]
    assert before.run_id == after.run_id
    assert before.group == after.group == "cell Hopper-v4"
    assert (steps(before), before.exit_code) == ([1000, 2000], 130)
    assert (steps(after), after.exit_code) == ([3000], 0)
    assert after.summary["eval/episode_return"] == 3003.0


def test_state_alone_continues_where_the_files_are_elsewhere(tmp_path: Path) -> None:
    first, elsewhere = callback(tmp_path / "a"), callback(tmp_path / "b")
    trial = Trial()
    first.on_trial_result(**HOOK, trial=trial, result=result(1000, episode_return=9000.0))
    first.finish_all()
    elsewhere.set_state(first.get_state())
    for env_steps in (1000, 2000):
        elsewhere.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    elsewhere.on_trial_complete(**HOOK, trial=trial)
    elsewhere.finish_all()
    run = by_seed(read(elsewhere))[3][0]
    assert steps(run) == [2000]
    assert run.summary["eval/episode_return_best"] == 9000.0


def test_runs_of_two_launches_and_of_two_trials_are_apart(tmp_path: Path) -> None:
    runs = callback(tmp_path)
    trials = [Trial("ab123_00000"), Trial("ab123_00001"), Trial("cd456_00000")]
    for trial in trials:
        runs.on_trial_result(**HOOK, trial=trial, result=result(1000))
        runs.on_trial_complete(**HOOK, trial=trial)
    runs.finish_all()
    found = read(runs)
    assert len({run.run_id for run in found}) == 6
    assert callback(tmp_path, sweep_name="another").offline_runs() == []


def test_failed_trials_and_failed_seeds_end_as_failed_runs(tmp_path: Path) -> None:
    runs = callback(tmp_path)
    errored, nan_seed = Trial("ab123_00000"), Trial("ab123_00001")
    runs.on_trial_result(**HOOK, trial=errored, result=result(1000))
    runs.on_trial_error(**HOOK, trial=errored)
    with_failure = result(1000)
    with_failure["seeds"]["seed_3"]["failed"] = 1
    runs.on_trial_result(**HOOK, trial=nan_seed, result=with_failure)
    runs.on_trial_complete(**HOOK, trial=nan_seed)
    runs.finish_all()
    codes = {(run.config["trial_id"], run.config["seed"]): run.exit_code for run in read(runs)}
    assert codes == {
        ("ab123_00000", 3): 1,
        ("ab123_00000", 7): 1,
        ("ab123_00001", 3): 1,
        ("ab123_00001", 7): 0,
    }


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
    assert "W&B logging is off for the rest of this sweep (Connection lost)" in warnings_in(caplog)[0]


def test_a_call_that_never_returns_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forever = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **kwargs: forever.wait(60))
    monkeypatch.setattr(wandb_logging, "_STUCK_AFTER_S", 0.2)
    runs = callback(tmp_path)
    begin = time.monotonic()
    runs.on_trial_start(**HOOK, trial=Trial())
    time.sleep(0.5)
    for env_steps in (1000, 2000):
        runs.on_trial_result(**HOOK, trial=Trial(), result=result(env_steps))
    runs.finish_all()
    seconds = time.monotonic() - begin
    forever.set()
    assert seconds < 15
    assert len(warnings_in(caplog)) == 1
    assert "(wandb has not answered for 0.2 s)" in warnings_in(caplog)[0]


def test_finish_all_waits_while_runs_keep_finishing_and_gives_up_when_none_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finished: list[int] = []
    forever = threading.Event()

    def slow_finish(run: SeedRun, *args: Any) -> None:
        if run.seed == 99:
            forever.wait(60)
        time.sleep(0.2)
        finished.append(run.seed)

    monkeypatch.setattr(SeedRun, "open", lambda run, *args: None)
    monkeypatch.setattr(SeedRun, "finish", slow_finish)
    runs, trial = callback(tmp_path), Trial()
    trial.config = {**trial.config, "seeds": tuple(range(8))}
    runs.on_trial_start(**HOOK, trial=trial)
    runs.finish_all(timeout_s=0.8)  # 8 times 0.2 s in all
    assert finished == list(range(8))
    assert not warnings_in(caplog)

    stuck = Trial("ab123_00001", {**trial.config, "seeds": (8, 99, 10)})
    runs.on_trial_start(**HOOK, trial=stuck)
    begin = time.monotonic()
    runs.finish_all(timeout_s=0.8)
    assert 0.9 < time.monotonic() - begin < 10
    forever.set()
    assert finished[8] == 8
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


def service_pid() -> int:
    """Process id of this process's wandb service."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone meanwhile
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
            if name == "wandb-core" and int(rest.split()[1]) == os.getpid():
                return int(stat.parent.name)
    raise LookupError("no wandb service process")


class Ended(NamedTuple):
    """How a process ended."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float


def in_a_process(script: str, directory: Path, **env: str) -> Ended:
    """Run ``script`` after this module's imports in a process of its own."""
    head = (
        "import signal\n"
        "from tests.sweep.test_wandb_logging import *\n"
        "from vagram_ray.sweep import wandb_runs\n"
        f"directory = Path({str(directory)!r})\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    start = time.monotonic()
    # Files, not pipes: a stopped service process would hold a pipe open.
    with open(directory / "out", "w+") as out, open(directory / "err", "w+") as err:
        code = subprocess.run(
            [sys.executable, "-c", head + script],
            env={**environ, **env},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=50,
        ).returncode
    seconds = time.monotonic() - start
    return Ended(code, (directory / "out").read_text(), (directory / "err").read_text(), seconds)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the service process in /proc")
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGSTOP"])
def test_a_dead_or_hanging_service_process_holds_nobody(signal_name: str, tmp_path: Path) -> None:
    script = f"""
wandb_logging._TEARDOWN_S = 1.0
runs, trial = callback(directory), Trial()
runs.on_trial_result(**HOOK, trial=trial, result=result(1000))
assert runs._worker.drain(30)
pid = service_pid()
os.kill(pid, signal.{signal_name})
begin = time.monotonic()
for env_steps in range(2000, 50_000, 1000):
    runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
runs.on_trial_complete(**HOOK, trial=trial)
assert time.monotonic() - begin < 2, "the driver waited"
runs.finish_all(timeout_s=2)
runs.finish_all(timeout_s=2)
assert time.monotonic() - begin < 15, "finish_all waited too long"
print(pid, flush=True)
"""
    process = in_a_process(script, tmp_path)
    if process.stdout and signal_name == "SIGSTOP":
        os.kill(int(process.stdout), 9)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    assert process.stderr.count("W&B logging is off for the rest of this sweep") == 1
    assert process.seconds < 30


def test_online_without_an_answer_becomes_offline(tmp_path: Path) -> None:
    script = """
wandb_runs.INIT_TIMEOUT_S = 1.0
runs, trial = callback(directory, mode="online"), Trial()
for env_steps in (1000, 2000):
    runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
runs.on_trial_complete(**HOOK, trial=trial)
runs.finish_all()
"""
    process = in_a_process(script, tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL="http://127.0.0.1:9")
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("W&B cannot log online") == 1
    assert "rest of this sweep" not in process.stderr
    found = by_seed(read(callback(tmp_path)))
    assert [steps(run) for run in found[3] + found[7]] == [[1000, 2000], [1000, 2000]]


class Server(ThreadingHTTPServer):
    """As much of a W&B server as logging needs: it keeps the rows and the exit code of each run."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[str, dict[str, Any]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that wandb resets at its end are no news."""

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        name, project = variables.get("name") or "", {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
        if "upsertBucket" in query:
            new = name not in self.runs
            run = self.runs.setdefault(name, {"rows": [], "exit": None})
            run["group"] = variables.get("groupName") or run.get("group")
            bucket = {"id": name, "name": name, "displayName": name, "config": "{}", "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": len(run["rows"])}, "inserted": new}}
        if "createRunFiles" in query:
            files = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in variables["files"]]
            return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}
        if "historyTail" in query:
            known = self.runs.get(name)
            rows = known["rows"] if known else []
            counts = {"logLineCount": 0, "historyLineCount": len(rows), "eventsLineCount": 0}
            tails = {"historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]), "eventsTail": "[]"}
            texts = {"summaryMetrics": json.dumps(rows[-1] if rows else {}), "config": "{}", "wandbConfig": '{"t": 1}'}
            bucket = {"id": name, "name": name, "displayName": name, "tags": [], **counts, **tails, **texts}
            return {"model": {**project, "bucket": bucket if known else None}}
        return {}

    def stream(self, run_id: str, message: dict[str, Any]) -> None:
        run = self.runs[run_id]
        history = (message.get("files") or {}).get("wandb-history.jsonl")
        if history:
            rows = [json.loads(line) for line in history["content"]]
            run["rows"][history["offset"] : history["offset"] + len(rows)] = rows
        if message.get("complete") is not None:
            run["exit"] = message.get("exitcode")


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path.endswith("/graphql"):
            request = json.loads(body)
            answer = {"data": self.server.graphql(request["query"], request.get("variables") or {})}
        elif match := re.search(r"/([^/]+)/file_stream$", self.path):
            self.server.stream(match.group(1), json.loads(body))
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_POST  # noqa: N815
    do_GET = do_POST  # noqa: N815


def test_online_runs_are_resumed_and_sent_once(tmp_path: Path) -> None:
    script = """
trial, state = Trial(), {"progress": {}}
for all_steps in ((1000, 2000), (1000, 2000, 3000)):
    runs = callback(directory, mode="online")
    for values in state["progress"].values():
        values["env_steps"] = 9000  # the state says more than the server has: the server is right
    runs.set_state(state)
    for env_steps in all_steps:
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    runs.on_trial_complete(**HOOK, trial=trial)
    runs.finish_all()
    state = runs.get_state()
"""
    server = Server()
    process = in_a_process(script, tmp_path, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    server.shutdown()
    assert process.returncode == 0, process.stderr
    assert "W&B" not in process.stderr
    assert len(server.runs) == 2
    for run in server.runs.values():
        assert [row["env_steps"] for row in run["rows"]] == [1000, 2000, 3000]
        assert run["exit"] == 0


def test_auto_is_online_with_a_key_and_offline_without(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def auto() -> str:
        monkeypatch.delenv("WANDB_MODE", raising=False)
        return prepare_wandb("auto", tmp_path)

    assert auto() == "offline"
    assert os.environ["WANDB_MODE"] == "offline"
    assert os.environ["WANDB_DIR"] == str(tmp_path)
    assert os.environ["WANDB_CONSOLE"] == "off"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert auto() == "online"
    assert os.environ["WANDB_MODE"] == "online"
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    assert auto() == "offline"
    monkeypatch.delenv("WANDB_API_KEY")
    (own_home / ".netrc").write_text(f"machine wandb.example.org\n  login user\n  password {KEY}\n")
    assert auto() == "offline"  # a key for another server
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert auto() == "online"


def test_auto_follows_wandb_mode(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for asked, expected in (("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled"), ("run", "online")):
        monkeypatch.setenv("WANDB_MODE", asked)
        assert prepare_wandb("auto", tmp_path) == expected
    monkeypatch.delenv("WANDB_API_KEY")
    assert not warnings_in(caplog)
    monkeypatch.setenv("WANDB_MODE", "online")
    assert prepare_wandb("auto", tmp_path) == "offline"
    assert "WANDB_MODE asks for online, but there is no API key for" in warnings_in(caplog)[0]
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(ValueError, match="WANDB_MODE='ofline' is not a W&B mode"):
        prepare_wandb("auto", tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    settings = own_home / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nmode = disabled\n")  # what `wandb disabled` leaves
    assert prepare_wandb("auto", tmp_path) == "disabled"


def test_online_without_a_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"no API key for https://.* Run `wandb login` first, or use --wandb offline\."
    ):
        prepare_wandb("online", tmp_path)
    assert "WANDB_MODE" not in os.environ
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    with pytest.raises(ValueError, match=r"is malformed: .* Run `wandb login` first, or use --wandb offline") as error:
        prepare_wandb("online", tmp_path)
    assert "too-short" not in str(error.value)
    with pytest.raises(ValueError, match="'onlin' is not known: use one of online, offline, disabled, auto"):
        prepare_wandb("onlin", tmp_path)
    with pytest.raises(ValueError, match="'auto' must be online, offline or disabled"):
        callback(tmp_path, mode="auto")


def test_values_as_wandb_takes_them() -> None:
    nested = {"a": {"b": 1, "c": {"d": np.float32(0.5)}}, "nan": math.nan, "text": "x", "none": None, "yes": True}
    assert flatten(nested) == {"a/b": 1, "a/c/d": 0.5, "yes": 1}
    assert jsonable({1: (np.int64(2), Path("x")), "f": default_cell_name}) == {
        "1": [2, "x"],
        "f": "vagram_ray.sweep.wandb_logging.default_cell_name",
    }


def test_reader_takes_records_over_many_blocks_and_stops_before_a_cut(tmp_path: Path) -> None:
    text = "x" * 100_000  # three blocks of 32 KiB
    runs, trial = callback(tmp_path), Trial()
    trial.config = {**trial.config, "text": text, "seeds": 3}
    for env_steps in (1000, 2000):
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    runs.finish_all()
    (folder,) = runs.offline_runs()
    whole = read_offline_run(folder)
    assert whole.config["text"] == text
    assert steps(whole) == [1000, 2000]
    (file,) = folder.glob("*.wandb")
    file.write_bytes(file.read_bytes()[:-3])
    assert read_offline_run(file).exit_code is None
    assert steps(read_offline_run(file)) == [1000, 2000]

    (tmp_path / "empty").mkdir()
    with pytest.raises(WandbFileError, match=r"holds no \.wandb file"):
        read_offline_run(tmp_path / "empty")
    file.write_bytes(b"something else")
    with pytest.raises(WandbFileError, match=r"is not a \.wandb file"):
        read_offline_run(file)
