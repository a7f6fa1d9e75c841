"""Environments in several processes: the same numbers, the same errors, and no process left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from vagram_ray.envs import EnvironmentSpec, EnvironmentSpecError, EnvironmentWorkerError, SeedVectorEnv

ROOT = Path(__file__).parents[2]
PENDULUM = EnvironmentSpec("Pendulum-v1")
SPECS = [
    EnvironmentSpec("Hopper-v4", num_distractors=5),
    EnvironmentSpec("Hopper-v5", num_distractors=3, distractor_process="published"),
    EnvironmentSpec("Pendulum-v1", env_kwargs={"max_episode_steps": 30}),
    EnvironmentSpec("ContinuousCartPole-v0"),
]


class Odd(PendulumEnv):
    """Fails, leaves or tells where it runs, as the action asks."""

    def step(self, action):
        push = float(action[0])
        if push > 1.9:
            raise ZeroDivisionError("the pendulum fell off")
        if push < -1.9:
            sys.exit(3)
        return super().step(action)


@pytest.fixture
def make():
    """Makes environments and sees that their processes end with the test."""
    made = []

    def factory(*arguments, **keywords):
        made.append(SeedVectorEnv(*arguments, **keywords))
        return made[-1]

    yield factory
    for envs in made:
        envs.close()
        assert not any(alive(worker.pid) for worker in envs._workers)


@pytest.fixture
def odd():
    gym.register("Odd-v0", Odd)
    yield EnvironmentSpec("Odd-v0")
    del gym.registry["Odd-v0"]


def alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").is_dir() else True
    except (ProcessLookupError, FileNotFoundError):
        return False


def ends(pid):
    for _ in range(200):
        if not alive(pid):
            return True
        time.sleep(0.1)
    return False


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.env_id)
def test_numbers_and_states_are_those_of_one_process(spec, make):
    seeds = (4, 0, 7, 1, 9)
    one, three = make(spec, seeds), make(spec, seeds, num_workers=3)
    assert (one.num_workers, three.num_workers) == (1, 3)
    assert [worker.seeds for worker in three._workers] == [(7, 1), (9,)]
    generator = np.random.default_rng(0)
    for _ in range(2):
        assert_same([one.reset()], [three.reset()])
        for step in range(120):
            actions = generator.uniform(-1.2, 1.2, (5, one.action_dim))
            active = generator.random(5) < 0.6 if step % 3 == 0 else None
            assert_same(one.step(actions, active), three.step(actions, active))
    state = one.get_state()
    assert json.loads(json.dumps(three.get_state())) == state
    # A state can be read with any number of processes.
    two = make(spec, seeds, num_workers=2)
    two.reset()
    two.set_state(state)
    assert_same([two.reset()], [three.reset()])
    actions = generator.uniform(-1, 1, (5, one.action_dim))
    assert_same(two.step(actions), three.step(actions))


def test_workers_do_not_import_pytorch():
    code = "import sys, vagram_ray.envs.worker_process; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert shown.stdout == "False\n"


def test_more_workers_than_seeds_and_a_step_where_a_worker_has_nothing_to_do(make):
    envs, reference = make(PENDULUM, (0, 1), num_workers=16), make(PENDULUM, (0, 1))
    assert envs.num_workers == 2
    assert_same([envs.reset()], [reference.reset()])
    active = np.array([True, False])
    assert_same(envs.step(np.ones((2, 1)), active), reference.step(np.ones((2, 1)), active))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "two", None])
def test_a_number_of_workers_that_is_none_is_refused(count):
    with pytest.raises(EnvironmentSpecError, match=r"num_workers=.* must be an integer >= 1"):
        SeedVectorEnv(PENDULUM, (0, 1), num_workers=count)


def test_an_error_of_an_environment_arrives_with_its_traceback_and_nothing_is_lost(make, odd):
    envs = make(odd, (0, 1, 2), num_workers=3)
    envs.reset()
    with pytest.raises(ZeroDivisionError, match="the pendulum fell off") as caught:
        envs.step(np.array([[0.0], [1.0], [1.0]]))
    assert "in step\n    raise ZeroDivisionError" in str(caught.value.__cause__)
    # The others have answered: the next exchange is not a step behind.
    reference = make(odd, (0, 1, 2))
    envs.set_state(reference.get_state())
    assert_same([envs.reset()], [reference.reset()])
    assert_same(envs.step(np.full((3, 1), 0.3)), reference.step(np.full((3, 1), 0.3)))
    with pytest.raises(ZeroDivisionError):  # in this process
        envs.step(np.array([[1.0], [0.0], [0.0]]))
    assert_same([envs.reset()[1:]], [reference.reset()[1:]])


def test_an_environment_that_exits_does_so_here(make, odd):
    envs = make(odd, (0, 1), num_workers=2)
    envs.reset()
    with pytest.raises(SystemExit, match="3"):
        envs.step(np.array([[0.0], [-1.0]]))


def test_a_killed_worker_is_told_in_one_sentence(make):
    envs = make(PENDULUM, (0, 5, 6), num_workers=2)
    envs.reset()
    (worker,) = envs._workers
    os.kill(worker.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(EnvironmentWorkerError, match=r"seeds \[6\] was killed by SIGKILL .*num_workers=1"):
            envs.step(np.zeros((3, 1)))
    with pytest.raises(EnvironmentWorkerError, match="was killed by SIGKILL"):
        envs.get_state()


def test_what_is_closed_says_so(make):
    envs = make(PENDULUM, (0, 1), num_workers=2)
    envs.reset()
    envs.close()
    envs.close()
    with pytest.raises(RuntimeError, match="the environments are closed"):
        envs.reset()


def test_an_interrupted_step_ends_the_workers(make, monkeypatch):
    envs = make(PENDULUM, (0, 1), num_workers=2)
    envs.reset()

    def interrupted(action):
        raise KeyboardInterrupt

    monkeypatch.setattr(envs._envs[0], "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        envs.step(np.zeros((2, 1)))
    assert ends(envs._workers[0].pid)
    with pytest.raises(RuntimeError, match="a step was interrupted"):
        envs.reset()


@pytest.mark.parametrize("by_name", [False, True])
def test_an_environment_of_a_file_that_no_other_process_finds(make, tmp_path, by_name):
    (tmp_path / "elsewhere.py").write_text(
        "from gymnasium.envs.classic_control import PendulumEnv\n"
        "HALF = 0.5\n"
        "class Slow(PendulumEnv):\n"
        "    def step(self, action):\n"
        "        return super().step(HALF * action)\n"
    )
    spec = importlib.util.spec_from_file_location("an_extension_by_path", tmp_path / "elsewhere.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["an_extension_by_path"] = module
    try:
        spec.loader.exec_module(module)
        gym.register("Slow-v0", "an_extension_by_path:Slow" if by_name else module.Slow, max_episode_steps=20)
        one, two = (make(EnvironmentSpec("Slow-v0"), (0, 1), num_workers=n) for n in (1, 2))
        assert_same([one.reset()], [two.reset()])
        assert_same(one.step(np.ones((2, 1))), two.step(np.ones((2, 1))))
    finally:
        del sys.modules["an_extension_by_path"]
        gym.registry.pop("Slow-v0", None)


def test_an_environment_that_a_worker_cannot_make_is_refused(odd):
    lock = threading.Lock()  # nothing pickles a lock
    gym.registry["Odd-v0"].entry_point = lambda **keywords: (lock, Odd(**keywords))[1]
    with pytest.raises(EnvironmentSpecError, match=r"'Odd-v0'.* cannot be made in a worker process .*num_workers=1"):
        SeedVectorEnv(odd, (0, 1), num_workers=2)


SCRIPT = """
import os, signal, sys, time
import gymnasium
import numpy as np
from gymnasium.envs.classic_control import PendulumEnv
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.envs.step_watchdog import StepWatchdog

