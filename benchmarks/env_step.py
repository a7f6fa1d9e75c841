"""What a real step costs: Hopper with the policy's action and storage, beside the bare environment.

    python -m benchmarks.env_step [--rounds 10] [--core 1] [--env Hopper-v5] [--json FILE]

Milliseconds per environment step of all seeds; policy 2 x 256.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from benchmarks import timing
from benchmarks.agents import never
from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv

STEPS = 100  # per run; times are divided by it


def bare_environment(env_id: str) -> timing.Operation:
    """Gymnasium's environment with one action over and over."""
    import gymnasium as gym

    env = gym.make(env_id)
    env.reset(seed=0)
    action = env.action_space.sample()

    def run() -> None:
        for _ in range(STEPS):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

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


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = timing.parser(__doc__, rounds=10)
    parser.add_argument("--env", default="Hopper-v5", help="Gymnasium id (default %(default)s)")
    arguments = parser.parse_args(argv)
    timing.prepare(arguments)
    sides: dict[str, timing.Factory] = {
        "bare environment": functools.partial(bare_environment, arguments.env),
        "1 seed": functools.partial(agent_steps, arguments.env, 1, 0),
        "1 seed, 15 distractors": functools.partial(agent_steps, arguments.env, 1, 15),
        "8 seeds": functools.partial(agent_steps, arguments.env, 8, 0),
    }
    samples = timing.measure(arguments.env, sides, rounds=arguments.rounds, repeats=1, warm_up=1)
    for sample in samples.values():
        sample.milliseconds = [value / STEPS for value in sample.milliseconds]
    print("Environment step, one thread")
    timing.print_table(list(samples.values()), base="bare environment")
    timing.write_json(arguments.json, "env_step", list(samples.values()))


if __name__ == "__main__":
    main()
