"""Figure 6 of the paper: the MuJoCo tasks, each with its own hyperparameters, and Humanoid, which the paper left out.

HalfCheetah is run with one-step rollouts and with rollouts that grow to five steps. Ant has 27 dimensions (no contact
forces) and Humanoid 45 (positions and velocities), as in MBPO. Run it with
``python -m vagram_ray.sweep tune_configs/mujoco.py --scale smoke|laptop|paper``, one task alone with
``--set task=Walker2d``.
"""

from ray import tune

from vagram_ray.rllib import MBPOConfig, laptop_settings, published_settings, smoke_settings
from vagram_ray.sweep import Scale, Sweep

config = (
    MBPOConfig()
    .training(model_loss=tune.grid_search(["vagram", "nll", "none"]))
    .evaluation(evaluation_interval=1, evaluation_duration=10)
)

POSITIONS_AND_VELOCITIES = {
    f"include_{name}_in_observation": False for name in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
}
ENVIRONMENTS = {
    "Hopper": {"env": "Hopper-v4"},
    "Walker2d": {"env": "Walker2d-v4"},
    "HalfCheetah": {"env": "HalfCheetah-v4"},
    "Ant": {"env": "Ant-v4"},
    "Humanoid": {"env": "Humanoid-v5", "env_config": POSITIONS_AND_VELOCITIES},
}
TASKS = {name: {**environment, **published_settings(name)} for name, environment in ENVIRONMENTS.items()}
TASKS["HalfCheetah"]["rollout_length"] = tune.grid_search([(20, 150, 1, 1), (20, 150, 1, 5)])

SWEEP = Sweep(
    name="mujoco",
    description="Figure 6: the MuJoCo tasks without added difficulties.",
    config=config,
    variants={"task": TASKS},
    seeds=8,
    epochs=300,
    scales={
        "smoke": Scale(epochs=2, seeds=1, overrides={**smoke_settings(), "model_loss": "vagram"}),
        # Far too short to solve a task: the first 3,000 steps of what takes hundreds of thousands.
        "laptop": Scale(
            epochs=5,
            seeds=4,
            overrides={
                **laptop_settings(),
                "epoch_length": 500,
                "num_steps_sampled_before_learning_starts": 500,
                "model_train_freq": 250,
            },
            variants={"task": ENVIRONMENTS},
        ),
        "paper": Scale(),
    },
)
