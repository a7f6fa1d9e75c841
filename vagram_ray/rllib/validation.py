"""Checks of an ``MBPOConfig``: each error is one sentence that names the value and the way out."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.search.sample import Domain

from vagram_ray.rllib.env_runner import MBPOEnvRunner
from vagram_ray.rllib.learner import MBPOLearner
from vagram_ray.rllib.rl_module import MBPORLModule
from vagram_ray.text import did_you_mean

if TYPE_CHECKING:
    from vagram_ray.rllib.config import MBPOConfig

_ONE_PROCESS = (
    "the method alternates single environment steps with updates, so a trial is one process; "
    "raise the number of seeds or of trials instead"
)
_ONE_EPOCH = "one training iteration is one epoch; set epoch_length instead"
_NO_CONNECTORS = "MBPO does not run connector pipelines; wrap the environment instead"
_ONLINE_ONLY = "MBPO collects its own transitions and neither reads nor writes datasets"
_WRAP = "actions in [-1, 1] are rescaled to the environment's range and rewards are used as they are; wrap it instead"

FIXED_SETTINGS: dict[str, str] = {
    "num_learners": _ONE_PROCESS,
    "num_env_runners": _ONE_PROCESS,
    "evaluation_num_env_runners": _ONE_PROCESS,
    "num_aggregator_actors_per_learner": _ONE_PROCESS,
    "evaluation_parallel_to_training": _ONE_PROCESS,
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
    "min_time_s_per_iteration": _ONE_EPOCH,
    "min_train_timesteps_per_iteration": _ONE_EPOCH,
    "min_sample_timesteps_per_iteration": _ONE_EPOCH,
    "normalize_actions": _WRAP,
    "clip_actions": _WRAP,
    "clip_rewards": _WRAP,
    "observation_filter": "set normalize_observations=True instead",
    "observation_space": "the environment declares its own spaces",
    "action_space": "the environment declares its own spaces",
    "_env_to_module_connector": _NO_CONNECTORS,
    "_module_to_env_connector": _NO_CONNECTORS,
    "_learner_connector": _NO_CONNECTORS,
    "_model_config": "set actor_hidden_sizes, critic_hidden_sizes and normalize_features instead",
    "torch_compile_learner": "set execution instead",
    "torch_compile_worker": "set execution instead",
}
"""Settings of RLlib that keep their default here, and why."""

# What RLlib itself puts on a config object beside the settings; Tune's own begin with an underscore.
_RLLIB_ATTRIBUTES = frozenset({"class", "worker_index"})
_HINTS = {
    "batch_size": "it is RLlib's train_batch_size_per_learner here",
    "replay_buffer_config": "MBPO keeps its own buffer on the training device; set replay_capacity instead",
    "compile": "it is execution here: 'eager' for 'off'",
    "env_kwargs": "it is RLlib's env_config here",
    "env_workers": "environments step in the trial's own process; leave it out",
}


def unknown_key_message(keys: Iterable[str], known: Iterable[str]) -> str:
    """One sentence about keys that nothing reads, each with its closest matches."""
    known = sorted(known)
    parts = []
    for key in sorted(keys):
        hint = _HINTS.get(key) or did_you_mean(key, known, show=repr)
        parts.append(f"{key!r}" + (f" ({hint})" if hint else ""))
    return f"MBPOConfig has no setting {', '.join(parts)}."


def check_keys(config: MBPOConfig) -> None:
    """Refuse attributes that no setting stands for; RLlib would carry a misspelt key along in silence."""
    accepted = {*vars(type(config)()), *_RLLIB_ATTRIBUTES}
    unknown = [key for key in vars(config) if key not in accepted and not key.startswith("_")]
    if unknown:
        raise ValueError(unknown_key_message(unknown, config.known_keys()))


def is_search_space(value: Any) -> bool:
    """Whether only Tune can turn it into a value."""
    return isinstance(value, Domain) or (isinstance(value, dict) and "grid_search" in value)


def check_resolved(config: MBPOConfig) -> None:
    """Refuse search spaces, which only Tune can turn into values."""
    for key in config.known_keys():
        value = getattr(config, key)
        if is_search_space(value):
            raise ValueError(
                f"{key} still is a search space ({value!r}); give the config to ray.tune.Tuner, or set a value."
            )


def checked_seeds(seeds: Any) -> tuple[int, ...]:
    """The cohort's seeds as a tuple; a single number is a cohort of one."""
    values = (seeds,) if isinstance(seeds, numbers.Integral) else seeds
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) == 0:
        raise ValueError(f"seeds={seeds!r} is not usable: give one whole number per seed, for example seeds=(0, 1, 2).")
    for seed in values:
        if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seeds={seeds!r} is not usable: {seed!r} is not a whole number of at least 0.")
    duplicates = sorted(int(seed) for seed, count in Counter(values).items() if count > 1)
    if duplicates:
        raise ValueError(f"seeds={seeds!r} is not usable: {duplicates[0]} occurs twice; give distinct seeds.")
    return tuple(int(seed) for seed in values)


