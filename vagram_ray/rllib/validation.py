"""Checks of an ``MBPOConfig``: each error is one sentence that names the value and the way out."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ray.tune.search.sample import Domain

from vagram_ray.core.settings import MBPOSettings
from vagram_ray.rllib.env_runner import MBPOEnvRunner
from vagram_ray.rllib.learner import MBPOLearner
from vagram_ray.rllib.rl_module import MBPORLModule
from vagram_ray.rllib.unused_settings import CALLED, refused_settings, uncalled_callbacks
from vagram_ray.rllib.values import MBPOValues
from vagram_ray.text import did_you_mean

# What RLlib itself puts on a config object beside the settings. Tune's own begin with an underscore.
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


def check_keys(config: MBPOValues) -> None:
    """Refuse attributes that no setting stands for. RLlib would carry a misspelt key along in silence."""
    accepted = {*vars(type(config)()), *_RLLIB_ATTRIBUTES}
    unknown = [key for key in vars(config) if key not in accepted and not key.startswith("_")]
    if unknown:
        raise ValueError(unknown_key_message(unknown, config.known_keys()))


def is_search_space(value: Any) -> bool:
    """Whether only Tune can turn it into a value."""
    return isinstance(value, Domain) or (isinstance(value, dict) and "grid_search" in value)


def check_resolved(config: MBPOValues) -> None:
    """Refuse search spaces, which only Tune can turn into values."""
    for key in config.known_keys():
        value = getattr(config, key)
        if is_search_space(value):
            raise ValueError(
                f"{key} still is a search space ({value!r}); give the config to ray.tune.Tuner, or set a value."
            )


def checked_seeds(seeds: Any) -> tuple[int, ...]:
    """The cohort's seeds as a tuple. A single number is a cohort of one."""
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


def check_fixed_settings(config: MBPOValues) -> None:
    """Refuse settings of RLlib that would be ignored or cannot work."""
    defaults = type(config)()
    own = set(MBPOSettings.field_names())
    for name, reason in refused_settings().items():
        if name in own:
            continue
        value, default = getattr(config, name), getattr(defaults, name)
        if value != default:
            shown = {"framework_str": "framework", "input_": "input"}.get(name, name.lstrip("_"))
            raise ValueError(f"{shown}={value!r} is not usable: {reason}.")
    if config.is_multi_agent:
        raise ValueError(f"policies={sorted(config.policies)!r} is not usable: MBPO is a single-agent method.")
    if uncalled := uncalled_callbacks(config):
        raise ValueError(
            f"callbacks {', '.join(uncalled)} are not usable, because nothing calls them: a cohort's environments step "
            f"together, without RLlib's episodes and samples. These are called: {', '.join(CALLED)}."
        )
    _check_classes(config)
    _check_resources(config)


def _check_classes(config: MBPOValues) -> None:
    spec = config._rl_module_spec
    given = {
        "env_runner_cls": (config.env_runner_cls, MBPOEnvRunner),
        "learner_class": (config.learner_class, MBPOLearner),
        "rl_module_spec": (getattr(spec, "module_class", type(spec)) if spec is not None else None, MBPORLModule),
    }
    for name, (value, base) in given.items():
        if value is not None and not (isinstance(value, type) and issubclass(value, base)):
            raise ValueError(f"{name}={value!r} is not usable: give a subclass of {base.__module__}.{base.__name__}.")


def _check_resources(config: MBPOValues) -> None:
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


def check_evaluation(config: MBPOValues) -> None:
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
