"""Groups of hyperparameters that several experiments share, as keyword arguments of ``MBPOConfig.training``.

``published_settings`` are facts from the configuration files that the paper's authors published. What is not known
from them is MBPO's (Janner et al., 2019: Humanoid, the target entropies of HalfCheetah and Ant) or ours (the mix of
data on Humanoid, Pendulum's target entropy, the warm-up of Pendulum and cartpole, how often cartpole's model is
fitted). ``laptop_settings`` and ``smoke_settings`` are ours, for runs of minutes on two cores.
"""

from __future__ import annotations

import difflib
from typing import Any

_COMMON: dict[str, Any] = {
    "gamma": 0.99,
    "tau": 0.005,
    "initial_alpha": 0.1,
    "train_batch_size_per_learner": 256,
    "actor_hidden_sizes": (1024, 1024),
    "critic_hidden_sizes": (1024, 1024),
    "normalize_features": True,
    "actor_lr": 3e-5,
    "critic_lr": 3e-4,
    "alpha_lr": 3e-4,
    "actor_update_period": 1,
    "target_update_period": 4,
    "utd_ratio": 20,
    "num_layers": 4,
    "hidden_size": 200,
    "ensemble_size": 7,
    "num_elites": 5,
    "validation_fraction": 0.2,
    "model_lr": 1e-3,
    "model_weight_decay": 5e-5,
    "model_patience": 10,
    "epoch_length": 1000,
    "model_train_freq": 250,
    "rollouts_per_step": 400,
    "rollout_length": (20, 150, 1, 1),
    "real_ratio": (0, 10, 1.0, 0.05),
}

_TASKS: dict[str, dict[str, Any]] = {
    "Hopper": {"target_entropy": -1.0, "rollout_length": (20, 150, 1, 5), "real_ratio": (0, 20, 1.0, 0.05)},
    "Walker2d": {"target_entropy": -3.0, "alpha_lr": 3e-3},
    "HalfCheetah": {
        "target_entropy": -3.0,
        "utd_ratio": 40,
        "actor_update_period": 4,
        "model_patience": 1,
        "model_max_epochs": 50,
    },
    "Ant": {"target_entropy": -4.0, "model_lr": 3e-4, "rollout_length": (20, 100, 1, 25)},
    "Humanoid": {
        "target_entropy": -2.0,
        "model_lr": 3e-4,
        "hidden_size": 400,
        "model_train_freq": 1000,
        "rollouts_per_step": 100,
        "imagined_epochs_retained": 5,
        "rollout_length": (20, 300, 1, 25),
    },
    "Pendulum": {
        "target_entropy": "auto",
        "epoch_length": 100,
        "num_steps_sampled_before_learning_starts": 400,
        "utd_ratio": 40,
        "actor_update_period": 4,
        "model_train_freq": 50,
        "model_patience": 1,
        "model_max_epochs": 50,
    },
    "ContinuousCartPole": {
        "target_entropy": -0.05,
        "epoch_length": 200,
        "num_steps_sampled_before_learning_starts": 400,
        "model_train_freq": 50,
        "model_patience": 5,
        "real_ratio": (1, 5, 1.0, 0.05),
    },
}


def published_settings(task: str, *, distractors: bool = False) -> dict[str, Any]:
    """The hyperparameters of the published configuration of a task.

    Args:
        task: An environment id or its name without the version: ``"Hopper-v4"``, ``"Hopper"``.
        distractors: The variant for distracting dimensions: one-step rollouts, real data phased out over 50 epochs.

    Raises:
        ValueError: There is no published configuration for the task; the message lists those that there are.
    """
    name = task.rpartition("-v")[0] or task
    if name not in _TASKS:
        close = difflib.get_close_matches(name, _TASKS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"task={task!r} has no published settings; there are {', '.join(_TASKS)}.{hint}")
    settings = {**_COMMON, **_TASKS[name]}
    if distractors:
        settings |= {"rollout_length": (20, 150, 1, 1), "real_ratio": (0, 50, 1.0, 0.05)}
    return settings


def laptop_settings() -> dict[str, Any]:
    """Small networks and short epochs for runs of a few thousand steps.

    The step sizes suit returns of about -1000 to 1000; each loss and plain SAC has the same. They were chosen on
    Pendulum with seeds 100 to 103, which no reported result uses.
    """
    return {
        "actor_hidden_sizes": (64, 64),
        "critic_hidden_sizes": (64, 64),
        "normalize_features": False,
        "normalize_observations": True,
        "train_batch_size_per_learner": 128,
        "actor_lr": 1e-3,
        "critic_lr": 1e-3,
        "alpha_lr": 1e-3,
        "target_entropy": "auto",
        "actor_update_period": 1,
        "target_update_period": 1,
        "num_layers": 2,
        "hidden_size": 64,
        "ensemble_size": 5,
        "num_elites": 3,
        "model_patience": 5,
        "model_max_epochs": 60,
        "epoch_length": 200,
        "num_steps_sampled_before_learning_starts": 400,
        "model_train_freq": 100,
        "rollouts_per_step": 100,
        "rollout_length": (20, 150, 1, 1),
        "utd_ratio": 10,
        "real_ratio": (0, 2, 1.0, 0.05),
        "evaluation_duration": 5,
    }


def smoke_settings() -> dict[str, Any]:
    """Every phase once or twice in seconds, to show that everything runs, and nothing else; two epochs suffice."""
    return {
        "actor_hidden_sizes": (64, 64),
        "critic_hidden_sizes": (64, 64),
        "num_layers": 2,
        "hidden_size": 64,
        "ensemble_size": 5,
        "num_elites": 3,
        "model_patience": 3,
        "model_max_epochs": 10,
        "epoch_length": 250,
        "num_steps_sampled_before_learning_starts": 500,
        "model_train_freq": 125,
        "rollouts_per_step": 20,
        "rollout_length": (20, 150, 1, 1),
        "utd_ratio": 5,
        "real_ratio": (0, 1, 1.0, 0.05),
        "evaluation_duration": 1,
    }
