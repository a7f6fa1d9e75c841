"""What a real step costs: Hopper with the policy's action and storage, beside the bare environment and its parts.

    python -m benchmarks.env_step [--rounds 10] [--core 1] [--env Hopper-v5] [--json FILE]
    python -m benchmarks.env_step --stepping 8 16 32 [--distractors 15] [--workers 1 2] [--spread] [--env Hopper-v5]

Milliseconds per environment step of all seeds; policy 2 x 256. ``--stepping`` compares ways to step the environments
of as many seeds, without an agent: in one process (the base), in several, and by threads of one process. It uses all
cores that it may, whatever ``--core`` says; ``--spread`` pins each process to a core of its own, because on a machine
with more work than cores the system often wakes a worker on the core of the one that waits for it.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks import timing
from benchmarks.agents import never
from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.envs.step_group import StepArrays

STEPS = 100  # per run; times are divided by it
STEPPING_STEPS = 10  # few, so that some runs fall between the others' work on a busy machine
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


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


class ThreadedEnvs(SeedVectorEnv):
    """The way that was not taken: threads of this process step equal shares of the environments."""

    def __init__(self, spec: EnvironmentSpec, seeds: Sequence[int], num_threads: int) -> None:
        super().__init__(spec, seeds)
        self._pool = ThreadPoolExecutor(num_threads - 1)
        self._shares = [slice(s[0], s[-1] + 1) for s in np.array_split(np.arange(self.num_seeds), num_threads)]
        self._alone, self._group.step = self._group.step, self._shared  # type: ignore[method-assign]

    def _shared(self, actions: np.ndarray, active: np.ndarray, out: StepArrays) -> None:
        def share(rows: slice) -> None:
            mask = np.zeros_like(active)
            mask[rows] = active[rows]
            self._alone(actions, mask, out)

        others = [self._pool.submit(share, rows) for rows in self._shares[1:]]
        share(self._shares[0])
        for other in others:
            other.result()


def stepping(
    spec: EnvironmentSpec, num_seeds: int, workers: int, threads: int = 1, spread: bool = False
) -> timing.Operation:
    """Environments alone, with random actions."""
    if CORES:
        os.sched_setaffinity(0, CORES)
    seeds = range(num_seeds)
    envs = ThreadedEnvs(spec, seeds, threads) if threads > 1 else SeedVectorEnv(spec, seeds, num_workers=workers)
    envs.reset()
    if spread and threads == 1:
        for process, core in zip(
            [0, *(worker.pid for worker in envs._workers)], itertools.cycle(sorted(CORES)), strict=False
        ):
            os.sched_setaffinity(process, {core})
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPPING_STEPS, num_seeds, envs.action_dim))

    def run() -> None:
        for action in actions:
            envs.step(action)

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


def stepping_case(
    spec: EnvironmentSpec, num_seeds: int, workers: Sequence[int], rounds: int, spread: bool
) -> list[timing.Samples]:
    """Ways to step the environments of a cohort."""
    sides: dict[str, timing.Factory] = {}
    for count in dict.fromkeys([1, *workers]):
        name = f"{count} processes" if count > 1 else "1 process"
        sides[name] = functools.partial(stepping, spec, num_seeds, count, spread=spread)
        if count > 1:
            sides[f"{count} threads"] = functools.partial(stepping, spec, num_seeds, 1, count)
    case = f"{spec.env_id} + {spec.num_distractors}, {num_seeds} seeds"
    samples = list(timing.measure(case, sides, rounds=rounds, repeats=5, warm_up=2, clock=time.perf_counter).values())
    for sample in samples:
        sample.milliseconds = [value / STEPPING_STEPS for value in sample.milliseconds]
    return samples


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = timing.parser(__doc__, rounds=10)
    parser.add_argument("--env", default="Hopper-v5", help="Gymnasium id (default %(default)s)")
    parser.add_argument("--stepping", type=int, nargs="+", metavar="SEEDS", help="compare ways to step so many seeds")
    parser.add_argument("--distractors", type=int, default=0, help="with --stepping (default %(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes (default 1 2)")
    parser.add_argument("--spread", action="store_true", help="with --stepping: each process on a core of its own")
    arguments = parser.parse_args(argv)
    timing.prepare(arguments)
    if arguments.stepping:
        spec = EnvironmentSpec(arguments.env, num_distractors=arguments.distractors)
        cases = [
            stepping_case(spec, seeds, arguments.workers, arguments.rounds, arguments.spread)
            for seeds in arguments.stepping
        ]
        samples, base = [sample for case in cases for sample in case], "1 process"
        print("Environments alone, one thread in each process")
    else:
        samples, base = agent_case(arguments.env, arguments.rounds), "bare environment"
        print("Environment step, one thread")
    timing.print_table(samples, base=base)
    timing.write_json(arguments.json, "env_step", samples)


if __name__ == "__main__":
    main()