class Mine(PendulumEnv):  # only this script knows it, and it has no guard of __main__
    def step(self, action):
        if action[0] > 1.9:
            time.sleep(1000)
        return super().step(action)

gymnasium.register("Mine-v0", Mine, max_episode_steps=10)
envs = SeedVectorEnv(EnvironmentSpec("Mine-v0"), (0, 1), num_workers=2)
envs.reset()
print(envs._workers[0].pid, flush=True)
how = sys.argv[1]
if how == "watchdog":
    watchdog = StepWatchdog(1.0, sys.__stderr__)
    watchdog.before_exit.append(envs.kill_workers)
    envs.guard = watchdog.guard
    time.sleep(1.0)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how != "forgotten":
    envs.step(np.array([[0.0], [1.0]]))
"""


def run_script(how):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("how", ["forgotten", "killed", "hanging", "interrupted", "watchdog"])
def test_no_process_is_left_behind(how):
    process = run_script(how)
    worker = int(process.stdout.readline())
    if how in ("hanging", "interrupted"):
        time.sleep(1.0)
        assert alive(worker) and process.poll() is None
        process.send_signal(signal.SIGKILL if how == "hanging" else signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert ends(worker)
    expected = {"forgotten": 0, "killed": -9, "hanging": -9, "interrupted": -2, "watchdog": 75}[how]
    assert process.returncode == expected, errors
    if how == "forgotten":
        assert errors == ""
    if how == "watchdog":  # whoever reads the log sees where it hangs, and that is in the worker
        assert "exceeded its time limit of 1 s" in errors
        assert "in step" in errors and "in _serve" in errors
