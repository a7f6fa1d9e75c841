"""RLlib's own SAC learner, to be timed beside ours; needs Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def rllib_update(obs_dim: int, action_dim: int, batch_size: int, width: int) -> Callable[[], Any]:
    """One ``Learner.update`` with two ReLU layers in encoder-free networks, from a batch in memory."""
    import gymnasium as gym
    import numpy as np
    from ray.rllib.algorithms.sac import SACConfig
    from ray.rllib.core import DEFAULT_MODULE_ID
    from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

    obs_space = gym.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
    config = (
        SACConfig()
        .environment(observation_space=obs_space, action_space=action_space)
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=batch_size, num_steps_sampled_before_learning_starts=0)
        .rl_module(model_config={"fcnet_hiddens": [width], "fcnet_activation": "relu",
                                 "head_fcnet_hiddens": [width], "head_fcnet_activation": "relu"})
    )  # fmt: skip
    learner = config.build_learner(spaces={DEFAULT_MODULE_ID: (obs_space, action_space)})
    rng = np.random.default_rng(0)
    columns = {
        "obs": rng.standard_normal((batch_size, obs_dim)),
        "new_obs": rng.standard_normal((batch_size, obs_dim)),
        "actions": np.tanh(rng.standard_normal((batch_size, action_dim))),
        "rewards": rng.standard_normal(batch_size),
        "terminateds": np.zeros(batch_size, bool),
        "truncateds": np.zeros(batch_size, bool),
        "weights": np.ones(batch_size),
        "n_step": np.ones(batch_size),
    }
    batch = SampleBatch({name: value.astype(np.float32) for name, value in columns.items()})
    whole = MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=batch_size)
    timesteps = {"num_env_steps_sampled_lifetime": 0}

    def update() -> None:
        timesteps["num_env_steps_sampled_lifetime"] += 1
        learner.update(batch=whole, timesteps=timesteps)

    return update
