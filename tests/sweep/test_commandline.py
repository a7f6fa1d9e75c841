"""The command as a user types it: the plan, bad input, and small sweeps that really run."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.launches import begin_launch, end_launch
from vagram_ray.sweep.commandline import main
from vagram_ray.sweep.plan import probe
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.request import default_name
from vagram_ray.sweep.run import local_ray
from vagram_ray.sweep.run import run as run_module
from vagram_ray.sweep.spec import SweepError

SWEEP_FILE = """
from ray import tune
from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep import Scale, Sweep

config = (
    MBPOConfig()
    .environment("Pendulum-v1")
    .training(
        model_loss=tune.grid_search(["vagram", "nll"]),
        actor_hidden_sizes=(16, 16), critic_hidden_sizes=(16, 16), num_layers=1, hidden_size=8,
        ensemble_size=3, num_elites=2, model_max_epochs=2, epoch_length=50,
        num_steps_sampled_before_learning_starts=50, model_train_freq=25, rollouts_per_step=4, utd_ratio=1,
        train_batch_size_per_learner=32, extensions=["losses.py"],
    )
    .evaluation(evaluation_duration=1)
)
SWEEP = Sweep(name="small", config=config, seeds=4, epochs=9, scales={"smoke": Scale(epochs=2, seeds=2)})
"""
LOSSES = """
from vagram_ray.core.model_losses import register_model_loss

@register_model_loss("breaks")
def breaks(prediction, target):
    raise RuntimeError("this loss breaks")
