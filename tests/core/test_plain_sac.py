"""``model_loss="none"``: plain SAC, which no setting of the model touches."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from tests.core.toy import PointEnvs, small_agent, small_settings
from vagram_ray.core.settings import MODEL_SETTINGS, MBPOSettings

OTHER_VALUES = {
    "model_loss_options": {"state_weight": 2.0},
    "reward_weight": 3.0,
    "weight_terminal": "mean",
    "early_stopping_metric": "squared_error",
    "num_layers": 1,
    "hidden_size": 3,
    "ensemble_size": 6,
    "num_elites": 1,
    "probabilistic": True,
    "prediction_target": "next_obs",
    "normalize_dynamics_targets": True,
    "normalize_reward_targets": True,
    "model_lr": 0.5,
    "model_weight_decay": 0.1,
    "model_batch_size": 7,
    "model_patience": 1,
    "model_max_epochs": 1,
    "model_improvement_threshold": 0.5,
    "validation_fraction": 0.5,
    "value_gradient_clip_percentile": 50.0,
    "termination": "learned",
    "model_train_freq": 7,
    "rollouts_per_step": 9,
    "rollout_length": (0, 1, 2, 3),
    "rollout_truncation": "disagreement",
    "rollout_truncation_quantile": 0.5,
    "rollout_truncation_factor": 2.0,
    "real_ratio": (0, 1, 0.5, 0.1),
    "imagined_epochs_retained": 3,
}


def test_settings_of_the_model_change_nothing() -> None:
    assert set(OTHER_VALUES) == MODEL_SETTINGS - {"model_loss"}
    defaults = small_settings(model_loss="none")
    assert all(getattr(defaults, name) != value for name, value in OTHER_VALUES.items())
    returns, weights = [], []
    for settings in ({}, OTHER_VALUES):
        agent, envs = small_agent(model_loss="none", **settings), PointEnvs((0, 1))
        returns.append([agent.train_epoch(envs)["train/episode_return"] for _ in range(2)])
        weights.append(agent.actor.flat.detach().clone())
    np.testing.assert_array_equal(*returns)
    assert torch.equal(*weights)


def test_every_setting_named_after_the_model_is_one_of_the_models() -> None:
    names = {field.name for field in dataclasses.fields(MBPOSettings) if field.name.startswith("model_")}
    assert names <= MODEL_SETTINGS
