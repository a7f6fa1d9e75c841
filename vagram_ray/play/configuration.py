"""What a checkpoint's ``config.json`` describes: hyperparameters and an environment. Nothing it names is executed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from vagram_ray.commands import InputError
from vagram_ray.core.model_losses import get_model_loss
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs import EnvironmentSpec
from vagram_ray.envs.distractors import current_distractor_settings
from vagram_ray.envs.dm_control import is_dm_control

OBJECT = "$object"
"""Key of the one-entry dict that stands for a value that was no plain data (``rllib.plain_config``)."""
_DISTRACTOR_SETTINGS = ("num_distractors", "distractor_process", "distractor_scale", "distractor_reset")


def load_named_extensions(names: Sequence[str]) -> None:
    """Import what the user names with ``--extension``: files and modules with losses and environments.

    Raises:
        InputError: One of them cannot be imported.
    """
    if not names:
        return
    for name in names:
        if name.endswith(".py") and not Path(name).expanduser().is_file():
            raise InputError(f"--extension {name!r}: there is no such file; give the path of one, or a module's name.")
    from vagram_ray.rllib.extensions import ExtensionError, load_extensions  # imports Ray, and starts nothing

    for name in names:
        try:
            load_extensions(name)
        except ExtensionError as error:
            raise InputError(f"--extension {str(error).removeprefix('extensions: ')}") from error


def read_configuration(folder: Path, config: Mapping[str, Any]) -> tuple[MBPOSettings, EnvironmentSpec]:
    """Hyperparameters, and the environment of the evaluation, of the settings in ``config.json``.

    Args:
        folder: The checkpoint, for messages.
        config: Its settings by name. One that the checkpoint does not know yet has its default, or what it meant.

    Raises:
        InputError: They need an extension that is not loaded, hold objects that are not kept, or make no sense.
    """
    try:
        _check_names(folder, config)
        settings = MBPOSettings(**{name: config[name] for name in MBPOSettings.field_names() if name in config})
        return settings, _evaluation_environment(config)
    except ValueError as error:
        raise cannot_be_played(folder, error) from error
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"The settings of the checkpoint {str(folder)!r} make no sense ({type(error).__name__}: {error}); "
            "was it written by another version of vagram_ray?"
        ) from error


def cannot_be_played(folder: Path, reason: object) -> InputError:
    """The sentence for settings that are refused."""
    return InputError(f"{str(folder)!r} cannot be played: {str(reason).rstrip('.')}.")


def _check_names(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a loss or an environment that only an extension could have brought, and say how to load it."""
    for unknown, brought_by in _unknown_names(config):
        extension = " ".join(f"--extension {shlex.quote(name)}" for name in brought_by)
        raise InputError(
            f"{str(folder)!r} was trained with {unknown}, which is not registered here, and a checkpoint makes nothing "
            f"run: add {extension or '--extension with the file or module that brings it'} (in Python: import it, or "
            "vagram_ray.rllib.load_extensions)."
        )


def _unknown_names(config: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """What is not registered here, and the files and modules that may bring it."""
    extensions = config.get("extensions")
    named = [name for name in extensions if isinstance(name, str)] if isinstance(extensions, list) else []
    loss, env_id = config.get("model_loss", "none"), config.get("env")
    try:
        if loss != "none":
            get_model_loss(loss)
    except ValueError:
        yield f"model_loss={loss!r}", named
    if not isinstance(env_id, str) or env_id in gym.registry:
        return
    from vagram_ray.rllib.environments import missing_module  # imports Ray, and starts nothing

    if module := missing_module(env_id):
        yield f"env={env_id!r}", [module]
    known = env_id.rpartition(":")[2] in gym.registry or is_dm_control(env_id)
    if not known and _creator(env_id) is None:
        yield f"env={env_id!r}", named


def _creator(env_id: Any) -> Callable[[Mapping[str, Any]], Any] | None:
    """What makes an environment that is not Gymnasium's, out of what has been imported."""
    if not isinstance(env_id, str) or (env_id.rpartition(":")[2] in gym.registry and "ray.tune" not in sys.modules):
        return None  # without Ray nothing is registered there
    from vagram_ray.rllib.environments import find_creator

    return find_creator(env_id, imports=False)


def _evaluation_environment(config: Mapping[str, Any]) -> EnvironmentSpec:
    config = current_distractor_settings(config)
    evaluation = config.get("evaluation_config") or {}
    keywords = _merged(config.get("env_config") or {}, evaluation.get("env_config") or {})
    for name, value in (("env", config["env"]), ("env_config", keywords)):
        if lost := next(_lost_objects(value), None):
            raise ValueError(f"{name} holds {lost}, which is no plain data and is not kept in a checkpoint")
    distractors = {name: config[name] for name in _DISTRACTOR_SETTINGS if name in config}
    return EnvironmentSpec(config["env"], env_kwargs=keywords, creator=_creator(config["env"]), **distractors)


def _merged(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """``update`` over ``base``, nested dictionaries key by key, as RLlib merges an evaluation's ``env_config``."""
    merged = dict(base)
    for key, value in update.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged


def _lost_objects(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if list(value) == [OBJECT] and isinstance(value[OBJECT], str):
            yield value[OBJECT]
        for item in value.values():
            yield from _lost_objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _lost_objects(item)
