"""One seed's policy out of a checkpoint, as a function of NumPy alone: no Ray, no PyTorch.

A policy is a small network. `export_policy` writes its weights, with the observation's scale and
the action's range, to one .npz file; `load_policy` makes a function of it that maps an
observation to an action of the environment. Copy that function into whatever drives your robot.
The checkpoint is read without Ray as well. Without one, an agent is taken that comes with the
repository.

    python examples/policy_for_deployment.py
    python examples/policy_for_deployment.py results/train_one_agent --output pendulum.npz
    python examples/policy_for_deployment.py results/NAME/TRIAL --seed 3
    python examples/policy_for_deployment.py hf://OWNER/NAME
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import torch

from vagram_ray.commands import InputError
from vagram_ray.core.actor_critic import SquashedGaussianActor
from vagram_ray.envs.spaces import ActionRange
from vagram_ray.envs.spec import EVALUATION_STEP_LIMIT
from vagram_ray.play.checkpoint import read_agent
from vagram_ray.play.configuration import load_named_extensions
from vagram_ray.play.locate import find_checkpoint

PRETRAINED = Path(__file__).parents[1] / "pretrained" / "pendulum_vagram"


def export_policy(
    actor: SquashedGaussianActor, action_space: gymnasium.spaces.Box, path: Path
) -> None:
    """Write one seed's deterministic policy to an .npz file.

    Args:
        actor: The policy's network, of a single seed.
        action_space: The environment's; the network's actions are in [-1, 1].
        path: Ends with .npz.
    """
    network, scale = actor.network, actor.scale
    parameters = [view[0].numpy(force=True) for view in network.views[: 2 * network.num_layers]]
    layers = {f"weight_{i}": weight for i, weight in enumerate(parameters[0::2])}  # (in, out)
    layers |= {f"bias_{i}": bias for i, bias in enumerate(parameters[1::2])}  # (1, out)
    np.savez(
        path,
        **layers,
        obs_mean=scale.obs_mean[0, 0].numpy(force=True),  # 0 and 1 without normalize_observations
        obs_std=scale.obs_std[0, 0].numpy(force=True),
        normalize_features=network.normalize_features,
        action_low=action_space.low,
        action_high=action_space.high,
    )


def load_policy(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The policy: observation (D,) or a batch (N, D) to actions in the environment's range."""
    with np.load(path) as file:
        data = dict(file)
    num_layers = sum(name.startswith("weight_") for name in data)

    def policy(obs: np.ndarray) -> np.ndarray:
        hidden = (np.atleast_2d(obs).astype(np.float32) - data["obs_mean"]) / data["obs_std"]
        for i in range(num_layers - 1):
            hidden = np.maximum(hidden @ data[f"weight_{i}"] + data[f"bias_{i}"], 0.0)
        if data["normalize_features"]:
            hidden = hidden / np.maximum(np.linalg.norm(hidden, axis=-1, keepdims=True), 1e-12)
        outputs = hidden @ data[f"weight_{num_layers - 1}"] + data[f"bias_{num_layers - 1}"]
        mean = outputs[:, : outputs.shape[1] // 2]  # the rest is for exploration
        low, high = data["action_low"].astype(np.float64), data["action_high"].astype(np.float64)
        share, dtype = (np.tanh(mean) + 1.0) / 2.0, data["action_low"].dtype
        if dtype.kind in "iub":  # each whole number has an equal share of [-1, 1]
            action = np.floor(low + share * (high - low + 1.0))
        else:
            action = low + share * (high - low)
        action = np.clip(action, low, high).astype(dtype)
        return action if obs.ndim == 2 else action[0]

    return policy


def largest_difference(
    policy: Callable[[np.ndarray], np.ndarray], actor: SquashedGaussianActor, env: gymnasium.Env
) -> float:
    """Compare with the trained network on observations from the whole observation space."""
    env.observation_space.seed(0)
    obs = np.stack([env.observation_space.sample() for _ in range(1000)])
    obs = np.clip(obs, -10.0, 10.0).astype(np.float32)  # unbounded spaces give anything
    actions = actor.mean_action(torch.as_tensor(obs)[None])[0].numpy(force=True)  # in [-1, 1]
    expected = ActionRange(env.action_space).rescale(actions)
    return float(np.abs(policy(obs).astype(np.float64) - expected).max())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "checkpoint", nargs="?", default=PRETRAINED, help="folder of a checkpoint or of a trial"
    )
    parser.add_argument("--seed", type=int, help="one of the cohort's seeds (its first)")
    parser.add_argument("--output", type=Path, default=Path("policy.npz"), help="file to write")
    parser.add_argument("--extension", action="append", default=[], help="file of an own loss")
    args = parser.parse_args()
    output = args.output
    if output.suffix != ".npz":
        output = output.with_name(f"{output.name}.npz")

    try:
        load_named_extensions(args.extension)
        agent = read_agent(find_checkpoint(args.checkpoint), args.seed)
    except InputError as error:
        parser.error(str(error))
    actor = agent.actor()
    # With its distractors, if it has any, and with what its wrappers have kept.
    env = agent.environment.make(agent.seed, evaluation=True, lasting=agent.lasting)
    export_policy(actor, env.action_space, output)
    policy = load_policy(output)
    print(f"{output}: {agent.title}, {output.stat().st_size / 1024:.0f} KiB")
    difference = largest_difference(policy, actor, env)
    print(f"largest difference to the trained network over 1000 observations: {difference:.1e}")

    returns, steps, seconds = [], 0, 0.0
    for _ in range(10):
        obs, episode_return = env.reset()[0], 0.0
        for _ in range(EVALUATION_STEP_LIMIT):  # of environments that end no episode themselves
            started = time.perf_counter()
            action = policy(obs)
            seconds += time.perf_counter() - started
            obs, reward, terminated, truncated, _ = env.step(action)
            steps, episode_return = steps + 1, episode_return + float(reward)
            if terminated or truncated:
                break
        returns.append(episode_return)
    microseconds = 1e6 * seconds / steps
    print(f"ten episodes: mean return {np.mean(returns):.1f}, {microseconds:.0f} us per action")
