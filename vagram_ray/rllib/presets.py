"""Groups of hyperparameters that several experiments share, as keyword arguments of ``MBPOConfig.training``.

Three of them are facts from public configuration files, with a full set of values for each task:

- ``published_settings``: the paper's authors (pairlab/vagram at cc7e2e4).
- ``janner_settings``: MBPO's authors (jannerm/mbpo at ac694ff), whose hyperparameters Appendix E.1 names.
- ``mbrl_lib_settings``: mbrl-lib (facebookresearch/mbrl-lib at 3f93ccc), whose hyperparameters Appendix D names.

They hold what the files say. What the programs do beyond their files is in docs/paper_differences.md. That early
stopping watches the squared error is from their code, but for VaGraM's: the published code watches its loss
(``early_stopping_metric="loss"``).
``workstation_settings``, ``laptop_settings`` and ``smoke_settings`` are ours: for runs of a night, of minutes and of
seconds on two cores.
"""

from __future__ import annotations

from typing import Any

from vagram_ray.text import did_you_mean

_PAPER_MIX = (0, 40, 1.0, 0.05)
"""Appendix E.1: from 0 to 95 % imagined data over the first 40 epochs."""

# A column for each task, in the order of the tasks. The first rows are one value for all tasks in the files, too.
_PUBLISHED_TASKS = (
    "Hopper", "Hopper with distractors", "Walker2d", "HalfCheetah", "Ant", "Humanoid", "Pendulum", "ContinuousCartPole",
    "InvertedPendulum",
)  # fmt: skip
_PUBLISHED: dict[str, tuple[Any, ...]] = {
    "gamma": (0.99,) * 9,
    "tau": (0.005,) * 9,
    "initial_alpha": (0.1,) * 9,
    "train_batch_size_per_learner": (256,) * 9,
    "actor_hidden_sizes": ((1024, 1024),) * 9,
    "critic_hidden_sizes": ((1024, 1024),) * 9,
    "normalize_features": (True,) * 9,
    "num_layers": (4,) * 9,
    "hidden_size": (200,) * 9,
    "ensemble_size": (7,) * 9,
    "num_elites": (5,) * 9,
    "validation_fraction": (0.2,) * 9,
    "value_gradient_clip_percentile": (95.0,) * 9,
    "early_stopping_metric": ("squared_error",) * 9,
    "num_steps_sampled_before_learning_starts": (10_000,) * 9,
    "rollouts_per_step": (400,) * 9,
    "epoch_length": (1000, 1000, 1000, 1000, 1000, 1000, 100, 200, 250),
    "actor_lr": (3e-5, 3e-5, 3e-4, 3e-4, 3e-4, 3e-4, 3e-4, 3e-4, 3e-4),
    "critic_lr": (3e-4, 3e-4, 3e-4, 3e-5, 3e-4, 1e-5, 3e-5, 3e-4, 3e-4),
    "alpha_lr": (3e-4, 3e-4, 3e-3, 3e-4, 3e-3, 3e-4, 3e-4, 1e-4, 1e-4),
    "target_entropy": (-1.0, -1.0, -3.0, -3.0, -3.0, -2.0, -3.0, -0.05, -0.05),
    "actor_update_period": (1, 1, 4, 4, 4, 16, 4, 1, 1),
    "target_update_period": (4, 4, 1, 4, 1, 8, 4, 4, 4),
    "utd_ratio": (20, 20, 20, 40, 20, 20, 40, 20, 20),
    "model_lr": (1e-3, 1e-3, 3e-4, 1e-3, 3e-4, 5e-4, 1e-3, 1e-3, 1e-3),
    "model_weight_decay": (5e-5, 5e-5, 2e-5, 2e-5, 2e-5, 3e-6, 2e-5, 5e-5, 5e-5),
    "model_batch_size": (1024, 1024, 256, 256, 256, 256, 256, 256, 256),
    "model_patience": (10, 10, 10, 1, 10, 5, 1, 5, 5),
    "model_max_epochs": (None, None, None, 50, None, None, 50, None, None),
    "model_train_freq": (250, 250, 250, 250, 250, 250, 50, 200, 250),
    "imagined_epochs_retained": (1, 1, 1, 1, 1, 5, 1, 1, 1),
    "rollout_length": (
        (20, 150, 1, 5), (20, 150, 1, 1), (20, 150, 1, 1), (20, 150, 1, 1), (20, 100, 1, 25), (20, 300, 1, 5),
        (20, 150, 1, 1), (1, 15, 1, 1), (1, 15, 1, 1),
    ),
    "real_ratio": (  # 1 - model_data_likelihood. The files of Pendulum and InvertedPendulum have none
        (0, 20, 1.0, 0.05), (0, 50, 1.0, 0.05), (0, 10, 1.0, 0.05), (0, 10, 1.0, 0.05), (0, 10, 1.0, 0.05),
        (0, 50, 0.8, 0.05), _PAPER_MIX, (1, 5, 1.0, 0.05), _PAPER_MIX,
    ),
}  # fmt: skip

