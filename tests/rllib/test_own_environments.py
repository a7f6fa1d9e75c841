"""Environments as RLlib users give them: classes, functions, class paths, names of ``ray.tune.register_env``."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from click.testing import CliRunner
from ray import cloudpickle
from ray.rllib.env.env_context import EnvContext
from ray.tune import register_env

from tests.rllib.conftest import tiny_config
from vagram_ray.commands import InputError
from vagram_ray.envs import EnvironmentSpecError, never_terminates, register_termination
from vagram_ray.envs import terminations as registry
from vagram_ray.envs.naming import environment_name
from vagram_ray.play.checkpoint import read_agent
from vagram_ray.play.commandline import main as play
from vagram_ray.rllib import MBPO, MBPOConfig, load_extensions
from vagram_ray.rllib.plain_config import plain_settings


class Drift(gym.Env):
    """A point that drifts to the left; ends by itself after so many steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def __init__(self, config: EnvContext) -> None:
        assert isinstance(config, EnvContext) and config.worker_index == 0
        self.pull, self.length = config["pull"], config.get("length", 10)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps, self._place = 0, self.np_random.normal(size=2)
        return self._place.astype(np.float32), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        self._place = self._place + 0.1 * np.asarray(action) - self.pull
        return self._place.astype(np.float32), -float(self._place[0] ** 2), False, self._steps >= self.length, {}


def make_drift(config: EnvContext) -> Drift:
    return Drift(config)


HERE = "tests.rllib.test_own_environments"
REGISTERED = "a registered drift"


@pytest.fixture(autouse=True)
def _terminations(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    register_env(REGISTERED, lambda config: Drift(config))
    for env in (Drift, make_drift, REGISTERED):
        register_termination(env, never_terminates)


def config_of(env: Any, **env_config: Any) -> MBPOConfig:
    return tiny_config().environment(env, env_config={"pull": 0.5, **env_config}, num_distractors=1)


@pytest.mark.parametrize(
    ("env", "name"),
    [
        (Drift, f"{HERE}.Drift"),
        (make_drift, f"{HERE}.make_drift"),
        (f"{HERE}.Drift", f"{HERE}.Drift"),
        (REGISTERED, REGISTERED),
    ],
)
def test_each_form_reaches_the_environment_with_its_env_config(env: Any, name: str) -> None:
    config = config_of(env)
    config.validate()
    made: Any = config.environment_spec().make(0)
    assert (made.unwrapped.pull, made.observation_space.shape) == (0.5, (3,))
    assert plain_settings(config)["env"] == name == environment_name(env)


@pytest.mark.parametrize(
    "env", [lambda config: Drift(config), functools.partial(make_drift), Drift(EnvContext({"pull": 1}, 0)), 3]
)
def test_what_has_no_name_is_refused_in_one_sentence(env: Any) -> None:
    with pytest.raises(EnvironmentSpecError, match=r"^env=.* has no name to find it by again: .*register_env"):
        config_of(env).validate()


def takes_nothing() -> Drift:
    return Drift(EnvContext({"pull": 1}, 0))


def gives_nothing(config: EnvContext) -> None: ...


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (takes_nothing, "called with the dictionary env_config as its one argument"),
        (gives_nothing, "made None, but a gymnasium.Env is wanted"),
        (f"{HERE}.Drfit", f"module '{HERE}' has no such class"),
        ("no_such_module.Drift", "needs the module 'no_such_module'"),
        ("Drift", "not registered with Gymnasium"),
    ],
)
def test_what_makes_no_environment_is_refused_in_one_sentence(env: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        config_of(env).validate()


def test_an_argument_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"could not be made \(KeyError: 'pull'\): check env_config"):
        tiny_config().environment(Drift).validate()


@pytest.mark.parametrize("env", [Drift, make_drift, REGISTERED])
def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(env: Any, tmp_path: Path) -> None:
    algo = config_of(env).build_algo()
    algo.train()
    algo.save_to_path(tmp_path / "saved")
    expected = algo.train()
    algo.stop()
    resumed = MBPO.from_checkpoint(tmp_path / "saved")
    try:
        result = resumed.train()
    finally:
        resumed.stop()
    assert result["seeds"] == expected["seeds"] and result["eval"] == expected["eval"]
    assert result["eval"]["episode_length"] == 10
    agent = read_agent(tmp_path / "saved")
    assert agent.dimensions == (3, 1) and agent.environment.make(0).unwrapped.pull == 0.5


