"""Every example runs at its smallest size and prints what the documentation says it shows."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from pyarrow.fs import LocalFileSystem
from ray.rllib.core.columns import Columns

from vagram_ray.checkpoint import CheckpointFolder, write_checkpoint
from vagram_ray.core import model_losses
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs import terminations
from vagram_ray.rllib import MBPOConfig, MBPORLModule

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"

RunExample = Callable[..., str]


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunExample:
    """Runs an example as ``python examples/NAME`` does, in a folder of its own; returns what it printed."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *arguments])
        monkeypatch.setattr(model_losses, "_REGISTRY", dict(model_losses._REGISTRY))
        monkeypatch.setattr(terminations, "_BUILDERS", dict(terminations._BUILDERS))
        known = set(gymnasium.registry)
        threads = torch.get_num_threads()  # an algorithm sets them for its process
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
            for name_of_env in set(gymnasium.registry) - known:
                del gymnasium.registry[name_of_env]
        return capsys.readouterr().out

    return run


@pytest.fixture
def as_command(tmp_path: Path) -> RunExample:
    """Runs an example in a process of its own; returns what it printed."""

    def run(name: str, *arguments: str) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        finished = subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
        return finished.stdout

    return run


def load(name: str) -> dict[str, Any]:
    """What an example defines, without running it."""
    return runpy.run_path(str(EXAMPLES / name), run_name="an_import")


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)]


def test_an_agent_restored_from_its_checkpoint_trains_on_alike(
    in_process: RunExample, ray_session: None, tmp_path: Path
) -> None:
    output = in_process("train_one_agent.py", "--epochs", "1", "--checkpoint", "saved")
    lines = output.splitlines()
    assert [line.split("return")[0].split()[-1] for line in lines[:3]] == ["800", "1000", "1000"]
    assert numbers(lines[1]) == numbers(lines[2])
    assert lines[-1].endswith("the two returns differ by 0.")
    assert (tmp_path / "saved").is_dir()


def test_the_example_loss_is_swept_against_vagram(as_command: RunExample, tmp_path: Path) -> None:
    output = as_command("own_loss.py", "--name", "own", "--epochs", "1", "--set", "utd_ratio=1")
    assert "Complete: every seed of 2 cells came to its end (4 in all)." in output
    with (tmp_path / "results" / "own" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["model_loss"] for row in rows} == {"vagram_floor", "vagram"}
    losses = {row["model_loss"]: float(row["model/validation_loss"]) for row in rows}
    assert losses["vagram_floor"] != losses["vagram"]


def test_the_example_loss_lets_no_dimension_weigh_less_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_losses, "_REGISTRY", dict(model_losses._REGISTRY))
    loss = load("own_loss.py")["vagram_floor"]
    weight = torch.tensor([4.0, 0.0])  # mean 2: with a floor of a tenth the second dimension weighs 0.2
    shape = (1, 1, 1)
    prediction = model_losses.Prediction(torch.tensor([1.0, 3.0]).expand(*shape, 2), torch.full(shape, 2.0), None)
    target = model_losses.Target(
        obs=torch.zeros(*shape, 2), action=torch.zeros(*shape, 1), delta=torch.zeros(*shape, 2),
        reward=torch.zeros(shape), prepared={"weight": weight.expand(*shape, 2)},
        values=None, options={"floor": 0.1},  # type: ignore[arg-type]  # this loss evaluates no values
    )  # fmt: skip
    assert loss(prediction, target).item() == pytest.approx((4.0 * 1.0 + 0.2 * 9.0) / 2 + 4.0)


def test_the_example_environment_and_its_termination_function_agree(in_process: RunExample, ray_session: None) -> None:
    output = in_process("own_environment.py", "--epochs", "1")
    flights = re.search(r"random flights: (\d+) steps, (\d+) crashes, (\d+) disagreements", output)
    assert flights is not None
    steps, crashes, disagreements = map(int, flights.groups())
    assert steps == 2000
    assert crashes > 0
    assert disagreements == 0
    untrained, trained = (numbers(line)[0] for line in output.splitlines()[-2:])
    assert trained > untrained


def test_the_method_runs_without_ray_and_weighs_distractors_down(as_command: RunExample) -> None:
    output = as_command("core_without_ray.py", "--epochs", "1")
    assert output.rstrip().endswith("Ray was imported: False.")
    shares = {
        name: (float(mse), float(vagram))
        for name, mse, vagram in re.findall(r"^(\S+(?: \d)?) +([\d.]+)% +([\d.]+)%", output, flags=re.MULTILINE)
    }
    assert len(shares) == 8
    for column in (0, 1):
        assert sum(share[column] for share in shares.values()) == pytest.approx(100.0, abs=0.5)
    on_distractors = [sum(share[i] for name, share in shares.items() if "distractor" in name) for i in (0, 1)]
    assert on_distractors[0] > 80 > 50 > on_distractors[1]


def test_results_are_read_as_they_were_recorded(in_process: RunExample, tmp_path: Path) -> None:
    output = in_process("read_results.py", "--figure", "returns.png")
    # The final returns as the sweep's own summary had them.
    for line in ("vagram +8 +-191.3", "mse +8 +-1384.4", "nll +8 +-326.2", "none +8 +-215.5"):
        assert re.search(line, output), output
    assert (tmp_path / "returns.png").stat().st_size > 10_000


