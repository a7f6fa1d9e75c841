"""Stable-Baselines-Jax's SAC updates: ``python sbx_sac.py WIDTH BATCH UPDATES`` in an environment with sbx-rl.

One run is UPDATES gradient updates of one seed in one compiled call (``SAC._train``), actor, temperature and targets in
each, Hopper's dimensions, on batches that are there already.
"""

import sys

import flax.linen
import gymnasium
import jax
import numpy as np
from sbx import SAC
from sbx.common.type_aliases import ReplayBufferSamplesNp
from serve import serve

OBS_DIM, ACTION_DIM = 11, 3


class Dimensions(gymnasium.Env):
    """Hopper's spaces and nothing else."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)


def main() -> None:
    """Prepare, then serve."""
    width, batch, updates = map(int, sys.argv[1:4])
    policy = {"net_arch": [width, width], "activation_fn": flax.linen.relu}
    agent = SAC("MlpPolicy", Dimensions(), batch_size=batch, policy_kwargs=policy, buffer_size=1000, seed=0)
    rng, rows = np.random.default_rng(0), batch * updates
    data = ReplayBufferSamplesNp(
        rng.standard_normal((rows, OBS_DIM), dtype=np.float32),
        np.tanh(rng.standard_normal((rows, ACTION_DIM), dtype=np.float32)),
        rng.standard_normal((rows, OBS_DIM), dtype=np.float32),
        (rng.random(rows) < 0.1).astype(np.float32),
        rng.standard_normal(rows, dtype=np.float32),
        np.full(rows, 0.99, dtype=np.float32),
    )

    def run() -> None:
        policy = agent.policy
        policy.qf_state, policy.actor_state, agent.ent_coef_state, agent.key, _ = agent._train(
            agent.tau, agent.target_entropy, updates, data, 1, 0,
            policy.qf_state, policy.actor_state, agent.ent_coef_state, agent.key,
        )  # fmt: skip
        jax.block_until_ready(policy.actor_state.params)

    serve(run)


if __name__ == "__main__":
    main()