_JANNER_TASKS = ("Hopper", "Walker2d", "HalfCheetah", "Ant", "Humanoid", "InvertedPendulum")
_JANNER: dict[str, tuple[Any, ...]] = {
    "gamma": (0.99,) * 6,
    "tau": (0.005,) * 6,
    "initial_alpha": (1.0,) * 6,
    "train_batch_size_per_learner": (256,) * 6,
    "actor_hidden_sizes": ((256, 256),) * 6,
    "critic_hidden_sizes": ((256, 256),) * 6,
    "normalize_features": (False,) * 6,
    "actor_lr": (3e-4,) * 6,
    "critic_lr": (3e-4,) * 6,
    "alpha_lr": (3e-4,) * 6,
    "actor_update_period": (1,) * 6,
    "target_update_period": (1,) * 6,
    "num_layers": (4,) * 6,
    "ensemble_size": (7,) * 6,
    "num_elites": (5,) * 6,
    "validation_fraction": (0.2,) * 6,
    "model_lr": (1e-3,) * 6,
    "model_weight_decay": (7.5e-5,) * 6,  # ours: the median of their five layers
    "model_batch_size": (256,) * 6,
    "model_patience": (5,) * 6,
    "model_max_epochs": (None,) * 6,
    "early_stopping_metric": ("squared_error",) * 6,
    "real_ratio": ((0, 1, 0.05, 0.05),) * 6,
    "epoch_length": (1000, 1000, 1000, 1000, 1000, 250),
    "target_entropy": (-1.0, -3.0, -3.0, -4.0, -2.0, -0.05),
    "utd_ratio": (20, 20, 40, 20, 20, 10),
    "hidden_size": (200, 200, 200, 200, 400, 200),
    "num_steps_sampled_before_learning_starts": (5000, 5000, 5000, 5000, 5000, 500),
    "model_train_freq": (250, 250, 250, 250, 1000, 250),
    "rollouts_per_step": (400, 400, 400, 400, 100, 400),  # theirs: 100,000 after each fit
    "imagined_epochs_retained": (1, 1, 1, 1, 5, 1),
    "rollout_length": (
        (20, 150, 1, 15), (20, 150, 1, 1), (20, 150, 1, 1), (20, 100, 1, 25), (20, 300, 1, 25), (1, 15, 1, 1),
    ),
}  # fmt: skip

