"""What is read from a checkpoint is what was saved, and nothing that it names is executed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from vagram_ray.commands import InputError
from vagram_ray.core import model_losses
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.play.checkpoint import policy, read_agent
from vagram_ray.play.configuration import OBJECT, read_configuration
from vagram_ray.play.episodes import play_episodes


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


def test_the_environment_is_that_of_the_evaluation(make_checkpoint, save_checkpoint, pendulum) -> None:
    saved = make_checkpoint()
    config = saved.config.copy(copy_frozen=False).environment(env_config={"g": 9.0})
    config = config.evaluation(evaluation_config={"env_config": {"max_episode_steps": 30}})
    save_checkpoint(saved.folder, config, saved.agent)
    environment = read_agent(saved.folder).environment
    assert environment == config.get_evaluation_config_object().environment_spec()
    assert environment.env_kwargs == {"g": 9.0, "max_episode_steps": 30}
    earlier = {"env": "Pendulum-v1", "num_distractors": 4, "distractor_process": "paper"}  # knew no readings of eq. 18
    assert read_configuration(saved.folder, earlier)[1] == EnvironmentSpec("Pendulum-v1", 4, "drift")
    today = {**earlier, "distractor_scale": "variance", "distractor_reset": "vector"}
    spec = EnvironmentSpec("Pendulum-v1", 4, distractor_scale="variance", distractor_reset="vector")
    assert read_configuration(saved.folder, today)[1] == spec
    with_distractors = read_agent(pendulum.folder).environment
    assert (with_distractors.num_distractors, with_distractors.distractor_process) == (4, "paper")


def test_no_buffer_is_read_and_ray_stays_out(pendulum, trial: Path, tmp_path: Path) -> None:
    lean = shutil.copytree(trial / "checkpoint_000010", tmp_path / "lean")  # without the replay buffer beside it
    (lean / "imagined.safetensors").unlink()
    code = (
        "import sys; sys.modules['ray'] = sys.modules['wandb'] = None; "  # importing either would fail
        "from vagram_ray.play.checkpoint import read_agent; "
        f"agent = read_agent({str(lean)!r}); agent.actor(), agent.dynamics(), agent.values(); print(agent.title)"
    )
    repository = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "vagram on Pendulum-v1, 4 distractors, seed 3, 110 steps", done.stderr


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


# -- extensions ------------------------------------------------------------------------------------------------


@pytest.fixture
def own_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """``tmp_path/my_play_losses.py``, registers ``my_play_loss``; forgotten when called, and at the end."""
    (tmp_path / "my_play_losses.py").write_text(
        "from vagram_ray.core.model_losses import register_model_loss, mse\n"
        "register_model_loss('my_play_loss')(mse)\n"
    )  # fmt: skip
    before = dict(model_losses._REGISTRY)
    monkeypatch.setattr(model_losses, "_REGISTRY", dict(before))

    def forget() -> None:
        model_losses._REGISTRY.pop("my_play_loss", None)
        for name, module in list(sys.modules.items()):
            if os.path.basename(getattr(module, "__file__", None) or "") == "my_play_losses.py":
                del sys.modules[name]

    yield forget
    forget()


def test_an_extension_is_not_executed_because_a_checkpoint_names_it(
    make_checkpoint, own_loss, tmp_path: Path, monkeypatch
) -> None:
    from vagram_ray.rllib import load_extensions

    file = tmp_path / "my_play_losses.py"
    saved = make_checkpoint(extensions=[str(file)], model_loss="my_play_loss")
    assert read_agent(saved.folder).settings.model_loss == "my_play_loss"
    own_loss()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        read_agent(saved.folder)
    assert "was trained with model_loss='my_play_loss', which is not registered here" in str(caught.value)
    assert "add --extension my_play_losses.py (in Python" in str(caught.value)
    assert "my_play_loss" not in model_losses.model_loss_names()  # though the file lies here
    load_extensions("my_play_losses.py")
    assert read_agent(saved.folder).settings.model_loss == "my_play_loss"


def test_an_environments_module_is_not_imported_because_a_checkpoint_names_it(
    copied: Path, rewrite_config, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_play_envs.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "gymnasium.register('MyPlay-v0', PendulumEnv)\n"
    )  # fmt: skip
    rewrite_config(copied, env="my_play_envs:MyPlay-v0")
    with pytest.raises(InputError, match=r"which is not registered here, .*: add --extension my_play_envs \(in Python"):
        read_agent(copied)
    assert "my_play_envs" not in sys.modules and "MyPlay-v0" not in gymnasium.registry
    try:
        __import__("my_play_envs")
        assert read_agent(copied).dimensions == (7, 1)
    finally:
        sys.modules.pop("my_play_envs", None)
        gymnasium.registry.pop("MyPlay-v0", None)


# -- what cannot be read ---------------------------------------------------------------------------------------


@pytest.fixture
def copied(pendulum, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pendulum.folder, tmp_path / "copy"))


def test_a_seed_that_is_not_there(pendulum) -> None:
    with pytest.raises(InputError, match=r"--seed 4 is not in .*; its seeds are 3, 5\."):
        read_agent(pendulum.folder, 4)


def test_a_seed_that_has_failed(copied: Path, rewrite_json) -> None:
    rewrite_json(copied, "state.json", lambda state: state["agent"].update(failed=[False, True]))
    assert read_agent(copied, 3).seed == 3
    with pytest.raises(InputError, match=r"Seed 5 of .* has failed .*another --seed of 3, 5"):
        read_agent(copied, 5)


@pytest.mark.parametrize("name", ["agent.safetensors", "state.json", "config.json"])
def test_a_damaged_file_and_what_to_give_instead(trial: Path, tmp_path: Path, name: str) -> None:
    own = shutil.copytree(trial, tmp_path / "trial")
    newest = own / "checkpoint_000010"
    content = (newest / name).read_bytes()
    (newest / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{name} has not the size or checksum .*; give another one, or the trial's"):
        read_agent(newest)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no checkpoint of MBPO: there is no manifest\.json in it"):
        read_agent(tmp_path)
    with pytest.raises(InputError, match="nowhere' is no checkpoint of MBPO"):
        read_agent(tmp_path / "nowhere")


def test_a_newer_format(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    with pytest.raises(InputError, match=r"vagram_ray.checkpoint 2, this version .* use the version that wrote it\."):
        read_agent(copied)


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ([None], "what its environments' wrappers have kept is of other seeds"),
        ([3, 3], "what its environments' wrappers have kept is of other seeds"),
        ([[None, None]] * 2, ""),
        ([[{"own": 1}]] * 2, "cannot take over what its wrappers kept (AttributeError: "),
        ([[{"own": 1}]], "of other seeds"),
        ([[{"attributes": {"env": 1}}, None, None, None]] * 2, ""),
    ],
)
def test_what_wrappers_have_kept_has_to_fit(copied: Path, rewrite_json, kept: list, says: str) -> None:
    def change(state: dict) -> None:
        state["environments"] = {"evaluation": {"lasting": kept}}

    rewrite_json(copied, "state.json", change)
    if says:
        with pytest.raises(InputError) as caught:
            read_agent(copied)
        assert says in str(caught.value)
        return
    with read_agent(copied).evaluation() as envs:  # attributes that no checkpoint has are not set
        assert envs.reset().shape == (1, 7)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"actor_hidden_sizes": [16, 17]}, "policy"),
        ({"critic_hidden_sizes": [16, 17]}, "critics"),
        ({"hidden_size": 17}, "model"),
        ({"ensemble_size": 4}, "model"),
        ({"num_elites": 1}, "model"),
    ],
)
def test_networks_of_another_shape(copied: Path, rewrite_config, changes: dict, part: str) -> None:
    rewrite_config(copied, **changes)
    saved = read_agent(copied)
    with pytest.raises(InputError, match=rf"The {part} saved in .* does not fit its configuration"):
        {"policy": saved.actor, "critics": saved.values, "model": saved.dynamics}[part]()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"env": "Nowhere-v0"}, "was trained with env='Nowhere-v0', which is not registered here"),
        ({"env": {OBJECT: "my_envs.Mine"}}, "env holds my_envs.Mine, which is no plain data and is not kept"),
        ({"env_config": {"path": {OBJECT: "pathlib.Path"}}}, "env_config holds pathlib.Path, which is no plain data"),
        ({"env_config": {"gravity": 9.81}}, "has no argument 'gravity'"),
        ({"model_loss": "vagarm"}, "was trained with model_loss='vagarm', which is not registered here"),
        ({"distractor_process": "papers"}, "distractor_process='papers' is unknown"),
        ({"num_elites": 30}, "num_elites=30 is not usable"),
        ({"env_config": [1]}, "make no sense"),
    ],
)
def test_a_configuration_that_cannot_work(copied: Path, rewrite_config, changes: dict, says: str) -> None:
    rewrite_config(copied, **changes)
    with pytest.raises(InputError) as caught:
        read_agent(copied)
    assert says in str(caught.value)
    assert str(copied) in str(caught.value) and str(caught.value).endswith((".", "?"))


def test_the_mark_of_lost_objects_is_the_one_that_is_written() -> None:
    from vagram_ray.rllib import plain_config

    assert OBJECT == plain_config.OBJECT


def test_plain_sac_has_no_model(make_checkpoint) -> None:
    saved = read_agent(make_checkpoint(model_loss="none").folder)
    assert saved.title.startswith("plain SAC on Pendulum-v1, seed 3")
    with pytest.raises(InputError, match="plain SAC learns no model; leave --model away"):
        saved.dynamics()
