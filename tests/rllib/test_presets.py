"""The shared groups of hyperparameters, against tables typed from the public configuration files."""

from __future__ import annotations

from typing import Any

import pytest

from vagram_ray.rllib import (
    MBPOConfig,
    janner_settings,
    laptop_settings,
    mbrl_lib_settings,
    published_settings,
    smoke_settings,
    workstation_settings,
)

ENVIRONMENTS = {
    "Hopper": "Hopper-v4",
    "Walker2d": "Walker2d-v4",
    "HalfCheetah": "HalfCheetah-v4",
    "Ant": "Ant-v4",
    "Humanoid": "Humanoid-v5",
    "Pendulum": "Pendulum-v1",
    "ContinuousCartPole": "ContinuousCartPole-v0",
    "InvertedPendulum": "InvertedPendulum-v4",
}

# The files of pairlab/vagram at cc7e2e4, key by key in the files' own words; "-" where a file does not have the key.
PUBLISHED_FILES = """
key                                Hopper       Hopper+distr  Walker2d     HalfCheetah  Ant          Humanoid       Pendulum     ContinuousCartPole InvertedPendulum
epoch_length                       1000         1000          1000         1000         1000         1000           100          200                250
num_elites                         5            5             5            5            5            5              5            5                  5
patience                           10           10            10           1            10           5              1            5                  5
model_lr                           0.001        0.001         0.0003       0.001        0.0003       5e-4           0.001        0.001              0.001
model_wd                           5e-05        5e-05         2e-05        2e-05        2e-05        3e-6           2e-05        5e-05              5e-05
model_batch_size                   1024         1024          256          256          256          256            256          256                256
validation_ratio                   0.2          0.2           0.2          0.2          0.2          0.2            0.2          0.2                0.2
freq_train_model                   250          250           250          250          250          250            50           200                250
effective_model_rollouts_per_step  400          400           400          400          400          400            400          400                400
rollout_schedule                   20,150,1,5   20,150,1,1    20,150,1,1   20,150,1,1   20,100,1,25  20,300,1,5     20,150,1,1   1,15,1,1           1,15,1,1
model_data_likelihood              0,20,0,.95   0,50,0,.95    0,10,0,.95   0,10,0,.95   0,10,0,.95   0,50,.2,.95    -            1,5,0,.95          -
num_sac_updates_per_step           20           20            20           40           20           20             40           20                 20
num_epochs_to_retain_sac_buffer    1            1             1            1            1            5              1            1                  1
sac_critic_lr                      0.0003       0.0003        0.0003       3e-05        0.0003       1e-5           3e-05        0.0003             0.0003
sac_actor_lr                       3e-05        3e-05         0.0003       0.0003       0.0003       3e-4           0.0003       0.0003             0.0003
sac_alpha_lr                       0.0003       0.0003        0.003        0.0003       0.003        3e-4           0.0003       0.0001             0.0001
sac_critic_target_update_frequency 4            4             1            4            1            8              4            4                  4
sac_actor_update_frequency         1            1             4            4            4            16             4            1                  1
sac_target_entropy                 -1           -1            -3           -3           -3           -2             -3           -0.05              -0.05
num_epochs_train_model             -            -             -            50           -            -              50           -                  -
"""  # noqa: E501
PUBLISHED_FOR_ALL = {
    "early_stopping_metric": "squared_error",
    "actor_hidden_sizes": (1024, 1024),
    "critic_hidden_sizes": (1024, 1024),
    "normalize_features": True,
    "initial_alpha": 0.1,
    "gamma": 0.99,
    "tau": 0.005,
    "train_batch_size_per_learner": 256,
    "num_steps_sampled_before_learning_starts": 10_000,
    "ensemble_size": 7,
    "num_layers": 4,
    "hidden_size": 200,
    "value_gradient_clip_percentile": 95,
}

JANNER_FILES = """
key                      Hopper       Walker2d    HalfCheetah  Ant          Humanoid     InvertedPendulum
epoch_length             1000         1000        1000         1000         1000         250
n_train_repeat           20           20          40           20           20           10
model_train_freq         250          250         250          250          1000         250
model_retain_epochs      1            1           1            1            5            1
target_entropy           -1           -3          -3           -4           -2           -0.05
rollout_schedule         20,150,1,15  20,150,1,1  20,150,1,1   20,100,1,25  20,300,1,25  1,15,1,1
hidden_dim               200          200         200          200          400          200
initial_steps            5000         5000        5000         5000         5000         500
"""
JANNER_FOR_ALL = {
    "early_stopping_metric": "squared_error",
    "actor_hidden_sizes": (256, 256),
    "critic_hidden_sizes": (256, 256),
    "normalize_features": False,
    "actor_lr": 3e-4,
    "critic_lr": 3e-4,
    "alpha_lr": 3e-4,
    "initial_alpha": 1.0,
    "actor_update_period": 1,
    "target_update_period": 1,
    "gamma": 0.99,
    "tau": 0.005,
    "train_batch_size_per_learner": 256,
    "real_ratio": (0, 1, 0.05, 0.05),
    "ensemble_size": 7,
    "num_elites": 5,
    "num_layers": 4,
    "model_lr": 1e-3,
    "model_batch_size": 256,
    "model_patience": 5,
    "model_max_epochs": None,
    "validation_fraction": 0.2,
}
JANNER_DECAYS = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)