"""


WANDB_VARIABLES = ("WANDB_MODE", "WANDB_DIR", "WANDB_SILENT", "WANDB_CONSOLE", "WANDB_ERROR_REPORTING")


@pytest.fixture
def sweep_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in WANDB_VARIABLES:
        monkeypatch.setenv(name, "")  # prepare_wandb sets them; monkeypatch takes them back
        monkeypatch.delenv(name)
    # What work costs is measured where the command is a process.
    monkeypatch.setattr(probe, "measure_costs", lambda machine, extensions, work, on_gpu: ([None] * len(work), ""))
    return write_files(tmp_path)


def write_files(folder: Path) -> Path:
    """The sweep file and its extension in a folder of their own."""
    (folder / "files").mkdir()
    (folder / "files" / "losses.py").write_text(LOSSES)
    file = folder / "files" / "small.py"
    file.write_text(SWEEP_FILE)
    return file


def invoke(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [str(file), "--wandb", "offline", *arguments])


def start(file: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process and a directory of its own."""
    repository = Path(__file__).resolve().parents[2]
    users = {"RAY_ADDRESS", "WANDB_API_KEY", *WANDB_VARIABLES}
    environment = {name: value for name, value in os.environ.items() if name not in users}
    return subprocess.Popen(
        [sys.executable, "-m", "vagram_ray.sweep", str(file), *arguments],
        cwd=file.parent.parent,
        env={**environment, "PYTHONPATH": str(repository), "WANDB_MODE": "offline", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = start(file, *arguments)
    stdout, stderr = process.communicate(timeout=400)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def test_help_lists_the_options_without_importing_ray() -> None:
    code = (
        "import sys; from vagram_ray.sweep.commandline import main; print('ray' in sys.modules, 'torch' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert loaded.stdout.strip() == "False False"
    text = CliRunner().invoke(main, ["--help"]).output
    for option in ("--scale", "--seeds", "--set", "--name", "--storage", "--address", "--max-concurrent", "--wandb"):
        assert option in text


def test_a_dry_run_prints_the_plan_and_leaves_nothing(sweep_file: Path) -> None:
    storage = sweep_file.parent / "results"
    result = invoke(sweep_file, "--dry-run", "--scale", "smoke", "--storage", str(storage), "--set", "utd_ratio=2",
                    "--set", "num_distractors=grid(0,5)", "--seeds", "3,7")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "small at scale smoke: 4 cells x 2 seeds x 2 epochs" in result.output
    assert "num_distractors=5, model_loss=nll" in result.output
    assert "3,7" in result.output
    assert not storage.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "model_loss=vagarm"], "model_loss='vagarm' is not registered"),
        (["--set", "num_distractors=-1"], "num_distractors=-1"),
        (["--set", "rollouts_per_step=-3"], "rollouts_per_step=-3"),
        (["--set", "env=CartPole-v1"], "must be continuous"),
        (["--set", "env=Hopper-v2"], "Hopper-v4"),
        (["--set", "num_elites=9"], "num_elites=9"),
        (["--set", "hiden_size=3"], "did you mean hidden_size"),
        (["--set", "env_config=5"], "env_config=5 is not usable: it needs a dictionary"),
        (["--set", "env_config={max_episode_steps:50}"], "it needs a dictionary such as {'name': 1}"),
        (["--set", "evaluation_config=5"], "evaluation_config=5 is not usable"),
        (["--set", "model_loss=[1,2]"], "model_loss=[1, 2] is not usable: model_loss needs a text"),
        (["--set", "num_cpus_per_learner=-1"], "num_cpus_per_learner=-1 is not usable"),
        (["--set", "num_cpus_per_learner=abc"], "num_cpus_per_learner='abc' is not usable"),
        (["--set", "utd_ratio"], "key=value"),
        (["--seeds", "0"], "--seeds '0'"),
        (["--seeds-per-trial", "0"], "--seeds-per-trial"),
        (["--scale", "huge"], "no scale 'huge'"),
        (["--storage", "/dev/null/x"], "cannot be written"),
        (["--storage", "nothing://x"], "'nothing://x' cannot be used"),
        (["--name", "a/b"], "--name='a/b'"),
        (["--address", "127.0.0.1:1"], "no Ray at --address '127.0.0.1:1'"),
        (["--wandb", "maybe"], "--wandb"),
        (["--unknown"], "--unknown"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(sweep_file: Path, arguments: list[str], says: str) -> None:
    storage = sweep_file.parent / "results"
    result = invoke(sweep_file, "--scale", "smoke", "--storage", str(storage), *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not storage.exists()


def test_a_folder_of_something_else_is_refused(sweep_file: Path, tmp_path: Path) -> None:
    (tmp_path / "results" / "taken").mkdir(parents=True)
    (tmp_path / "results" / "taken" / "thesis.tex").write_text("")
    result = invoke(sweep_file, "--scale", "smoke", "--storage", str(tmp_path / "results"), "--name", "taken")
    assert result.exit_code == 2
    assert "give another --name" in result.stderr
    assert [entry.name for entry in (tmp_path / "results" / "taken").iterdir()] == ["thesis.tex"]


def test_the_same_command_has_the_same_folder() -> None:
    assert default_name("distractors", "laptop") == "distractors-laptop"
    assert default_name("distractors", "") == "distractors"


@pytest.fixture
def recorded(sweep_file: Path, monkeypatch: pytest.MonkeyPatch, make_result: Callable[..., dict[str, Any]]) -> Path:
    """A sweep that has come to its end without being run: its plan and made-up records."""

    def play(continuation: Any, storage: Any, *others: Any) -> Any:
        folder, content = SweepFolder(storage.folder), plan_content(continuation.plan)
        details = {"command": "python -m x --restart"}
        begin_launch(folder, content, continuation.sweep_id, details, recorded=continuation.recorded)
        for trial in continuation.todo:
            for epoch in range(1, continuation.plan.epochs + 1):
                SweepFolder(storage.folder).append(trial.name, make_result(epoch, dict.fromkeys(trial.seeds, 1.0)))
        end_launch(SweepFolder(storage.folder), 60.0, "complete", {})
        return run_module.Outcome(60.0, {}, False, ())

    monkeypatch.chdir(sweep_file.parent)
    monkeypatch.setattr(local_ray, "connect_to_ray", lambda *args: None)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "run_sweep", play)
        assert invoke(sweep_file, "--scale", "smoke", "--wandb", "disabled").exit_code == 0
    return sweep_file.parent / "results" / "small-smoke"


def test_nothing_is_run_when_nothing_is_left(recorded: Path, sweep_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_ray, "connect_to_ray", lambda *args: pytest.fail("Ray was started"))
    result = invoke(sweep_file, "--scale", "smoke", "--wandb", "disabled")
    assert result.exit_code == 0, result.output
    assert "Every trial has come to its end: nothing is left to run." in result.output
    assert "Complete: every seed of 2 cells came to its end (4 in all)." in result.output
    assert "Wall time: 60 s\n" in result.output
    assert len(json.loads((recorded / "sweep.json").read_text())["launches"]) == 1
    (recorded / "records" / "model_loss=nll,seeds=0-1.jsonl").unlink()  # as if it had failed; now there is work
    with pytest.raises(pytest.fail.Exception, match="Ray was started"):
        main.main([str(sweep_file), "--scale", "smoke", "--wandb", "disabled"], standalone_mode=False)


def test_a_dry_run_shows_what_would_go_on_and_changes_nothing(recorded: Path, sweep_file: Path) -> None:
    before = {file: file.read_bytes() for file in recorded.rglob("*") if file.is_file()}
    arguments = ["--scale", "smoke", "--wandb", "disabled", "--dry-run"]
    grown = invoke(sweep_file, *arguments, "--seeds", "3", "--set", "model_loss=grid(vagram,nll,mse)")
    assert grown.exit_code == 0, grown.output
    for part in ("1 finished, 1 new", "2 finished, 4 new", "seed 2 joined", "1 cell joined: model_loss=mse"):
        assert part in grown.output
    refused = invoke(sweep_file, *arguments, "--set", "utd_ratio=3", "--epochs", "1")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "Error: The sweep in results/small-smoke was started with other settings:\n"
        "  epochs: 2 -> 1\n"
        "  utd_ratio: 1 -> 3\n"
        "Ask for those again, start anew with --restart (what is there is kept under another name) or give another "
        "--name.\n"
    )
    restarted = invoke(sweep_file, *arguments, "--set", "utd_ratio=3", "--restart")
    assert restarted.exit_code == 0
    assert "would be kept as small-smoke-until-" in restarted.output
    assert {file: file.read_bytes() for file in recorded.rglob("*") if file.is_file()} == before
    assert [entry.name for entry in recorded.parent.iterdir()] == ["small-smoke"]


def test_a_restart_that_is_refused_leaves_the_sweep_where_it_is(
    recorded: Path, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise SweepError("Ray cannot be started.")

    monkeypatch.setattr(local_ray, "connect_to_ray", refuse)
    refused = invoke(sweep_file, "--scale", "smoke", "--wandb", "disabled", "--restart")
    assert (refused.exit_code, refused.stderr) == (2, "Error: Ray cannot be started.\n")
    assert [entry.name for entry in recorded.parent.iterdir()] == ["small-smoke"]
    assert json.loads((recorded / "sweep.json").read_text())["launches"][-1]["ended"] == "complete"


def test_a_sweep_goes_on_from_its_own_copy_of_the_file(
    recorded: Path, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module._Run, "fit", lambda self, loggers: True)
    sweep_file.write_text(SWEEP_FILE.replace('extensions=["losses.py"],', ""))  # which lies beside the file
    arguments = ["--scale", "smoke", "--wandb", "disabled", "--name", "own"]
    folder, text = recorded.parent / "own", sweep_file.read_text()

    def launches() -> list[dict[str, Any]]:
        return list(json.loads((folder / "sweep.json").read_text())["launches"])

    assert invoke(sweep_file, *arguments).exit_code == 1  # no trial has run
    sweep_file.unlink()
    for more in ((), ("--restart",)):
        done = invoke(folder / "sweep_file.py", *arguments, *more)
        assert done.exit_code == 1, done.output
        assert (folder / "sweep_file.py").read_text() == text
        assert [launch["ended"] for launch in launches()] == ["incomplete"] * (1 if more else 2)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "write_atomically", full)
    refused = invoke(folder / "sweep_file.py", *arguments)
    assert refused.exit_code == 2 and "No space left" in refused.stderr
    assert len(launches()) == 1  # and none without an end


def test_a_missing_file_is_one_sentence_in_a_real_process(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    done = run(tmp_path / "here" / "missing.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: There is no sweep file at")
    assert len(done.stderr.splitlines()) == 1


COMMON = ("--scale", "smoke", "--seeds-per-trial", "1", "--set", "model_loss=vagram")
CELLS = ("--set", "num_distractors=grid(0,3)")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep that ran at once: its folder, and what became of the command."""
    file = write_files(tmp_path_factory.mktemp("whole"))
    done = run(file, *COMMON, *CELLS, "--name", "run")
    return file.parent.parent / "results" / "run", done


def test_a_small_sweep_runs_to_its_end(whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, done = whole
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Complete: every seed of 2 cells came to its end (4 in all)." in done.stdout
    rows = list(csv.DictReader((folder / "results.csv").open()))
    found = {(row["num_distractors"], row["seed"], row["training_iteration"], row["env_steps"]) for row in rows}
    expected = {(d, s, e, str(50 + 50 * int(e))) for d in ("0", "3") for s in ("0", "1") for e in ("1", "2")}
    assert found == expected
    assert len(rows) == 8
    assert all(-2000 < float(row["eval/episode_return"]) < 0 for row in rows)
    # The final return of two epochs is that of the second.
    summary = list(csv.DictReader((folder / "summary.csv").open()))
    for row in summary:
        distractors = row["cell"].removeprefix("num_distractors=")
        last = [r for r in rows if (r["num_distractors"], r["training_iteration"]) == (distractors, "2")]
        mean = sum(float(r["eval/episode_return"]) for r in last) / 2
        assert float(row["mean"]) == pytest.approx(mean)
        assert (row["num_seeds"], row["num_planned"]) == ("2", "2")
    info = json.loads((folder / "sweep.json").read_text())
    assert info["overrides"] == {"model_loss": "vagram", "num_distractors": {"grid_search": [0, 3]}}
    assert "--seeds-per-trial 1" in info["command"]
    assert info["wall_time_s"] > 0
    trials = sorted(folder.glob("num_distractors=*,seeds=*"))
    assert [trial.name for trial in trials] == [f"num_distractors={d},seeds={s}" for d in (0, 3) for s in (0, 1)]
    assert all([folder.name for folder in trial.glob("checkpoint_*")] == ["checkpoint_000002"] for trial in trials)
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 5  # one per seed, and the sweep's own
    assert (folder / "sweep_file.py").read_text() == SWEEP_FILE


def test_a_sweep_goes_on_without_a_trial_that_fails(sweep_file: Path) -> None:
    done = run(sweep_file, "--scale", "smoke", "--name", "run", "--wandb", "disabled", "--seeds", "1",
               "--set", "model_loss=grid(breaks,mse)")  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "NOT COMPLETE: 1 of 2 seeds" in done.stdout
    assert "model_loss=breaks: seed 0 never reported" in done.stdout
    assert "The trial model_loss=breaks,seeds=0 failed (RuntimeError: this loss breaks):" in done.stdout
    folder = sweep_file.parent.parent / "results" / "run"
    assert "this loss breaks" in (folder / "model_loss=breaks,seeds=0" / "error.txt").read_text()
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert [(row["model_loss"], row["training_iteration"]) for row in rows] == [("mse", "1"), ("mse", "2")]
    assert not (folder / "wandb").exists()


def test_an_interrupted_sweep_stops_in_order(sweep_file: Path) -> None:
    process = start(sweep_file, "--scale", "smoke", "--epochs", "100000", "--name", "run", "--wandb", "disabled",
                    "--set", "model_loss=none", "--seeds", "1")  # fmt: skip
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "epoch 1/100000" in line:
            break
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, "".join(seen) + stdout + stderr
    assert "Traceback" not in stderr
    assert "Ctrl-C received: stopping the trials" in stdout
    assert "NOT COMPLETE: 0 of 1 seeds" in stdout
    assert "The sweep was interrupted. Run the same command again to go on:\n  python -m vagram_ray.sweep " in stdout
    folder = sweep_file.parent.parent / "results" / "run"
    assert json.loads((folder / "sweep.json").read_text())["interrupted"] is True
    assert (folder / "summary.csv").is_file()


def test_the_same_command_goes_on(sweep_file: Path, whole: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """More epochs and cells join what is there; the results are those of a sweep that ran at once."""
    common = (*COMMON, "--wandb", "disabled", "--seeds", "1")
    first = run(sweep_file, *common, "--epochs", "1", "--set", "num_distractors=3")
    assert first.returncode == 0, first.stdout + first.stderr
    again = run(sweep_file, *common, *CELLS)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 going on, 1 new" in again.stdout
    results = sweep_file.parent.parent / "results"
    assert [folder.name for folder in results.iterdir()] == ["small-smoke"]
    joined, at_once = outcomes(results / "small-smoke"), outcomes(whole[0])
    # The cell that was there first was the only one: it is named after its environment, and keeps that name.
    names = {"num_distractors=3": "Pendulum-v1"}
    expected = {(names.get(cell, cell), *rest): row for (cell, *rest), row in at_once.items()}
    assert joined == {key: row for key, row in expected.items() if key[1] == "0"}  # each seed was a trial of its own
    assert len(joined) == 2 * 2
    info = json.loads((results / "small-smoke" / "sweep.json").read_text())
    assert [trial["name"] for trial in info["trials"]] == ["Pendulum-v1,seeds=0", "num_distractors=0,seeds=0"]
    assert [launch["ended"] for launch in info["launches"]] == ["complete", "complete"]
    assert info["wall_time_s"] == pytest.approx(sum(launch["wall_time_s"] for launch in info["launches"]), abs=0.11)


def outcomes(folder: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Every row of ``results.csv`` by cell, seed and epoch, without times."""
    rows = csv.DictReader((folder / "results.csv").open())
    return {
        (row["cell"], row["seed"], row["training_iteration"]): {
            key: value
            for key, value in row.items()
            if key not in ("cell", "num_distractors") and not key.startswith(("time", "perf"))
        }
        for row in rows
    }


def test_a_ray_that_does_not_start_in_time_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from vagram_ray.sweep.plan.machine import Machine
    from vagram_ray.sweep.run.local_ray import connect_to_ray
    from vagram_ray.sweep.spec import SweepError

    def fails(*args: Any, **kwargs: Any) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray 2.60 does on a busy machine

    for name in (
        "RAY_USAGE_STATS_ENABLED",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
        "RAY_gcs_rpc_server_reconnect_timeout_s",
    ):
        monkeypatch.setenv(name, "0")  # connect_to_ray leaves them as they are
    monkeypatch.setattr(ray, "init", fails)
    with pytest.raises(SweepError, match=r"cannot be started on this machine .*timed out during startup"):
        connect_to_ray(None, Machine(1, 0, None, "a machine"))
