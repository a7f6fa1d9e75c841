"""RLlib's settings and callbacks: which have an effect on ``MBPO``, and why the others are refused."""

from __future__ import annotations

import functools
from typing import Any

from ray.rllib.algorithms.algorithm_config import DEPRECATED_VALUE, AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback

_ONE_PROCESS = (
    "the method alternates single environment steps with updates, so a trial is one process; "
    "raise the number of seeds or of trials instead"
)
_ONE_EPOCH = "one training iteration is one epoch; set epoch_length instead"
_NO_CONNECTORS = "MBPO does not run connector pipelines; wrap the environment instead"
_ONLINE_ONLY = "MBPO collects its own transitions and neither reads nor writes datasets"
_WRAP = "actions in [-1, 1] are rescaled to the environment's range and rewards are used as they are; wrap it instead"
_UNUSED = "MBPO has no use for it; leave it out"

FIXED_SETTINGS: dict[str, str] = {
    "num_learners": _ONE_PROCESS,
    "num_env_runners": _ONE_PROCESS,
    "evaluation_num_env_runners": _ONE_PROCESS,
    "num_aggregator_actors_per_learner": _ONE_PROCESS,
    "evaluation_parallel_to_training": _ONE_PROCESS,
    "create_local_env_runner": _ONE_PROCESS,
    "num_envs_per_env_runner": "there is one environment per seed; set seeds instead",
    "seed": "the random numbers of a cohort come from its seeds; use .training(seeds=...)",
    "evaluation_duration_unit": "evaluation runs whole episodes, evaluation_duration of them for every seed",
    "custom_evaluation_function": "evaluation is exact per seed; use callbacks on_evaluate_end for more",
    "offline_evaluation_interval": _ONLINE_ONLY,
    "num_offline_eval_runners": _ONLINE_ONLY,
    "input_": _ONLINE_ONLY,
    "output": _ONLINE_ONLY,
    "framework_str": "MBPO is written in PyTorch",
    "enable_rl_module_and_learner": "MBPO runs on RLlib's new API stack only",
    "enable_env_runner_and_connector_v2": "MBPO runs on RLlib's new API stack only",
    "lr": "set actor_lr, critic_lr, alpha_lr and model_lr instead",
    "grad_clip": "MBPO does not clip gradients of its networks",
    "train_batch_size": "set train_batch_size_per_learner instead",
    "minibatch_size": "set train_batch_size_per_learner instead",
    "num_epochs": "set utd_ratio, the updates per environment step, instead",
    "num_gpus": "use .learners(num_gpus_per_learner=...)",
    "num_gpus_per_env_runner": "use .learners(num_gpus_per_learner=...)",
    "num_cpus_per_env_runner": "use .learners(num_cpus_per_learner=...)",
    "min_time_s_per_iteration": _ONE_EPOCH,
    "min_train_timesteps_per_iteration": _ONE_EPOCH,
    "min_sample_timesteps_per_iteration": _ONE_EPOCH,
    "rollout_fragment_length": _ONE_EPOCH,
    "batch_mode": "an epoch is epoch_length steps of every seed, whole episodes or not; set epoch_length instead",
    "metrics_num_episodes_for_smoothing": "a result's returns are of its own epoch",
    "normalize_actions": _WRAP,
    "clip_actions": _WRAP,
    "clip_rewards": _WRAP,
    "observation_filter": "set normalize_observations=True instead",
    "observation_space": "the environment declares its own spaces",
    "action_space": "the environment declares its own spaces",
    "exploration_config": "the policy itself explores; set explore to 'sample' or 'mean'",
    "model": "set actor_hidden_sizes, critic_hidden_sizes, num_layers and hidden_size instead",
    "optimizer": "MBPO's optimizers are Adam; set actor_lr, critic_lr, alpha_lr and model_lr instead",
    "_env_to_module_connector": _NO_CONNECTORS,
    "_module_to_env_connector": _NO_CONNECTORS,
    "_learner_connector": _NO_CONNECTORS,
    "_model_config": "set actor_hidden_sizes, critic_hidden_sizes and normalize_features instead",
    "torch_compile_learner": "set execution instead",
    "torch_compile_worker": "set execution instead",
}
"""Settings of RLlib that keep their default here, and why."""

_WITH_EFFECT = (
    "algo_class", "extra_python_environs_for_driver", "extra_python_environs_for_worker", "placement_strategy",
    "num_cpus_for_main_process", "custom_resources_for_main_process", "num_cpus_per_learner", "num_gpus_per_learner",
    "custom_resources_per_learner", "local_gpu_idx", "learner_config_dict", "gamma", "explore", "env", "env_config",
    "env_runner_cls", "callbacks_class", "evaluation_interval", "evaluation_duration", "evaluation_config",
    "in_evaluation", "log_level", "log_sys_usage", "stats_cls_lookup",
)  # fmt: skip
_CHECKED_ELSEWHERE = ("policies", "policy_mapping_fn")  # functions are others in another process

CALLED = (
    "on_algorithm_init", "on_environment_created", "on_train_result", "on_evaluate_start", "on_evaluate_end",
    "on_checkpoint_loaded",
)  # fmt: skip
"""RLlib's callbacks that are called."""
_NEVER_DUE = frozenset({"on_env_runners_recreated", "on_offline_eval_runners_recreated", "on_workers_recreated"})
"""Callbacks for what cannot happen here: nobody waits for them."""


@functools.cache
def refused_settings() -> dict[str, str]:
    """Every setting of RLlib that has to keep its default, and why."""
    defaults = vars(AlgorithmConfig())
    spared = {*_WITH_EFFECT, *_CHECKED_ELSEWHERE}
    unused = {
        name: _UNUSED
        for name, value in defaults.items()
        if not name.startswith(("_", "callbacks_on_")) and value != DEPRECATED_VALUE and name not in spared
    }
    return unused | FIXED_SETTINGS


def uncalled_callbacks(config: AlgorithmConfig) -> list[str]:
    """Callbacks that are given and that nothing would call."""
    classes: Any = config.callbacks_class
    classes = classes if isinstance(classes, list | tuple) else [classes]
    names = [name for name in dir(RLlibCallback) if name.startswith("on_")]
    return [name for name in names if name not in (*CALLED, *_NEVER_DUE) and _is_given(name, config, classes)]


def _is_given(name: str, config: AlgorithmConfig, classes: Any) -> bool:
    if getattr(config, f"callbacks_{name}", None) is not None:
        return True
    return any(getattr(own, name, None) is not getattr(RLlibCallback, name) for own in classes)