MBRL_LIB_FILES = """
key                                Hopper       Walker2d    HalfCheetah  Ant          Humanoid     ContinuousCartPole InvertedPendulum
epoch_length                       1000         1000        1000         1000         1000         200                250
num_elites                         5            5           5            5            5            5                  5
patience                           5            10          5            10           10           5                  5
model_lr                           0.001        0.001       0.001        0.0003       0.0003       0.001              0.001
model_wd                           1e-5         1e-5        1e-5         5e-5         5e-5         5e-5               1e-5
model_batch_size                   256          256         256          256          256          256                256
validation_ratio                   0.2          0.2         0.2          0.2          0.2          0.2                0.2
freq_train_model                   250          250         250          250          250          200                250
effective_model_rollouts_per_step  400          400         400          400          400          400                400
rollout_schedule                   20,150,1,15  20,150,1,1  20,150,1,1   20,100,1,25  20,300,1,25  1,15,1,1           1,15,1,1
num_sac_updates_per_step           40           20          10           20           20           20                 10
num_epochs_to_retain_sac_buffer    1            1           1            1            5            1                  1
sac_critic_target_update_frequency 4            4           1            4            4            4                  1
sac_automatic_entropy_tuning       false        false       true         false        false        true               true
sac_target_entropy                 1            -1          -1           -1           -1           -0.05              -1
sac_hidden_size                    512          1024        512          1024         1024         256                256
sac_lr                             3e-4         1e-4        3e-4         1e-4         1e-4         3e-4               3e-4
"""  # noqa: E501
MBRL_LIB_FOR_ALL = {
    "early_stopping_metric": "squared_error",
    "normalize_features": False,
    "gamma": 0.99,
    "tau": 0.005,
    "train_batch_size_per_learner": 256,
    "actor_update_period": 1,
    "num_steps_sampled_before_learning_starts": 5000,
    "real_ratio": (0, 1, 0.0, 0.0),
    "ensemble_size": 7,
    "num_layers": 4,
    "hidden_size": 200,
    "model_max_epochs": None,
}

OUR_NAMES = {
    "num_elites": "num_elites",
    "epoch_length": "epoch_length",
    "patience": "model_patience",
    "model_lr": "model_lr",
    "model_wd": "model_weight_decay",
    "model_batch_size": "model_batch_size",
    "validation_ratio": "validation_fraction",
    "freq_train_model": "model_train_freq",
    "model_train_freq": "model_train_freq",
    "effective_model_rollouts_per_step": "rollouts_per_step",
    "num_sac_updates_per_step": "utd_ratio",
    "n_train_repeat": "utd_ratio",
    "num_epochs_to_retain_sac_buffer": "imagined_epochs_retained",
    "model_retain_epochs": "imagined_epochs_retained",
    "sac_critic_lr": "critic_lr",
    "sac_actor_lr": "actor_lr",
    "sac_alpha_lr": "alpha_lr",
    "sac_critic_target_update_frequency": "target_update_period",
    "sac_actor_update_frequency": "actor_update_period",
    "sac_target_entropy": "target_entropy",
    "target_entropy": "target_entropy",
    "hidden_dim": "hidden_size",
    "initial_steps": "num_steps_sampled_before_learning_starts",
}


def columns(table: str) -> dict[str, dict[str, str]]:
    """The cells of a table by task and key."""
    (_, *tasks), *rows = (line.split() for line in table.strip().splitlines())
    return {task: {row[0]: row[1 + place] for row in rows} for place, task in enumerate(tasks)}