_MBRL_LIB_TASKS = ("Hopper", "Walker2d", "HalfCheetah", "Ant", "Humanoid", "ContinuousCartPole", "InvertedPendulum")
_MBRL_LIB_WIDTHS = ((512, 512), (1024, 1024), (512, 512), (1024, 1024), (1024, 1024), (256, 256), (256, 256))
_MBRL_LIB: dict[str, tuple[Any, ...]] = {
    "gamma": (0.99,) * 7,
    "tau": (0.005,) * 7,
    "train_batch_size_per_learner": (256,) * 7,
    "normalize_features": (False,) * 7,
    "actor_update_period": (1,) * 7,
    "num_layers": (4,) * 7,
    "hidden_size": (200,) * 7,
    "ensemble_size": (7,) * 7,
    "num_elites": (5,) * 7,
    "validation_fraction": (0.2,) * 7,
    "model_batch_size": (256,) * 7,
    "model_max_epochs": (None,) * 7,
    "early_stopping_metric": ("squared_error",) * 7,
    "num_steps_sampled_before_learning_starts": (5000,) * 7,
    "rollouts_per_step": (400,) * 7,
    "real_ratio": ((0, 1, 0.0, 0.0),) * 7,
    "epoch_length": (1000, 1000, 1000, 1000, 1000, 200, 250),
    "actor_hidden_sizes": _MBRL_LIB_WIDTHS,
    "critic_hidden_sizes": _MBRL_LIB_WIDTHS,
    "actor_lr": (3e-4, 1e-4, 3e-4, 1e-4, 1e-4, 3e-4, 3e-4),
    "critic_lr": (3e-4, 1e-4, 3e-4, 1e-4, 1e-4, 3e-4, 3e-4),
    "alpha_lr": (0.0, 0.0, 3e-4, 0.0, 0.0, 3e-4, 3e-4),  # 0: the temperature stays as it is
    "initial_alpha": (0.2, 0.2, 1.0, 0.2, 0.2, 1.0, 1.0),  # where it is learned, the code starts from 1
    "target_entropy": (1.0, -1.0, -1.0, -1.0, -1.0, -0.05, -1.0),  # without effect where alpha_lr is 0
    "target_update_period": (4, 4, 1, 4, 4, 4, 1),
    "utd_ratio": (40, 20, 10, 20, 20, 20, 10),
    "model_lr": (1e-3, 1e-3, 1e-3, 3e-4, 3e-4, 1e-3, 1e-3),
    "model_weight_decay": (1e-5, 1e-5, 1e-5, 5e-5, 5e-5, 5e-5, 1e-5),
    "model_patience": (5, 10, 5, 10, 10, 5, 5),
    "model_train_freq": (250, 250, 250, 250, 250, 200, 250),
    "imagined_epochs_retained": (1, 1, 1, 1, 5, 1, 1),
    "rollout_length": (
        (20, 150, 1, 15), (20, 150, 1, 1), (20, 150, 1, 1), (20, 100, 1, 25), (20, 300, 1, 25), (1, 15, 1, 1),
        (1, 15, 1, 1),
    ),
}  # fmt: skip


def published_settings(task: str, *, distractors: bool = False) -> dict[str, Any]:
    """The hyperparameters of a task in the configuration files that the paper's authors published.

    Not from the task's file are: the mix of data of Pendulum and InvertedPendulum, whose files have none (the paper's
    text: over 40 epochs), and how the 10,000 first steps are taken (theirs: by the untrained policy, ours: uniformly
    random actions). Humanoid's file is for dm_control's humanoid-walk, cartpole's for ``ContinuousCartPole-v0``.

    Args:
        task: An environment id or its name without the version: ``"Hopper-v4"``, ``"Hopper"``.
        distractors: The file for Hopper with distracting dimensions. ``num_distractors`` is set with the environment.

    Raises:
        ValueError: There is no published file for the task. The message lists those that there are.
    """
    name = _task_name(task)
    if distractors and name != "Hopper":
        raise ValueError(
            f"task={task!r} has no published settings with distractors, only 'Hopper' has: leave distractors away and "
            "give num_distractors to the environment."
        )
    column = f"{name} with distractors" if distractors else task
    return _settings_of(column, _PUBLISHED_TASKS, _PUBLISHED, "published settings")


def janner_settings(task: str) -> dict[str, Any]:
    """The hyperparameters of a task in the code of MBPO's authors (Janner et al., 2019).

    Their weight decay grows with the layer, from 2.5e-5 over 5e-5 and twice 7.5e-5 to 1e-4. Ours is one value: the
    median. Their fit stops at the sixth epoch without improvement, ours at the fifth. Real data are 5 % from the start.
    The paper's own mix is ``real_ratio=(0, 40, 1.0, 0.05)``. Ant and Humanoid are without contact forces.

    Args:
        task: An environment id or its name without the version: ``"Hopper-v4"``, ``"Hopper"``.

    Raises:
        ValueError: They have no file for the task. The message lists those that there are.
    """
    return _settings_of(task, _JANNER_TASKS, _JANNER, "settings of Janner et al.")


def mbrl_lib_settings(task: str) -> dict[str, Any]:
    """The hyperparameters of a task in mbrl-lib's MBPO (Pineda et al., 2021).

    Hopper, Walker2d, Ant and Humanoid have a fixed temperature (``alpha_lr=0``). SAC sees no real data, except, here,
    before the first fit of the model. The paper's own mix is ``real_ratio=(0, 40, 1.0, 0.05)``. The 5,000 first steps
    are the untrained policy's in mbrl-lib and uniformly random here.

    Args:
        task: An environment id or its name without the version: ``"Hopper-v4"``, ``"Hopper"``.

    Raises:
        ValueError: It has no file for the task. The message lists those that there are.
    """
    return _settings_of(task, _MBRL_LIB_TASKS, _MBRL_LIB, "settings of mbrl-lib")


