"""What is read from a checkpoint is what was saved, and nothing in it is executed."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import cloudpickle

from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.envs import SeedVectorEnv
from vagram_ray.play.checkpoint import AGENT_FILE, CONFIG_FILE, policy, read_agent
from vagram_ray.play.episodes import play_episodes
from vagram_ray.play.errors import PlayError
from vagram_ray.play.inert_pickle import Inert, is_plain, load_plain_values


@pytest.mark.parametrize("position", [0, 1])
def test_the_networks_are_those_of_the_seed(pendulum, position: int) -> None:
    agent, seed = pendulum.agent, pendulum.config.seeds[position]
    saved = read_agent(pendulum.folder, seed)
    assert asdict(saved.settings) == asdict(pendulum.config.to_settings())
    assert (saved.seed, saved.env_steps) == (seed, 110)
    obs = torch.randn(2, 9, 7)
    torch.testing.assert_close(saved.actor().mean_action(obs[[position]]), agent.actor.mean_action(obs)[[position]])

    estimates = ValueEstimates(agent.sac, agent.settings.value_gradient_clip_percentile)
    torch.testing.assert_close(saved.values().values(obs[[position]]), estimates.values(obs)[[position]])
    gradients, thresholds = saved.values().clipped_gradients(obs[[position]])
    expected, expected_thresholds = estimates.clipped_gradients(obs)
    torch.testing.assert_close(gradients, expected[[position]])
    torch.testing.assert_close(thresholds, expected_thresholds[[position]])

    model_obs, action = torch.randn(2, 2, 9, 7), torch.rand(2, 2, 9, 1)
    dynamics, whole = saved.dynamics(), agent.dynamics
    prediction = dynamics.predict_with(dynamics.elite_networks(), model_obs[[position]], action[[position]])
    cohort = whole.predict_with(whole.elite_networks(), model_obs, action)
    torch.testing.assert_close(prediction.delta, cohort.delta[[position]])
    torch.testing.assert_close(prediction.reward, cohort.reward[[position]])


def test_the_first_seed_is_the_default(pendulum) -> None:
    saved = read_agent(pendulum.folder)
    assert saved.seed == 3
    assert saved.title == "vagram on Pendulum-v1, 4 distractors, seed 3, 110 steps"
    assert saved.stem == "pendulum-v1-d4-vagram-seed3-110steps"


def test_the_environment_is_that_of_the_evaluation(make_checkpoint, pendulum) -> None:
    saved = make_checkpoint()
    config = saved.config.copy(copy_frozen=False).environment(env_config={"g": 9.0})
    config = config.evaluation(evaluation_config={"env_config": {"max_episode_steps": 30}})
    with (saved.folder / CONFIG_FILE).open("wb") as file:
        cloudpickle.dump({"class": None, "ctor_args_and_kwargs": ((config.get_state(),), {})}, file)
    environment = read_agent(saved.folder).environment
    assert environment == config.get_evaluation_config_object().environment_spec()
    assert environment.env_kwargs == {"g": 9.0, "max_episode_steps": 30}
    with_distractors = read_agent(pendulum.folder).environment
    assert (with_distractors.num_distractors, with_distractors.distractor_process) == (4, "paper")


def test_nothing_of_a_checkpoint_is_executed_and_ray_stays_out(pendulum, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(pendulum.folder, folder)
    trace = tmp_path / "trace"

    class Touch:
        def __reduce__(self):
            return (os.system, (f"touch {trace}",))

    class Local:  # of this function: its pickle holds its code
        touched = Touch()

    state = {**pendulum.config.get_state(), "callbacks_class": Touch(), "worker_cls": Local}
    with (folder / CONFIG_FILE).open("wb") as file:
        cloudpickle.dump({"class": Local, "ctor_args_and_kwargs": ((state,), {})}, file)
    code = (
        "import sys; from vagram_ray.play.checkpoint import read_agent; "
        f"print(read_agent({str(folder)!r}).title, 'ray' in sys.modules)"
    )
    repository = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "vagram on Pendulum-v1, 4 distractors, seed 3, 110 steps False", done.stderr
    assert not trace.exists()
    with (folder / CONFIG_FILE).open("rb") as file:
        cloudpickle.load(file)
    assert trace.exists()  # so the ordinary way would have


def test_plain_values_survive(tmp_path: Path) -> None:
    values = {"a": [1, 2.5, None, True], "b": ({"c", "d"}, np.arange(3.0), np.float32(2.0)), "e": 3 + 4j}
    (tmp_path / "file.pkl").write_bytes(pickle.dumps({**values, "path": Path("x"), "kind": Path}))
    loaded = load_plain_values(tmp_path / "file.pkl")
    assert loaded["a"] == values["a"] and loaded["e"] == values["e"]
    assert loaded["b"][0] == {"c", "d"} and loaded["b"][2] == 2.0
    np.testing.assert_array_equal(loaded["b"][1], np.arange(3.0))
    assert isinstance(loaded["path"], Inert) and issubclass(loaded["kind"], Inert)
    assert is_plain(loaded["b"]) and not is_plain(loaded) and not is_plain([{"x": (loaded["kind"],)}])


def test_an_algorithms_own_checkpoint_plays_what_its_evaluation_played(ray_session, pendulum, tmp_path: Path) -> None:
    config = pendulum.config.copy(copy_frozen=False).training(seeds=(4,))
    algo = config.evaluation(evaluation_interval=None, evaluation_duration=3).build_algo()
    try:
        algo.train()
        folder = algo.save_to_path(tmp_path / "saved")
        evaluated = algo.evaluate()["seeds"]["seed_4"]["eval"]  # the first episodes of the evaluation's stream
    finally:
        algo.stop()
    saved = read_agent(folder)
    assert asdict(saved.settings) == asdict(config.to_settings())
    episodes = play_episodes(policy(saved.actor()), SeedVectorEnv(saved.environment, (4,), evaluation=True), 3)
    assert np.mean([episode.episode_return for episode in episodes]) == pytest.approx(evaluated["episode_return"], 1e-9)
    assert np.mean([len(episode) for episode in episodes]) == evaluated["episode_length"]


def test_extensions_are_loaded_also_from_here(make_checkpoint, tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "my_play_losses.py"
    file.write_text(
        "from vagram_ray.core.model_losses import register_model_loss, mse\n"
        "register_model_loss('my_play_loss')(mse)\n"
    )  # fmt: skip
    saved = make_checkpoint(extensions=[str(file)], model_loss="my_play_loss")
    from vagram_ray.core import model_losses

    monkeypatch.setattr(model_losses, "_REGISTRY", dict(model_losses._REGISTRY))
    del model_losses._REGISTRY["my_play_loss"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file.rename(elsewhere / file.name)
    with pytest.raises(PlayError, match=r"extension .*my_play_losses.py.*start in a folder that holds"):
        read_agent(saved.folder)
    monkeypatch.chdir(elsewhere)
    assert read_agent(saved.folder).settings.model_loss == "my_play_loss"


# -- what cannot be read ---------------------------------------------------------------------------------------


@pytest.fixture
def copied(pendulum, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pendulum.folder, tmp_path / "copy"))


def rewrite_config(folder: Path, config, **changes) -> None:
    with (folder / CONFIG_FILE).open("wb") as file:
        state = {**config.get_state(), **changes}
        cloudpickle.dump({"class": None, "ctor_args_and_kwargs": ((state,), {})}, file)


def test_a_seed_that_is_not_there(pendulum) -> None:
    with pytest.raises(PlayError, match=r"--seed 4 is not in .*; its seeds are 3, 5\."):
        read_agent(pendulum.folder, 4)


def test_a_seed_that_has_failed(copied: Path) -> None:
    state = torch.load(copied / AGENT_FILE, weights_only=True)
    torch.save({**state, "failed": [False, True]}, copied / AGENT_FILE)
    assert read_agent(copied, 3).seed == 3
    with pytest.raises(PlayError, match=r"Seed 5 of .* has failed .*another --seed of 3, 5"):
        read_agent(copied, 5)


def test_an_unfinished_agent_file(copied: Path) -> None:
    content = (copied / AGENT_FILE).read_bytes()
    (copied / AGENT_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(PlayError, match=r"agent_state.pt' cannot be read \(.*it may not be complete"):
        read_agent(copied)


def test_an_unfinished_configuration(copied: Path) -> None:
    content = (copied / CONFIG_FILE).read_bytes()
    (copied / CONFIG_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(PlayError, match=r"configuration of the checkpoint cannot be read .*it may not be complete"):
        read_agent(copied)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"actor_hidden_sizes": (16, 17)}, "policy"),
        ({"critic_hidden_sizes": (16, 17)}, "critics"),
        ({"hidden_size": 17}, "model"),
    ],
)
def test_networks_of_another_shape(pendulum, copied: Path, changes: dict, part: str) -> None:
    rewrite_config(copied, pendulum.config, **changes)
    saved = read_agent(copied)
    with pytest.raises(PlayError, match=rf"The {part} saved in .* does not fit its configuration"):
        {"policy": saved.actor, "critics": saved.values, "model": saved.dynamics}[part]()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"env": "Nowhere-v0"}, "'Nowhere-v0' is not registered"),
        ({"env": Path}, "only Gymnasium ids can be made again"),
        ({"env_config": {"path": Path("x")}}, "holds objects"),
        ({"model_loss": "vagarm"}, "model_loss='vagarm' is not registered"),
        ({"distractor_process": "papers"}, "distractor_process='papers' is unknown"),
    ],
)
def test_a_configuration_that_cannot_work(pendulum, copied: Path, changes: dict, says: str) -> None:
    rewrite_config(copied, pendulum.config, **changes)
    with pytest.raises(PlayError, match="cannot be played") as caught:
        read_agent(copied).actor()
    assert says in str(caught.value)


def test_plain_sac_has_no_model(make_checkpoint) -> None:
    saved = read_agent(make_checkpoint(model_loss="none").folder)
    assert saved.title.startswith("plain SAC on Pendulum-v1, seed 3")
    with pytest.raises(PlayError, match="plain SAC learns no model; leave --model away"):
        saved.dynamics()


def test_the_agents_file_is_where_the_learner_puts_it() -> None:
    from vagram_ray.rllib.learner import AGENT, AgentCheckpoint

    assert AGENT_FILE.parts[-2:] == (AGENT, AgentCheckpoint.FILE_NAME)