def in_our_words(cells: dict[str, str]) -> dict[str, Any]:
    """A column of a file in the words of ``MBPOSettings``; what the file does not have is left out."""
    ours: dict[str, Any] = {}
    for key, text in cells.items():
        if text == "-":
            continue
        if key == "rollout_schedule":
            ours["rollout_length"] = tuple(int(part) for part in text.split(","))
        elif key == "model_data_likelihood":  # of imagined data; ours is the real share
            first, last, start, end = (float(part) for part in text.split(","))
            ours["real_ratio"] = (first, last, pytest.approx(1 - start), pytest.approx(1 - end))
        elif key == "num_epochs_train_model":
            ours["model_max_epochs"] = int(text)
        elif key == "sac_hidden_size":
            ours["actor_hidden_sizes"] = ours["critic_hidden_sizes"] = (int(text), int(text))
        elif key == "sac_lr":
            ours["actor_lr"] = ours["critic_lr"] = float(text)
        elif key == "sac_automatic_entropy_tuning":
            continue
        else:
            ours[OUR_NAMES[key]] = float(text)
    return ours


@pytest.mark.parametrize("task", columns(PUBLISHED_FILES))
def test_published_settings_are_the_published_files(task: str) -> None:
    cells = columns(PUBLISHED_FILES)[task]
    settings = published_settings(task.partition("+")[0], distractors="+" in task)
    expected = {"model_max_epochs": None, **PUBLISHED_FOR_ALL, **in_our_words(cells)}
    if cells["model_data_likelihood"] == "-":
        expected["real_ratio"] = (0, 40, 1.0, 0.05)  # the paper's text
    assert settings == expected


@pytest.mark.parametrize("task", columns(JANNER_FILES))
def test_janner_settings_are_their_files(task: str) -> None:
    cells = columns(JANNER_FILES)[task]
    settings = janner_settings(task)
    assert settings.pop("model_weight_decay") == sorted(JANNER_DECAYS)[2], "the median: ours is one value"
    assert settings.pop("rollouts_per_step") == 100_000 / float(cells["model_train_freq"])
    assert settings == {**JANNER_FOR_ALL, **in_our_words(cells)}


@pytest.mark.parametrize("task", columns(MBRL_LIB_FILES))
def test_mbrl_lib_settings_are_its_files(task: str) -> None:
    cells = columns(MBRL_LIB_FILES)[task]
    learned = cells["sac_automatic_entropy_tuning"] == "true"
    temperature = {"initial_alpha": 1.0 if learned else 0.2, "alpha_lr": float(cells["sac_lr"]) if learned else 0.0}
    assert mbrl_lib_settings(task) == {**MBRL_LIB_FOR_ALL, **in_our_words(cells), **temperature}


@pytest.mark.parametrize("preset", [published_settings, janner_settings, mbrl_lib_settings])
def test_each_preset_works_for_its_environments(preset: Any) -> None:
    table = {published_settings: PUBLISHED_FILES, janner_settings: JANNER_FILES, mbrl_lib_settings: MBRL_LIB_FILES}
    for task in columns(table[preset]):
        if "+" not in task:
            env = ENVIRONMENTS[task]
            MBPOConfig().environment(env).training(**preset(env)).validate()


def test_distractors_change_rollouts_and_mix_alone() -> None:
    plain, distracted = published_settings("Hopper"), published_settings("Hopper-v4", distractors=True)
    assert {key for key in plain if plain[key] != distracted[key]} == {"rollout_length", "real_ratio"}


def test_another_task_with_distractors_does_not_get_hoppers_values() -> None:
    with pytest.raises(ValueError, match=r"task='Walker2d-v4' has no published settings with distractors.*'Hopper'"):
        published_settings("Walker2d-v4", distractors=True)


def test_what_is_returned_is_the_callers() -> None:
    published_settings("Hopper")["gamma"] = 0.5
    assert published_settings("Hopper")["gamma"] == 0.99


def test_an_unknown_task_is_refused_with_the_closest() -> None:
    with pytest.raises(ValueError, match=r"task='Hoper-v4' has no published settings.*did you mean 'Hopper'\?"):
        published_settings("Hoper-v4")
    with pytest.raises(ValueError, match=r"task='Pendulum-v1' has no settings of Janner et al.; there are Hopper, "):
        janner_settings("Pendulum-v1")
    with pytest.raises(ValueError, match=r"task='Pendulum-v1' has no settings of mbrl-lib; there are Hopper, "):
        mbrl_lib_settings("Pendulum-v1")


@pytest.mark.parametrize("small", [workstation_settings, laptop_settings, smoke_settings])
def test_small_settings_are_settings_of_training(small: Any) -> None:
    MBPOConfig().environment("Pendulum-v1").training(**small()).validate()
    for task, env in ENVIRONMENTS.items():
        MBPOConfig().environment(env).training(**{**published_settings(task), **small()}).to_settings()


def test_our_settings_leave_nothing_of_a_published_task() -> None:
    published = published_settings("Hopper", distractors=True)
    assert published.keys() <= laptop_settings().keys()
    assert published.keys() <= workstation_settings().keys()
