"""An ``MBPOConfig`` as plain data: what a checkpoint and a sweep's folder keep of it, and what makes two runs the same.

Kept is every setting that determines a run's numbers, except the seeds. Left out is where and how it runs: resources,
checkpoints, time limits, logging. Plain data is JSON's: reading it back executes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from vagram_ray.core.model_losses import get_model_loss
from vagram_ray.core.settings import EXECUTION_SETTINGS, LASTING_SETTINGS, MODEL_SETTINGS, MBPOSettings
from vagram_ray.envs.distractors import current_distractor_settings, distractor_settings_without_effect
from vagram_ray.envs.naming import environment_name
from vagram_ray.rllib.values import MBPOValues

Config = TypeVar("Config", bound=MBPOValues)

OBJECT = "$object"
"""Key of the one-entry dict that stands for a value that is no plain data: its name, for people to read."""


def setting_names() -> tuple[str, ...]:
    """Names of the settings that determine a run's numbers, in the order in which they are shown."""
    fields = (name for name in MBPOSettings.field_names() if name not in EXECUTION_SETTINGS)
    distractors = ("num_distractors", "distractor_process", "distractor_scale", "distractor_reset")
    environment = ("env", "env_config", *distractors)
    evaluation = ("evaluation_interval", "evaluation_duration", "evaluation_config")
    return (*environment, *fields, *evaluation, "extensions", "initial_checkpoint", "initial_parts")


def plain_settings(config: MBPOValues) -> dict[str, Any]:
    """Every setting that determines the numbers of a run, by name, as JSON holds it.

    Equal settings give equal dicts: tuples become lists, NumPy's numbers Python's, RLlib's ``explore=True`` becomes
    ``"sample"``, an extension's file its bare name (where it lies changes nothing), an environment's class its name.
    A value that is no plain data becomes ``{"$object": "module.name"}``.
    """
    settings = {name: to_plain_value(getattr(config, name)) for name in setting_names()}
    if callable(config.env):
        settings["env"] = environment_name(config.env)
    if isinstance(settings["explore"], bool):
        settings["explore"] = "sample" if settings["explore"] else "mean"
    extensions: Any = config.extensions
    extensions = (extensions,) if isinstance(extensions, str) else extensions
    settings["extensions"] = [os.path.basename(name) for name in extensions]
    settings["env_config"] = settings["env_config"] or {}
    settings["evaluation_config"] = settings["evaluation_config"] or None
    return settings


def config_from_plain(config: Config, settings: Mapping[str, Any], seeds: tuple[int, ...]) -> Config:
    """``config`` with the settings of ``plain_settings`` put into it. Extensions are the caller's to load.

    An environment that ``config`` has as a class, and that the settings name, stays that class.

    Settings that an earlier version kept go on as what they meant (``current_distractor_settings``).

    Raises:
        ValueError: If a value was no plain data, so that nobody can rebuild it.
    """
    settings = current_distractor_settings(settings)
    given = config.env if callable(config.env) and environment_name(config.env) == settings.get("env") else None
    for name in setting_names():
        if name not in settings or name == "extensions" or (name == "env" and given is not None):
            continue
        value = settings[name]
        if lost := _lost_object(value):
            raise ValueError(
                f"{name} holds {lost}, which is no plain data and is not kept; give the configuration yourself."
            )
        if isinstance(getattr(config, name), tuple) and isinstance(value, list):
            value = tuple(value)
        setattr(config, name, value)
    config.seeds = seeds
    return config


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ: name to (old, new). One that either side does not know yet is as its default.

    What has no effect on either side is no difference. ``old`` may be of an earlier version.
    """
    defaults = plain_settings(MBPOValues())
    old, new = {**defaults, **current_distractor_settings(old)}, {**defaults, **new}
    unused = settings_without_effect(old) & settings_without_effect(new)
    both = {name: (old.get(name), new.get(name)) for name in {**old, **new} if name not in unused}
    return {name: (before, after) for name, (before, after) in both.items() if before != after}


def lasting_differences(saved: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Those of ``differences`` that networks keep, so that saved ones cannot go on with ``own``."""
    changed = differences(saved, own)
    lasting = {name: changed[name] for name in LASTING_SETTINGS if name in changed}
    for name in ("probabilistic", "model_loss"):  # both say whether the model has outputs for a variance
        if name in changed and _variance_head(saved) != _variance_head(own):
            return lasting | {name: changed[name]}
    return lasting


def listed_differences(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """``hidden_size=200 there and 32 here, num_layers=4 there and 2 here``."""
    return ", ".join(f"{name}={there!r} there and {here!r} here" for name, (there, here) in changed.items())


def _variance_head(settings: Mapping[str, Any]) -> bool | None:
    """Whether the model predicts a variance, or None without a model."""
    loss, probabilistic = settings.get("model_loss"), settings.get("probabilistic", "auto")
    if loss == "none" or not isinstance(loss, str):
        return None
    return get_model_loss(loss).probabilistic if probabilistic == "auto" else bool(probabilistic)


def settings_without_effect(settings: Mapping[str, Any]) -> frozenset[str]:
    """Names of settings that change no number here: the model's for plain SAC, some of the distractors'."""
    model = MODEL_SETTINGS - {"model_loss"} if settings.get("model_loss") == "none" else frozenset()
    start = frozenset({"initial_parts"} if settings.get("initial_checkpoint") is None else ())
    return model | start | EXECUTION_SETTINGS | distractor_settings_without_effect(settings)


def to_plain_value(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain_value(item) for item in value]
    named = value if hasattr(value, "__qualname__") else type(value)
    return {OBJECT: f"{named.__module__}.{named.__qualname__}"}


def _lost_object(value: Any) -> str | None:
    if isinstance(value, Mapping):
        if list(value) == [OBJECT] and isinstance(value[OBJECT], str):
            return str(value[OBJECT])
        return next((lost for item in value.values() if (lost := _lost_object(item))), None)
    if isinstance(value, list):
        return next((lost for item in value if (lost := _lost_object(item))), None)
    return None
