"""Seeds whose environments return numbers that are not finite, seen from the algorithm."""

import gymnasium as gym
import numpy as np
import pytest

from vagram_ray.rllib import MBPOConfig

pytestmark = pytest.mark.usefixtures("ray_session")

TINY = {
    "model_loss": "none",
    "actor_hidden_sizes": (8, 8),
    "critic_hidden_sizes": (8, 8),
    "train_batch_size_per_learner": 8,
    "utd_ratio": 1,
    "epoch_length": 8,
    "num_steps_sampled_before_learning_starts": 8,
}


class Sensor(gym.Env):
    """Returns NaN as reward while `loose`."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    loose = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action):
        return self.np_random.normal(size=2).astype(np.float32), np.nan if self.loose else 1.0, False, False, {}


@pytest.fixture
def env_id():
    gym.register("LooseSensor-v0", entry_point=Sensor, max_episode_steps=4)
    yield "LooseSensor-v0"
    del gym.registry["LooseSensor-v0"]


@pytest.mark.filterwarnings("ignore:environment 'LooseSensor-v0'")
def test_a_faulty_environment_costs_its_seed_and_the_last_one_ends_the_trial(env_id):
    config = MBPOConfig().environment(env_id).training(**TINY, seeds=(5, 6)).evaluation(evaluation_duration=1)
    algo = config.build_algo()
    try:
        sound = algo.train()
        assert not sound["done"] and "environment_faults" not in sound
        algo.env_runner.env._envs[0].unwrapped.loose = True
        first = algo.train()
        # 8 steps of warm-up, 8 of the first epoch: the first step of the second one.
        assert first["environment_faults"] == [
            "environment 'LooseSensor-v0', seed 5, training step 17, returned the reward nan, but a finite float32 "
            "number is wanted"
        ]
        assert [first["seeds"][f"seed_{seed}"]["failed"] for seed in (5, 6)] == [1, 0]
        assert [first["seeds"][f"seed_{seed}"].get("environment_fault") for seed in (5, 6)] == [1, None]
        assert not first["done"] and first["seeds"]["seed_6"]["eval"]["episode_return"] == 4.0
        algo.env_runner.evaluation_env._envs[1].unwrapped.loose = True
        last = algo.train()
        assert last["done"] and [last["seeds"][f"seed_{seed}"]["failed"] for seed in (5, 6)] == [1, 1]
        assert last["all_seeds_failed"].startswith(
            "Training in environment 'LooseSensor-v0' ends after epoch 3, because every seed (5, 6) has failed: "
            "environment 'LooseSensor-v0', seed 5, training step 17, returned the reward nan"
        )
        assert last["all_seeds_failed"].endswith("(and 1 more).")
        assert "seed 6, evaluation step 9, returned the reward nan" in last["environment_faults"][1]
    finally:
        algo.stop()


def test_messages_call_the_arguments_as_users_wrote_them():
    config = MBPOConfig().environment("Pendulum-v1", env_config={"gravity": 3}).training(**TINY)
    with pytest.raises(ValueError, match=r"no argument 'gravity' \(from env_config\)"):
        config.validate()