def test_a_folder_without_a_sweep_is_one_sentence(
    in_process: RunExample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        in_process("read_results.py", str(tmp_path))
    assert stop.value.code == 2
    assert "is not the folder of a sweep" in capsys.readouterr().err


def test_tune_searches_and_ranks(in_process: RunExample, ray_session: None) -> None:
    output = in_process("tune_directly.py", "--samples", "2", "--env-steps", "600")
    header, *rows = output.rstrip().splitlines()[-3:]
    assert header.split()[-2:] == ["env_steps", "eval/episode_return_iqm"]
    returns = [float(row.split()[-1]) for row in rows]
    assert len(returns) == 2
    assert returns == sorted(returns, reverse=True)
    assert {row.split()[-2] for row in rows} == {"600"}


def test_the_exported_policy_is_the_trained_one(in_process: RunExample, ray_session: None, tmp_path: Path) -> None:
    own = {"model_loss": "none", "actor_hidden_sizes": (16, 16), "normalize_observations": True, "seeds": (0, 1)}
    algo = MBPOConfig().environment("Pendulum-v1").training(**own).build_algo()
    algo.save_to_path(tmp_path / "results" / "train_one_agent")
    algo.stop()
    output = in_process("policy_for_deployment.py", "results/train_one_agent", "--seed", "1")
    assert "policy.npz: plain SAC on Pendulum-v1, seed 1, 0 steps," in output
    assert largest_difference(output) < 1e-5

    policy = load("policy_for_deployment.py")["load_policy"](tmp_path / "policy.npz")
    module = rllib_module().select_seed(1)
    obs = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    actions = policy(obs)
    expected = 2.0 * module.forward_inference({Columns.OBS: obs})[Columns.ACTIONS].numpy(force=True)
    np.testing.assert_allclose(actions, expected, atol=1e-5)  # 2 is Pendulum's torque
    np.testing.assert_allclose(policy(obs[0]), actions[0], rtol=1e-6)


def largest_difference(output: str) -> float:
    found = re.search(r"over 1000 observations: (\S+)", output)
    assert found is not None
    return float(found[1])


def test_without_a_checkpoint_the_policy_is_one_that_comes_with_the_repository(in_process: RunExample) -> None:
    output = in_process("policy_for_deployment.py")
    assert "policy.npz: vagram on Pendulum-v1, 10 distractors, seed 100, 3,000 steps," in output
    assert largest_difference(output) < 1e-5
    reached = re.search(r"ten episodes: mean return (\S+),", output)
    assert reached is not None and float(reached[1]) > -400, "an agent that has learned nothing has about -1,200"


def rllib_module() -> MBPORLModule:
    """The policies of ``results/train_one_agent`` by RLlib's own means, as docs/examples.md has them."""
    page = (ROOT / "docs" / "examples.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert Path("results/module/module_state.pkl").is_file()
    module: MBPORLModule = names["module"]
    return module


def test_an_exported_policy_observes_distractors_too(in_process: RunExample, tmp_path: Path) -> None:
    """A checkpoint that was written without Ray, which the example does not need to read it."""
    settings = MBPOSettings(actor_hidden_sizes=(8,), critic_hidden_sizes=(8,), model_loss="none")
    agent = MBPOAgent(settings, seeds=(4,), obs_dim=5, action_dim=1, termination=None)
    plain = {"env": "Pendulum-v1", "num_distractors": 2, "model_loss": "none", "actor_hidden_sizes": [8]}
    folder = CheckpointFolder(LocalFileSystem(), str(tmp_path / "saved"))
    config = {"algorithm": "MBPO", "seeds": [4], "settings": plain}
    write_checkpoint(folder, config, {"agent": agent.state_dict(with_transitions=False)}, agent.replay)
    output = in_process("policy_for_deployment.py", "saved", "--output", "own")
    assert "own.npz: plain SAC on Pendulum-v1, 2 distractors, seed 4, 0 steps," in output
    assert load("policy_for_deployment.py")["load_policy"](tmp_path / "own.npz")(np.zeros(5)).shape == (1,)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_whole_number_actions_have_equal_shares(dtype: type, tmp_path: Path) -> None:
    """Of -1 to 1, in quarters, each of 0 to 3 has one."""
    settings = MBPOSettings(actor_hidden_sizes=(8,), critic_hidden_sizes=(8,), model_loss="none")
    actor = MBPOAgent(settings, seeds=(0,), obs_dim=3, action_dim=1, termination=None).actor
    names = load("policy_for_deployment.py")
    names["export_policy"](actor, gymnasium.spaces.Box(0, 3, (1,), dtype), tmp_path / "own.npz")
    obs = 5.0 * np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    actions = names["load_policy"](tmp_path / "own.npz")(obs)
    means = actor.mean_action(torch.as_tensor(obs)[None])[0].numpy(force=True)
    assert actions.dtype == dtype and len(np.unique(actions)) > 1
    assert np.array_equal(actions, np.digitize(means, [-0.5, 0.0, 0.5]))


def test_a_folder_without_a_checkpoint_is_one_sentence(
    in_process: RunExample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        in_process("policy_for_deployment.py", str(tmp_path))
    assert stop.value.code == 2
    assert "holds no checkpoint; give the folder of a checkpoint" in capsys.readouterr().err


def test_every_example_has_a_test() -> None:
    tested = set(re.findall(r'"(\w+\.py)"', Path(__file__).read_text()))
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested


NOTEBOOK = EXAMPLES / "sweep_in_a_notebook.ipynb"


def test_the_notebook_holds_what_a_run_gave() -> None:
    """The file as it is in the repository: every cell ran, in order, and there are a table and two figures."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2 and "text/html" in kinds
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    assert "Complete: every seed of 3 cells came to its end (15 in all)." in printed


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for name in [name for name in os.environ if name.startswith(("RAY_", "WANDB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert len(list((tmp_path / "results" / "notebook" / "records").glob("*.jsonl"))) >= 3
    kinds = [kind for cell in notebook.cells for out in cell.get("outputs", ()) for kind in out.get("data", {})]
    assert kinds.count("image/png") == 2
