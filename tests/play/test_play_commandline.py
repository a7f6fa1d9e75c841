"""The command as a user types it."""

from __future__ import annotations

import ast
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from vagram_ray.play.checkpoint import policy, read_agent
from vagram_ray.play.commandline import main
from vagram_ray.play.comparison import play_alike

ROOT = Path(__file__).resolve().parents[2]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_help_lists_the_options_without_importing_torch() -> None:
    code = "import sys; from vagram_ray.play.commandline import main; print('torch' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert loaded.stdout.strip() == "False"
    text = invoke("--help").output
    for option in ("--cell", "--seed", "--episodes", "--video", "--model", "--horizon", "--output", "--extension"):
        assert option in text


def test_returns_per_episode_and_the_same_again(pendulum) -> None:
    result = invoke(pendulum.folder, "--seed", 5, "--episodes", 3)
    assert result.exit_code == 0, result.output
    assert "vagram on Pendulum-v1, 4 distractors, seed 5, 110 steps" in result.output
    rows = [line.split() for line in result.output.splitlines()]
    returns = [float(row[1].replace(",", "")) for row in rows if row[2:] == ["200", "time", "limit"]]
    (mean,) = [float(row[1].replace(",", "")) for row in rows if row[:1] == ["mean"]]
    assert len(set(returns)) == 3 and mean == pytest.approx(sum(returns) / 3, abs=0.1)
    assert invoke(pendulum.folder, "--seed", 5, "--episodes", 3).output == result.output
    assert invoke(pendulum.folder, "--seed", 3, "--episodes", 3).output != result.output


