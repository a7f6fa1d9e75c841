"""What a real step costs: Hopper with the policy's action and storage, beside the bare environment and its parts.

    python -m benchmarks.env_step [--rounds 10] [--core 1] [--env Hopper-v5] [--json FILE]

Milliseconds per environment step of all seeds; policy 2 x 256.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from benchmarks import timing
from benchmarks.agents import never
from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv

STEPS = 100  # per run; times are divided by it


def bare_environment(env_id: str, wrapped: bool = True) -> timing.Operation:
    """Gymnasium's environment with one action over and over."""
    import gymnasium as gym

    env = gym.make(env_id)
    env.reset(seed=0)
    action = env.action_space.sample()
    stepped = env if wrapped else env.unwrapped

    def run() -> None:
        for _ in range(STEPS):
            _, _, terminated, truncated, _ = stepped.step(action)
            if terminated or truncated:
                env.reset()

    return run


def simulator_alone(env_id: str) -> timing.Operation:
    """MuJoCo's steps alone, from the same kind of states."""
    import gymnasium as gym
    import mujoco

    env = gym.make(env_id)
    env.reset(seed=0)
    model, data, frames = env.unwrapped.model, env.unwrapped.data, env.unwrapped.frame_skip  # type: ignore[attr-defined]
    action = env.action_space.sample()
    starts = []
    for _ in range(STEPS):
        starts.append((data.qpos.copy(), data.qvel.copy()))
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()

    def run() -> None:
        data.ctrl[:] = action
        for data.qpos[:], data.qvel[:] in starts:
            mujoco.mj_step(model, data, nstep=frames)

    return run


def agent_steps(env_id: str, num_seeds: int, distractors: int) -> timing.Operation:
    """The agent's own loop: act, step, store, count."""
    keep_freed_memory()
    envs = SeedVectorEnv(EnvironmentSpec(env_id, num_distractors=distractors), range(num_seeds))
    agent = MBPOAgent(
        MBPOSettings(model_loss="none"), seeds=range(num_seeds), obs_dim=envs.obs_dim, action_dim=envs.action_dim,
        termination=never,
    )  # fmt: skip
    metrics, obs = EpochMetrics(num_seeds), envs.reset()

    def run() -> None:
        nonlocal obs
        for _ in range(STEPS):
            with metrics.timed("env"):
                obs = agent._collect(envs, obs, agent.act(obs, deterministic=False), metrics)

    return run


def agent_case(env_id: str, rounds: int) -> list[timing.Samples]:
    """A step of the agent and its parts."""
    import gymnasium as gym

    parts: dict[str, timing.Factory] = {"bare environment": functools.partial(bare_environment, env_id)}
    if hasattr(gym.make(env_id).unwrapped, "frame_skip"):
        parts["its simulator alone"] = functools.partial(simulator_alone, env_id)
    sides: dict[str, timing.Factory] = parts | {
        "without wrappers": functools.partial(bare_environment, env_id, wrapped=False),
        "1 seed": functools.partial(agent_steps, env_id, 1, 0),
        "1 seed, 15 distractors": functools.partial(agent_steps, env_id, 1, 15),
        "8 seeds": functools.partial(agent_steps, env_id, 8, 0),
    }
    samples = list(timing.measure(env_id, sides, rounds=rounds, repeats=1, warm_up=1, clock=time.perf_counter).values())
    for sample in samples:
        sample.milliseconds = [value / STEPS for value in sample.milliseconds]
    return samples


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = timing.parser(__doc__, rounds=10)
    parser.add_argument("--env", default="Hopper-v5", help="Gymnasium id (default %(default)s)")
    arguments = parser.parse_args(argv)
    timing.prepare(arguments)
    samples, base = agent_case(arguments.env, arguments.rounds), "bare environment"
    print("Environment step, one thread")
    timing.print_table(samples, base=base)
    timing.write_json(arguments.json, "env_step", samples)


if __name__ == "__main__":
    main()