def _task_name(task: str) -> str:
    return task.rpartition("-v")[0] or task


def _settings_of(task: str, tasks: tuple[str, ...], table: dict[str, tuple[Any, ...]], what: str) -> dict[str, Any]:
    """The column of a task in a table with a column for each of ``tasks``."""
    name = _task_name(task)
    if name not in tasks:
        known = [known for known in tasks if " " not in known]  # a variant is asked for by an argument
        hint = did_you_mean(name, known, most=1, show=repr)
        raise ValueError(f"task={task!r} has no {what}; there are {', '.join(known)}{f'; {hint}' if hint else '.'}")
    column = tasks.index(name)
    return {key: values[column] for key, values in table.items()}


def laptop_settings() -> dict[str, Any]:
    """Small networks and short epochs for runs of a few thousand steps. Evaluations of 5 episodes suit them.

    They name all that ``published_settings`` names, so that the laptop scale of a sweep has nothing left of what its
    larger scale takes from there.
    The step sizes suit returns of about -1000 to 1000. Each loss and plain SAC has the same. They were chosen on
    Pendulum with seeds 100 to 103. Half of each batch stays real and rollouts grow to five steps: so ``vagram`` ends
    above plain SAC on Pendulum with ten distractors. Seeds 0 to 15 chose that, 100 to 115 confirmed it
    (docs/results.md). The paper's mix is ``real_ratio=(0, 2, 1.0, 0.05), rollout_length=(20, 150, 1, 1)``.
    """
    return {
        "gamma": 0.99,
        "tau": 0.005,
        "initial_alpha": 0.1,
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
        "model_lr": 1e-3,
        "model_weight_decay": 5e-5,
        "model_batch_size": 256,
        "model_patience": 5,
        "model_max_epochs": None,
        "early_stopping_metric": "loss",
        "validation_fraction": 0.2,
        "value_gradient_clip_percentile": 95.0,
        "epoch_length": 200,
        "num_steps_sampled_before_learning_starts": 400,
        "model_train_freq": 100,
        "rollouts_per_step": 100,
        "rollout_length": (1, 5, 1, 5),
        "imagined_epochs_retained": 1,
        "utd_ratio": 10,
        "real_ratio": (0, 2, 1.0, 0.5),
    }


def workstation_settings() -> dict[str, Any]:
    """Hopper itself with smaller networks: a night for 8 seeds of 65,000 steps on a core. 5 episodes suit evaluations.

    They name all that ``published_settings`` names. Members, elites, step size and weight decay of the model, and
    the mix of data are those of the published file for Hopper, rollouts of one step those of its file for
    distractors. The model has members of 2 x 64 and batches of 256. SAC has 2 x 128 units without normalised
    features, batches of 128, the step sizes, target updates, patience and first steps of Janner et al., and half of
    their updates per environment step.
    """
    return published_settings("Hopper") | {
        "actor_hidden_sizes": (128, 128),
        "critic_hidden_sizes": (128, 128),
        "normalize_features": False,
        "train_batch_size_per_learner": 128,
        "actor_lr": 3e-4,
        "target_update_period": 1,
        "num_layers": 2,
        "hidden_size": 64,
        "model_batch_size": 256,
        "model_patience": 5,
        "num_steps_sampled_before_learning_starts": 5000,
        "rollout_length": (20, 150, 1, 1),
        "utd_ratio": 10,
    }


def dmc_settings() -> dict[str, Any]:
    """For dm_control's suite (``"dm_control/hopper-hop-v0"``): MBPO's usual sizes, with rollouts of one step.

    They name all that ``published_settings`` names. Networks, step sizes and the mix of data are those of Janner et al.
    for HalfCheetah, with 20 updates per environment step. An environment step is two of the simulator's controls
    (``action_repeat``), an epoch two episodes. MBPO is reported to fail here, and to work with
    ``prediction_target="next_obs"``, ``normalize_dynamics_targets`` and ``normalize_reward_targets``
    (arXiv 2510.01457): those three are the caller's.
    """
    return janner_settings("HalfCheetah") | {
        "target_entropy": "auto",
        "utd_ratio": 20,
        "rollout_length": (20, 150, 1, 1),
        "epoch_length": 1000,
        "num_steps_sampled_before_learning_starts": 5000,
        "model_train_freq": 250,
    }


def smoke_settings() -> dict[str, Any]:
    """Every phase once or twice in seconds, to show that everything runs, and nothing else. Two epochs suffice."""
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
    }
