"""Cartpole with a continuous force."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

CARTPOLE_ID = "ContinuousCartPole-v0"
CARTPOLE_HORIZON = 200
"""Steps per episode of the registered environment."""


class ContinuousCartPole(CartPoleEnv):
    """Gymnasium's cartpole (same physics, start states and limits) pushed with any force up to 10 N.

    The action is one number in [-1, 1], times 10 N (`force_mag`). Numbers outside are clipped. At -1 and 1 the
    dynamics are those of ``CartPole-v1``. Observations are float32 (position in m, velocity in m/s, pole angle
    in rad, angular velocity in rad/s). The reward is 1 for every step, the last one included. An episode
    terminates when the cart leaves +-2.4 m or the pole +-12 degrees. The registered ``ContinuousCartPole-v0``
    truncates after 200 steps.
    """

    def __init__(self, render_mode: str | None = None) -> None:
        """Build the environment. `render_mode` as for ``CartPole-v1``."""
        super().__init__(render_mode=render_mode)
        self.action_space = gym.spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Push the cart for 0.02 s with ``10 N * action`` (explicit Euler step).

        Raises:
            RuntimeError: when called before the first `reset`.
        """
        if self.state is None:
            raise RuntimeError("step() was called before reset(): call reset() first")
        force = self.force_mag * float(np.clip(np.asarray(action).reshape(()), -1.0, 1.0))
        position, velocity, angle, angular_velocity = self.state
        acceleration, angular_acceleration = self._accelerations(angle, angular_velocity, force)
        self.state = np.array(
            [
                position + self.tau * velocity,
                velocity + self.tau * acceleration,
                angle + self.tau * angular_velocity,
                angular_velocity + self.tau * angular_acceleration,
            ]
        )
        terminated = bool(abs(self.state[0]) > self.x_threshold or abs(self.state[2]) > self.theta_threshold_radians)
        if self.render_mode == "human":
            self.render()
        return self.state.astype(np.float32), 1.0, terminated, False, {}

    def _accelerations(self, angle: float, angular_velocity: float, force: float) -> tuple[float, float]:
        """Accelerations of cart (m/s^2) and pole (rad/s^2), Florian (2007), eqs. 23 and 24 without friction."""
        sine, cosine = np.sin(angle), np.cos(angle)
        push = (force + self.polemass_length * angular_velocity**2 * sine) / self.total_mass
        inertia = self.length * (4.0 / 3.0 - self.masspole * cosine**2 / self.total_mass)
        angular_acceleration = (self.gravity * sine - cosine * push) / inertia
        return push - self.polemass_length * angular_acceleration * cosine / self.total_mass, angular_acceleration


def register_cartpole() -> None:
    """Register ``ContinuousCartPole-v0`` with Gymnasium, once."""
    if CARTPOLE_ID not in gym.registry:
        gym.register(
            id=CARTPOLE_ID,
            entry_point="vagram_ray.envs.cartpole:ContinuousCartPole",
            max_episode_steps=CARTPOLE_HORIZON,
        )