def check_fixed_settings(config: MBPOConfig) -> None:
    """Refuse settings of RLlib that would be ignored or cannot work."""
    defaults = type(config)()
    for name, reason in FIXED_SETTINGS.items():
        value, default = getattr(config, name), getattr(defaults, name)
        if value != default:
            shown = {"framework_str": "framework", "input_": "input"}.get(name, name.lstrip("_"))
            raise ValueError(f"{shown}={value!r} is not usable: {reason}.")
    if config.is_multi_agent:
        raise ValueError(f"policies={sorted(config.policies)!r} is not usable: MBPO is a single-agent method.")
    _check_classes(config)
    _check_resources(config)


def _check_classes(config: MBPOConfig) -> None:
    spec = config._rl_module_spec
    given = {
        "env_runner_cls": (config.env_runner_cls, MBPOEnvRunner),
        "learner_class": (config.learner_class, MBPOLearner),
        "rl_module_spec": (getattr(spec, "module_class", type(spec)) if spec is not None else None, MBPORLModule),
    }
    for name, (value, base) in given.items():
        if value is not None and not (isinstance(value, type) and issubclass(value, base)):
            raise ValueError(f"{name}={value!r} is not usable: give a subclass of {base.__module__}.{base.__name__}.")


def _check_resources(config: MBPOConfig) -> None:
    for name in ("num_cpus_per_learner", "num_cpus_for_main_process"):
        cpus = getattr(config, name)
        if cpus != "auto" and (isinstance(cpus, bool) or not isinstance(cpus, (int, float)) or cpus < 0):
            raise ValueError(f"{name}={cpus!r} is not usable: give a number of CPUs of at least 0.")
    gpus = config.num_gpus_per_learner
    if not isinstance(gpus, (int, float)) or not 0 <= gpus <= 1:
        raise ValueError(
            f"num_gpus_per_learner={gpus!r} is not usable: a trial trains on one device; give 0 for the CPU, "
            "1, or a share such as 0.25 to let trials share a GPU."
        )


def check_execution(execution: str, gpus: float) -> None:
    """Refuse CUDA graphs for a trial without a GPU, and the CPU's library for one with a GPU."""
    if execution == "native" and gpus > 0:
        raise ValueError(
            "execution='native' computes on a CPU, and num_gpus_per_learner gives the trial a GPU: set "
            "execution='auto' or num_gpus_per_learner=0."
        )
    if execution == "cuda_graphs" and gpus == 0:
        raise ValueError(
            "execution='cuda_graphs' is not usable on a CPU: give the trial a GPU with num_gpus_per_learner, "
            "or set execution='auto'."
        )


def check_evaluation(config: MBPOConfig) -> None:
    """Check interval, duration and overrides of evaluation."""
    interval, duration = config.evaluation_interval, config.evaluation_duration
    if interval is not None and not (_is_whole(interval) and interval >= 0):
        raise ValueError(
            f"evaluation_interval={interval!r} is not usable: give the epochs between two evaluations, or None."
        )
    if not (_is_whole(duration) and duration >= 1):
        raise ValueError(
            f"evaluation_duration={duration!r} is not usable: give the number of episodes per seed, at least 1."
        )
    overrides = config.evaluation_config
    if overrides is None:
        return
    if not isinstance(overrides, dict):
        raise ValueError("evaluation_config is not usable: give a dict of the settings that differ in evaluation.")
    ignored = sorted(set(overrides) - {"env_config", "explore"})
    if ignored or overrides.get("explore", False) is not False:
        raise ValueError(
            f"evaluation_config={overrides!r} is not usable: evaluation differs from training by env_config alone, "
            "and its policy is the deterministic one (explore=False)."
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
