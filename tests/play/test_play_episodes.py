"""Episodes are recorded as they happen, and the same ones come again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem

from vagram_ray.checkpoint import CheckpointFolder, read_checkpoint
from vagram_ray.core.evaluation import evaluate
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.play.checkpoint import policy, read_agent
from vagram_ray.play.comparison import play_alike
from vagram_ray.play.episodes import play_episodes
from vagram_ray.play.export import write_agent
from vagram_ray.play.rendering import watched_environment


def test_returns_and_lengths_are_those_of_the_evaluation_in_training(pendulum) -> None:
    """Both seeds against the cohort's policy in the cohort's evaluation environments."""
    envs = SeedVectorEnv(pendulum.config.environment_spec(), pendulum.config.seeds, evaluation=True)
    statistics = evaluate(lambda obs: pendulum.agent.act(obs, deterministic=True), envs, 3)
    for position, seed in enumerate(pendulum.config.seeds):
        saved = read_agent(pendulum.folder, seed)
        alone = SeedVectorEnv(saved.environment, (seed,), evaluation=True)
        episodes = play_episodes(policy(saved.actor()), alone, 3)
        returns = [episode.episode_return for episode in episodes]
        np.testing.assert_allclose(returns, statistics.returns[position], rtol=1e-4)
        assert [len(episode) for episode in episodes] == statistics.lengths[position].tolist()


def test_an_episode_is_what_the_environment_did() -> None:
    spec = EnvironmentSpec("ContinuousCartPole-v0", num_distractors=2)
    pushes = np.random.default_rng(0).uniform(-1, 1, (400, 1, 1)).astype(np.float32)
    it = iter(pushes)
    heard: list[tuple[int, float]] = []
    with watched_environment(spec, 1, lambda env, steps, total, ended: heard.append((steps, total))) as envs:
        first, second = play_episodes(lambda obs: next(it), envs, 2)

    env = spec.make(1, evaluation=True)
    for episode, offset in ((first, 0), (second, len(first))):
        obs, _ = env.reset()
        np.testing.assert_array_equal(episode.obs[0], obs)
        for t in range(len(episode)):
            obs, reward, terminated, _, _ = env.step(pushes[offset + t, 0])
            np.testing.assert_array_equal(episode.obs[t + 1], obs)
            assert episode.rewards[t] == reward
            assert terminated == (t == len(episode) - 1)
        assert episode.terminated
        assert episode.episode_return == len(episode)
        assert episode.returns_so_far.tolist() == list(range(len(episode) + 1))
    assert heard == [(t, float(t)) for episode in (first, second) for t in range(len(episode) + 1)]


def test_what_the_environments_wrappers_have_kept_is_taken_over(normalized, tmp_path: Path) -> None:
    """Evaluation goes on from the checkpoint's normaliser, in the episodes that every checkpoint of the seed meets."""
    spec, seeds = normalized.config.environment_spec(), normalized.config.seeds
    state = read_checkpoint(CheckpointFolder(LocalFileSystem(), str(normalized.folder)))[1]["environments"]
    envs = SeedVectorEnv(spec, seeds, evaluation=True)
    envs.set_state({**envs.get_state(), "lasting": state["evaluation"]["lasting"]})
    expected = evaluate(lambda obs: normalized.agent.act(obs, deterministic=True), envs, 2).returns
    for position, seed in enumerate(seeds):
        agent = read_agent(normalized.folder, seed)
        with agent.evaluation() as envs:
            episodes = play_episodes(policy(agent.actor()), envs, 2)
        write_agent(agent, tmp_path / f"seed{seed}", episodes)
        (again,) = play_alike([read_agent(tmp_path / f"seed{seed}")], 2)
        for returns in ([episode.episode_return for episode in episodes], again.returns):
            np.testing.assert_allclose(returns, expected[position], rtol=1e-4)
    fresh = evaluate(lambda obs: normalized.agent.act(obs, deterministic=True), SeedVectorEnv(spec, seeds), 2).returns
    assert not np.allclose(fresh, expected, rtol=1e-2)


def test_a_time_limit_is_no_terminal_state() -> None:
    envs = SeedVectorEnv(EnvironmentSpec("Pendulum-v1", env_kwargs={"max_episode_steps": 7}), (0,))
    (episode,) = play_episodes(lambda obs: np.zeros((1, 1), dtype=np.float32), envs, 1)
    assert len(episode) == 7 and not episode.terminated
    assert episode.obs.shape == (8, 3) and episode.actions.shape == (7, 1)
    assert episode.episode_return == pytest.approx(float(np.sum(episode.rewards, dtype=np.float64)))
