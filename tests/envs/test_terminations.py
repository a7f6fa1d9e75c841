"""Termination functions against the verdict of the environments themselves."""

import numpy as np
import pytest
import torch

from vagram_ray.envs import (
    EnvironmentSpec,
    EnvironmentSpecError,
    never_terminates,
    register_termination,
    terminations,
)

# Environment id and whether random actions end episodes by termination within the steps rolled.
CASES = [
    *((f"{name}-v{version}", True) for name in ("Hopper", "Walker2d", "Humanoid") for version in (4, 5)),
    *((f"InvertedPendulum-v{version}", True) for version in (4, 5)),
    *((f"{name}-v{version}", False) for name in ("HalfCheetah", "Swimmer", "Reacher") for version in (4, 5)),
    ("HumanoidStandup-v5", False),
    ("Pusher-v5", False),
    ("Pendulum-v1", False),
    ("ContinuousCartPole-v0", True),
]


@pytest.fixture(autouse=True)
def _registry_of_its_own(monkeypatch):
    monkeypatch.setattr(terminations, "_BUILDERS", dict(terminations._BUILDERS))


def roll_and_compare(spec, steps, seed=0):
    """Roll random actions, compare the verdict at every step, and return how many episodes terminated."""
    env, fn = spec.make(seed), spec.termination()
    generator = np.random.default_rng(seed)
    low, high = env.action_space.low, env.action_space.high
    obs, action, next_obs, terminated = [], [], [], []
    current = env.reset()[0]
    for _ in range(steps):
        drawn = generator.uniform(low, high).astype(env.action_space.dtype)
        successor, _, end, cut, _ = env.step(drawn)
        for column, value in ((obs, current), (action, drawn), (next_obs, successor), (terminated, end)):
            column.append(value)
        current = env.reset()[0] if end or cut else successor
    env.close()
    verdict = fn(*(torch.as_tensor(np.array(column), dtype=torch.float64) for column in (obs, action, next_obs)))
    assert verdict.dtype == torch.bool
    np.testing.assert_array_equal(verdict.numpy(), np.array(terminated))
    return int(np.sum(terminated))


@pytest.mark.parametrize(("env_id", "terminates"), CASES)
def test_verdict_equals_the_environments_at_every_step(env_id, terminates):
    ended = roll_and_compare(EnvironmentSpec(env_id), 400)
    assert ended > 3 if terminates else ended == 0


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("name", "height_index", "heights", "angle_width", "velocity_width"),
    [
        ("Hopper", 1, (0.6, 0.8), 0.3, 9.0),
        ("Walker2d", 1, (0.7, 2.1), 1.5, 9.0),
        ("Ant", 2, (0.1, 1.1), 1.0, 9.0),
        ("Humanoid", 2, (0.9, 2.1), 1.0, 9.0),
    ],
)
def test_every_limit_in_states_around_it(name, height_index, heights, angle_width, velocity_width, version):
    """Random actions may reach one limit only (Hopper tips over before it sinks): set the state instead."""
    spec = EnvironmentSpec(f"{name}-v{version}")
    env = spec.make(0).unwrapped
    generator = np.random.default_rng(0)
    observations, healthy = [], []
    for _ in range(300):
        positions = env.init_qpos + generator.uniform(-angle_width, angle_width, env.model.nq)
        # Half of the states lean little, so that their height alone decides.
        if generator.uniform() < 0.5:
            positions = env.init_qpos.copy()
        positions[height_index] = generator.uniform(*heights)
        env.set_state(positions, generator.uniform(-velocity_width, velocity_width, env.model.nv))
        observations.append(env._get_obs())
        healthy.append(bool(env.is_healthy))
    obs = torch.as_tensor(np.array(observations))
    verdict = spec.termination()(obs, torch.zeros(300, spec.dimensions()[1]), obs)
    np.testing.assert_array_equal(~verdict.numpy(), healthy)
    assert 20 < sum(healthy) < 280


@pytest.mark.parametrize("env_id", ["Ant-v4", "Ant-v5"])
def test_ant(env_id):
    assert roll_and_compare(EnvironmentSpec(env_id), 1500) > 0


@pytest.mark.parametrize(
    ("env_id", "env_kwargs"),
    [
        ("Ant-v4", {"use_contact_forces": True, "healthy_z_range": (0.4, 0.8)}),
        ("Ant-v5", {"exclude_current_positions_from_observation": False, "healthy_z_range": (0.4, 0.8)}),
        ("Hopper-v4", {"exclude_current_positions_from_observation": False}),
        ("Hopper-v4", {"healthy_angle_range": (-0.05, 0.05)}),
        ("Hopper-v5", {"healthy_state_range": (-0.3, 0.3), "healthy_angle_range": (-10, 10)}),
        ("Walker2d-v5", {"exclude_current_positions_from_observation": False, "healthy_z_range": [1.0, 1.5]}),
        ("Humanoid-v4", {"exclude_current_positions_from_observation": False, "healthy_z_range": (1.2, 2.0)}),
    ],
)
def test_arguments_that_move_the_limits_are_honoured(env_id, env_kwargs):
    assert roll_and_compare(EnvironmentSpec(env_id, env_kwargs=env_kwargs), 400) > 3