KITE = """
import gymnasium, numpy
from vagram_ray.envs import never_terminates, register_termination

class Kite(gymnasium.wrappers.TimeLimit):
    def __init__(self, config):
        super().__init__(gymnasium.make("Pendulum-v1").unwrapped, 20)

    def nothing(self):
        pass

register_termination(Kite, never_terminates)
"""


def trained(env: Any, folder: Path, **training: Any) -> Path:
    algo = tiny_config(**training).environment(env).build_algo()
    algo.save_to_path(folder)
    algo.stop()
    return folder


def test_a_class_of_a_module_is_imported_when_the_user_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kite_of_a_test.py").write_text(KITE)
    saved = trained("kite_of_a_test.Kite", tmp_path / "saved")
    kite = sys.modules.pop("kite_of_a_test").Kite
    with pytest.raises(InputError, match=r"add --extension kite_of_a_test \(in Python: import it"):
        read_agent(saved)
    with pytest.raises(ValueError, match=r"import kite_of_a_test first, or give the class"):
        MBPO.from_checkpoint(saved)
    assert "kite_of_a_test" not in sys.modules
    MBPO.from_checkpoint(saved, config=MBPOConfig().environment(kite)).stop()
    played = CliRunner().invoke(play, [str(saved), "--extension", "kite_of_a_test", "--episodes", "1"])
    assert played.exit_code == 0 and "vagram on kite_of_a_test.Kite, seed 0" in played.output


def test_a_class_of_a_file_is_found_in_that_file(tmp_path: Path) -> None:
    file = tmp_path / "kites.py"
    file.write_text(KITE)
    load_extensions(str(file))
    kite = next(m for name, m in sys.modules.items() if name.startswith("vagram_ray_extension_kites_")).Kite
    assert environment_name(kite) == "kites.py:Kite"
    saved = trained(kite, tmp_path / "saved", extensions=str(file))
    code = "import pickle, sys; from vagram_ray.envs.naming import environment_name as name\n"
    code += "print(name(pickle.load(sys.stdin.buffer)))"
    other = subprocess.run([sys.executable, "-c", code], input=cloudpickle.dumps(kite), capture_output=True)
    assert other.stdout.decode().strip() == "kites.py:Kite", other.stderr.decode()
    assert read_agent(saved).environment.env_id == "kites.py:Kite"
    for name in [name for name in sys.modules if name.startswith("vagram_ray_extension_kites_")]:
        del sys.modules[name]
    with pytest.raises(InputError, match=r"--extension kites.py \(in Python: .*load_extensions\)"):
        read_agent(saved)


def test_a_class_takes_the_place_of_its_name_where_the_caller_has_it(tmp_path: Path) -> None:
    def enclosing() -> type[gym.Env]:
        class Inner(Drift): ...

        return Inner

    inner = enclosing()
    register_termination(inner, never_terminates)
    algo = config_of(inner).build_algo()
    algo.save_to_path(tmp_path / "saved")
    algo.stop()
    with pytest.raises(ValueError, match="or give its class"):
        MBPO.from_checkpoint(tmp_path / "saved")
    MBPO.from_checkpoint(tmp_path / "saved", config=MBPOConfig().environment(inner)).stop()


class Bounded(Drift):
    """Ends where it has drifted too far; nothing says so but the environment itself."""

    def step(self, action: Any) -> Any:
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, bool(obs[0] < -2.0), truncated, info


def test_an_environment_without_a_termination_function_trains_with_a_learned_one(tmp_path: Path) -> None:
    config = config_of(Bounded)
    with pytest.raises(ValueError, match=r"no termination function is known .* or set termination='learned'"):
        config.copy().validate()
    algo = config.training(termination="learned").build_algo()
    algo.train()
    algo.save_to_path(tmp_path / "saved")
    expected = algo.train()
    algo.stop()
    resumed = MBPO.from_checkpoint(tmp_path / "saved")
    try:
        assert resumed.train()["seeds"] == expected["seeds"]
    finally:
        resumed.stop()
    assert read_agent(tmp_path / "saved").dynamics().learns_termination


def test_tune_carries_a_class_to_a_trial() -> None:
    config = config_of(Drift).to_dict()
    copied = MBPOConfig().update_from_dict(cloudpickle.loads(cloudpickle.dumps(config)))
    assert copied.environment_spec() == config_of(Drift).environment_spec()
