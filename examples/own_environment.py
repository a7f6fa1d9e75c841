"""An environment of your own, and the function that tells which imagined transitions end it.

A drone in a box has to fly to the middle and stay there; touching a wall ends the episode. A
model-based agent imagines transitions without the simulator, so it has to be told which of them
end: that is the termination function. It restates what the environment decides, and this script
checks on random flights that both always agree.

    python examples/own_environment.py
    python examples/own_environment.py --epochs 10
"""

import argparse

import gymnasium
import numpy as np
import torch

from vagram_ray.envs import EnvironmentSpec, register_termination
from vagram_ray.rllib import MBPOConfig

WALL = 1.0
"""Metres from the middle to each wall."""


class DroneInABox(gymnasium.Env):
    """Observes position (m) and velocity (m/s) in the plane; acts by acceleration (m/s^2)."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape=(4,), dtype=np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, shape=(2,), dtype=np.float32)
    seconds_per_step = 0.1

    def reset(self, *, seed=None, options=None):
        """Start at rest, anywhere but near a wall."""
        super().reset(
            seed=seed
        )  # seeds self.np_random; with no other source, checkpoints are exact
        self.position, self.velocity = self.np_random.uniform(-0.7, 0.7, size=2), np.zeros(2)
        return self._obs(), {}

    def step(self, action):
        """Accelerate for a tenth of a second; the reward is 1 in the middle and 0 at the walls."""
        self.velocity = self.velocity + self.seconds_per_step * np.asarray(action, dtype=np.float64)
        self.position = self.position + self.seconds_per_step * self.velocity
        obs = self._obs()
        crashed = bool((np.abs(obs[:2]) >= WALL).any())
        reward = 0.0 if crashed else 1.0 - np.abs(self.position).max() / WALL
        return obs, float(reward), crashed, False, {}

    def _obs(self):
        return np.concatenate([self.position, self.velocity]).astype(np.float32)


def drone_crashes(obs, action, next_obs):
    """Tensors (..., D), (..., A) in [-1, 1] and (..., D) to a bool tensor (...): True ends it."""
    return (next_obs[..., :2].abs() >= WALL).any(dim=-1)


if "DroneInABox-v0" not in gymnasium.registry:
    gymnasium.register("DroneInABox-v0", entry_point=DroneInABox, max_episode_steps=50)
register_termination("DroneInABox-v0", drone_crashes)


def check_termination(num_steps: int = 2000) -> None:
    """Fly at random and compare the environment with the termination function at every step."""
    spec = EnvironmentSpec("DroneInABox-v0")
    env, terminates = spec.make(seed=0), spec.termination()
    env.action_space.seed(0)
    obs, ends, disagreements = env.reset()[0], 0, 0
    for _ in range(num_steps):
        action = env.action_space.sample()
        next_obs, _, terminated, truncated, _ = env.step(action)
        said = terminates(*(torch.as_tensor(array) for array in (obs, action, next_obs)))
        ends, disagreements = ends + terminated, disagreements + (bool(said) != terminated)
        obs = env.reset()[0] if terminated or truncated else next_obs
    print(f"random flights: {num_steps} steps, {ends} crashes, {disagreements} disagreements")


def train(epochs: int) -> None:
    """Train an agent on the environment by its name."""
    config = (
        MBPOConfig()
        .environment("DroneInABox-v0")
        .training(
            extensions=__file__,  # trials are processes of their own and import this file first
            actor_hidden_sizes=(64, 64),
            critic_hidden_sizes=(64, 64),
            train_batch_size_per_learner=128,
            actor_lr=1e-3,
            critic_lr=1e-3,
            alpha_lr=1e-3,
            utd_ratio=5,
            num_layers=2,
            hidden_size=64,
            ensemble_size=3,
            num_elites=2,
            model_max_epochs=20,
            epoch_length=200,
            num_steps_sampled_before_learning_starts=200,
            model_train_freq=100,
            rollouts_per_step=20,
            real_ratio=(0, 1, 1.0, 0.05),
        )
    )
    algo = config.build_algo()
    report("untrained", algo.evaluate()["eval"])
    for _ in range(epochs):
        result = algo.train()
        crashes = result["model"]["imagined_termination_share"]
        report(
            f"env steps {result['env_steps']:5d}",
            result["eval"],
            f"   imagined crashes {crashes:.1%}",
        )


def report(name: str, evaluation: dict[str, float], more: str = "") -> None:
    """Print the mean return and length of the evaluation's episodes."""
    returns, lengths = evaluation["episode_return"], evaluation["episode_length"]
    print(
        f"{name:15s}   return {returns:5.1f} of at most 50   episode length {lengths:5.1f}{more}",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3, help="epochs of 200 environment steps")
    args = parser.parse_args()
    check_termination()
    train(args.epochs)