@pytest.mark.parametrize("version", [4, 5])
def test_the_double_pendulums_tip(version):
    """In any pose, and in episodes but where the tip is within a millimetre of its limit."""
    env = EnvironmentSpec(f"InvertedDoublePendulum-v{version}").make(0).unwrapped
    fn = terminations.termination_function(f"InvertedDoublePendulum-v{version}")
    generator, heights, observed = np.random.default_rng(0), [], []
    for _ in range(200):
        env.set_state(generator.uniform(-1.2, 1.2, 3), generator.normal(size=3))
        heights.append(env.data.site("tip").xpos[2])
        observed.append(env._get_obs())
    verdict = fn(None, None, torch.as_tensor(np.array(observed)))
    np.testing.assert_array_equal(verdict.numpy(), np.array(heights) <= 1.0)
    assert 20 < int(verdict.sum()) < 180
    ended, compared = 0, 0
    env.reset(seed=0)
    for _ in range(400):
        obs, _, terminated, _, _ = env.step(generator.uniform(-1, 1, 1))
        if abs(env.data.site("tip").xpos[2] - 1.0) > 1e-3:
            assert bool(fn(None, None, torch.as_tensor(obs))) == terminated
            compared += 1
        if terminated:
            ended += 1
            env.reset()
    assert ended > 20 and compared > 380


@pytest.mark.parametrize("goal_velocity", [0.0, 0.03])
def test_the_mountain_car_at_its_goal(goal_velocity):
    spec = EnvironmentSpec("MountainCarContinuous-v0", env_kwargs={"goal_velocity": goal_velocity})
    env, verdicts = spec.make(0).unwrapped, []
    fn = terminations.termination_function(spec.env_id, spec.env_kwargs)
    generator = np.random.default_rng(0)
    for _ in range(300):
        env.reset()
        env.state = np.array([generator.uniform(0.3, 0.6), generator.uniform(-0.07, 0.07)], dtype=np.float32)
        obs, _, terminated, _, _ = env.step(generator.uniform(-1, 1, 1))
        verdicts.append(terminated)
        assert bool(fn(None, None, torch.as_tensor(obs))) == terminated
    assert 30 < sum(verdicts) < 270


def test_every_mujoco_environment_of_version_5_is_known():
    from gymnasium.envs.registration import registry

    known = [name for name, spec in registry.items() if str(spec.entry_point).startswith("gymnasium.envs.mujoco")]
    names = [name for name in known if name.endswith("-v5")]
    assert len(names) == 11
    for name in names:
        terminations.termination_function(name)


def test_terminate_when_unhealthy_false_never_terminates():
    spec = EnvironmentSpec("Hopper-v4", env_kwargs={"terminate_when_unhealthy": False})
    assert roll_and_compare(spec, 300) == 0


def test_distractors_are_cut_off():
    assert roll_and_compare(EnvironmentSpec("Hopper-v4", num_distractors=5), 300) > 3
    # Ant and InvertedPendulum look at all dimensions they get.
    assert roll_and_compare(EnvironmentSpec("InvertedPendulum-v4", num_distractors=5), 300) > 3


def test_any_leading_shape_and_broken_predictions():
    healthy = torch.zeros(11)
    healthy[0] = 1.25
    obs = healthy.repeat(2, 3, 4, 1)
    obs[0, 0, 0, 0] = 0.6
    obs[0, 1, 0, 1] = 0.3
    obs[1, 2, 3, 10] = 101.0
    obs[1, 0, 0, 4] = float("nan")
    verdict = EnvironmentSpec("Hopper-v4").termination()(obs, torch.zeros(2, 3, 4, 3), obs)
    expected = torch.zeros(2, 3, 4, dtype=torch.bool)
    expected[0, 0, 0] = expected[0, 1, 0] = expected[1, 2, 3] = expected[1, 0, 0] = True
    assert torch.equal(verdict, expected)
    ant = torch.zeros(3, 27)
    ant[:, 0] = torch.tensor([0.2, 0.19, 1.0])
    ant[2, 20] = float("inf")
    assert EnvironmentSpec("Ant-v4").termination()(ant, torch.zeros(3, 8), ant).tolist() == [False, True, True]


def test_unknown_id_says_how_to_register_one_and_registering_helps():
    spec = EnvironmentSpec("Acrobot-v1", num_distractors=2)
    with pytest.raises(EnvironmentSpecError, match=r"register_termination\('Acrobot-v1', fn\)"):
        spec.termination()
    register_termination("Acrobot-v1", lambda obs, action, next_obs: next_obs[..., 0] >= 0.45)
    obs = torch.tensor([[0.5, 0.0, 9.0, 9.0], [0.4, 0.0, 9.0, 9.0]])
    assert spec.termination()(obs, torch.zeros(2, 1), obs).tolist() == [True, False]
    register_termination("Acrobot-v1", never_terminates)
    assert spec.termination()(obs, torch.zeros(2, 1), obs).tolist() == [False, False]


@pytest.mark.parametrize("fn", [lambda o, a, n: n[..., :1] > 0, lambda o, a, n: n[..., 0]])
def test_a_registered_function_with_a_wrong_result_is_refused(fn):
    register_termination("Acrobot-v1", fn)
    obs = torch.zeros(2, 2)
    with pytest.raises(EnvironmentSpecError, match=r"must return torch.bool of shape \(2,\)"):
        EnvironmentSpec("Acrobot-v1").termination()(obs, torch.zeros(2, 1), obs)


def test_bad_registrations_and_limits_are_refused():
    with pytest.raises(EnvironmentSpecError, match="must be callable"):
        register_termination("Pendulum-v1", True)
    with pytest.raises(EnvironmentSpecError, match="must be the id"):
        register_termination("", never_terminates)
    with pytest.raises(EnvironmentSpecError, match="healthy_z_range=3 must be two numbers"):
        EnvironmentSpec("Hopper-v4", env_kwargs={"healthy_z_range": 3}).termination()