def test_several_checkpoints_in_one_table(pendulum, trial: Path, make_checkpoint) -> None:
    """Each row has the mean that the checkpoint alone gives with the same seed of the evaluation."""
    other = make_checkpoint(num_distractors=4, folder="other", utd_ratio=2).folder
    result = invoke(other, pendulum.folder, trial, "--episodes", 3, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert "Note" not in result.output
    text = " ".join(result.output.split())
    assert "3 episodes each" in text
    means = []
    for folder in (other, pendulum.folder, trial):
        alone = invoke(folder, "--episodes", 3, "--seed", 3).output
        means += [row[1] for line in alone.splitlines() if (row := line.split())[:1] == ["mean"]]
    assert means[1] == means[2] != means[0]
    rows = [line for line in result.output.splitlines() if " to " in line]
    assert [next(mean for mean in means if f" {mean} " in row) for row in rows] == means
    low, high = (float(part.replace(",", "")) for part in re.search(r"(-[\d.,]+) to (-[\d.,]+)", rows[0]).groups())
    assert low <= float(means[0].replace(",", "")) <= high


def test_all_policies_meet_the_same_episodes_with_their_own_distractors(pendulum) -> None:
    """Seed 5 in the episodes of seed 3, whose checkpoint comes first, by hand."""
    agents = [read_agent(pendulum.folder, seed) for seed in (3, 5)]
    first, second = play_alike(agents, 2)
    env = agents[1].environment.make(5)
    env.reset(seed=int(np.random.SeedSequence([3, 1]).generate_state(1)[0]))  # of evaluation, seed 3
    returns, act = [], policy(agents[1].actor())
    for _ in range(2):
        obs, ended = env.reset()[0], False
        returns.append(0.0)
        while not ended:
            obs, reward, _, ended, _ = env.step(2.0 * act(obs[None])[0])
            returns[-1] += float(reward)
    assert second.returns == pytest.approx(returns, rel=1e-4)
    assert first.interval[0] <= first.returns.mean() <= first.interval[1]


def test_other_environments_in_one_table_are_noted(pendulum, make_checkpoint) -> None:
    result = invoke(pendulum.folder, make_checkpoint(model_loss="none").folder, "--episodes", 1)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Note: the agents' environments differ")
    rows = [line.split() for line in result.output.splitlines() if line.split()[-2:] == ["200", "1"]]
    assert [row[-3] for row in rows] == ["-", "-"]  # of one episode there is no interval


def test_the_model_beside_the_environment(pendulum, tmp_path: Path) -> None:
    result = invoke(pendulum.folder, "--episodes", 2, "--model", "--horizon", 5, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "error, 5 steps" in result.output and "distractor 3" in result.output
    stem = tmp_path / "out" / "pendulum-v1-d4-vagram-seed3-110steps-model"
    with open(f"{stem}.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 * 5 and {row["name"] for row in rows} >= {"cos θ", "distractor 0", "reward"}
    assert Image.open(f"{stem}.png").size[0] > 1000
    for path in (f"{stem}.png", f"{stem}.csv"):
        assert Path(path).name in result.output


def test_a_video_and_its_contact_sheet(make_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="cartpole is drawn with pygame: pip install 'gymnasium[classic-control]'")
    for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.setenv(name, "dummy")
    saved = make_checkpoint("ContinuousCartPole-v0", model_loss="none")
    result = invoke(saved.folder, "--episodes", 1, "--video", tmp_path / "film.mp4")
    assert result.exit_code == 0, result.output
    assert "film.mp4" in result.output and "film.png" in result.output
    assert (tmp_path / "film.mp4").stat().st_size > 1000
    assert Image.open(tmp_path / "film.png").size[0] > 1000


def test_a_film_shows_the_episodes_that_are_played_without_one(
    normalized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pygame", reason="Pendulum is drawn with pygame: pip install 'gymnasium[classic-control]'")
    for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.setenv(name, "dummy")
    filmed, played = (
        [line.split() for line in invoke(normalized.folder, "--episodes", 1, *video).output.splitlines()]
        for video in (("--video", tmp_path / "film.mp4"), ())
    )
    assert [row for row in filmed if row[:1] == ["mean"]] == [row for row in played if row[:1] == ["mean"]] != []


def test_neither_ray_nor_wandb_is_needed(trial: Path, tmp_path: Path) -> None:
    """Everything but a film, with the newest checkpoint of a trial of which the newest one is damaged."""
    own = shutil.copytree(trial, tmp_path / "trial")
    (own / "checkpoint_000010" / "state.json").unlink()
    code = (
        "import sys; sys.modules['ray'] = sys.modules['wandb'] = None; "  # importing either would fail
        "from vagram_ray.play.commandline import main; main(prog_name='play')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(own), "--episodes", "1", "--model", "--output", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()[:2]
    assert first.startswith("Note: The checkpoint") and first.endswith("state.json is missing. It is passed over.")
    assert "checkpoint_000009: vagram on Pendulum-v1" in second
    assert done.stderr == ""


def test_extensions_are_run_where_the_user_names_them(make_checkpoint, rewrite_config, tmp_path: Path) -> None:
    """In processes of their own, as the losses are registered for a process."""
    (tmp_path / "my_cli_losses.py").write_text(
        "from vagram_ray.core.model_losses import register_model_loss, mse\n"
        "register_model_loss('my_cli_loss')(mse)\n"
    )  # fmt: skip
    folder = make_checkpoint(model_loss="mse").folder
    rewrite_config(folder, extensions=["my_cli_losses.py"], model_loss="my_cli_loss")

    def play(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vagram_ray.play", "checkpoint", "--episodes", "1", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    done = play()
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "add --extension my_cli_losses.py (in Python" in done.stderr
    (tmp_path / "my_cli_losses.py").rename(tmp_path / "sweep_file.py")
    done = play("--extension", "sweep_file.py")
    assert done.returncode == 0 and done.stdout.startswith("checkpoint: my_cli_loss on Pendulum-v1"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument 'CHECKPOINT...'"),
        (["nowhere"], "There is nothing at 'nowhere'"),
        (["{folder}", "--seed", "9"], "--seed 9 is not in"),
        (["{folder}", "--episodes", "0"], "0 is not in the range x>=1"),
        (["{folder}", "--sed", "9"], "No such option '--sed'. Did you mean '--seed'?"),
        (
            ["{folder}", "--extension", "nowhere.py"],
            "--extension 'nowhere.py': there is no such file; give the path of",
        ),
        (["{folder}", "--extension", "no.where"], "--extension 'no.where' cannot be imported (ModuleNotFoundError: No"),
        (["{folder}", "--cell", "a"], "--cell 'a' goes with a sweep"),
        (["{folder}", "--video", "film.gif"], "has to end with .mp4"),
        (["{folder}", "{folder}", "--model"], "--model goes with one checkpoint, and 2 are given"),
        (["{folder}", "nowhere"], "There is nothing at 'nowhere'"),
        (["{folder}", "--model", "--output", "{folder}/config.json"], "cannot be written (Not a directory)"),
    ],
)
def test_bad_input_is_one_sentence(pendulum, arguments: list[str], says: str) -> None:
    result = invoke(*(argument.format(folder=pendulum.folder) for argument in arguments))
    assert result.exit_code == 2
    assert says in result.output
    assert result.output.startswith("Error: ") and result.output.count("\n") == 1


def test_plain_sac_has_no_model_to_show(make_checkpoint) -> None:
    result = invoke(make_checkpoint(model_loss="none").folder, "--model", "--episodes", 1)
    assert result.exit_code == 2
    assert "plain SAC learns no model" in result.output and "episode" not in result.output


def test_the_example_of_the_documentation(pendulum, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "play.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    code = code.replace('"checkpoints/hopper", seed=2', f"{str(pendulum.folder)!r}, seed=3")
    exec(code, {})
    assert len(ast.literal_eval(capsys.readouterr().out)) == 5
