"""What a checkpoint's ``config.json`` describes: hyperparameters and an environment. Nothing it names is executed."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from vagram_ray.core.model_losses import get_model_loss
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs import EnvironmentSpec
from vagram_ray.envs.distractors import current_distractor_settings
from vagram_ray.envs.dm_control import is_dm_control
from vagram_ray.play.errors import PlayError
from vagram_ray.records import SweepError, SweepFolder
from vagram_ray.records.folder import SWEEP_FILE_COPY

OBJECT = "$object"
"""Key of the one-entry dict that stands for a value that was no plain data (``rllib.plain_config``)."""
_DISTRACTOR_SETTINGS = ("num_distractors", "distractor_process", "distractor_scale", "distractor_reset")


def load_named_extensions(names: Sequence[str]) -> None:
    """Import what the user names with ``--extension``: files and modules with losses and environments.

    Raises:
        PlayError: One of them cannot be imported.
    """
    if not names:
        return
    for name in names:
        if name.endswith(".py") and not Path(name).expanduser().is_file():
            raise PlayError(f"--extension {name!r}: there is no such file; give the path of one, or a module's name.")
    from vagram_ray.rllib.extensions import ExtensionError, load_extensions  # imports Ray, and starts nothing

    for name in names:
        try:
            load_extensions(name)
        except ExtensionError as error:
            raise PlayError(f"--extension {str(error).removeprefix('extensions: ')}") from error


def read_configuration(folder: Path, config: Mapping[str, Any]) -> tuple[MBPOSettings, EnvironmentSpec]:
    """Hyperparameters, and the environment of the evaluation, of the settings in ``config.json``.

    Args:
        folder: The checkpoint, for messages.
        config: Its settings by name. One that the checkpoint does not know yet has its default, or what it meant.

    Raises:
        PlayError: They need an extension that is not loaded, hold objects that are not kept, or make no sense.
    """
    try:
        _check_extensions(folder, config)
        settings = MBPOSettings(**{name: config[name] for name in MBPOSettings.field_names() if name in config})
        return settings, _evaluation_environment(config)
    except ValueError as error:
        raise cannot_be_played(folder, error) from error
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise PlayError(
            f"The settings of the checkpoint {str(folder)!r} make no sense ({type(error).__name__}: {error}); "
            "was it written by another version of vagram_ray?"
        ) from error


def cannot_be_played(folder: Path, reason: object) -> PlayError:
    """The sentence for settings that are refused."""
    return PlayError(f"{str(folder)!r} cannot be played: {str(reason).rstrip('.')}.")


def missing_extensions(config: Mapping[str, Any]) -> list[str]:
    """Names of the extensions that the checkpoint was trained with and that this process has not imported."""
    names = config.get("extensions")
    names = names if isinstance(names, list) else []
    return [name for name in names if isinstance(name, str) and not _is_imported(name)]


def _is_imported(name: str) -> bool:
    if not name.endswith(".py"):
        return name in sys.modules
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return any(isinstance(file, str) and os.path.basename(file) == name for file in files)


def _check_extensions(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a loss or an environment that only an extension could have brought, and say how to load it."""
    if module := _missing_module(env_id := config.get("env")):
        extension = shlex.quote(_probable_path(folder, module))
        in_python = f"vagram_ray.rllib.load_extensions([{module!r}])" if module.endswith(".py") else f"import {module}"
        raise PlayError(
            f"{str(folder)!r} was trained on {env_id!r}, whose module is not imported because a checkpoint names it: "
            f"add --extension {extension} (in Python: {in_python} first)."
        )
    unknown = next(_unknown_names(config), None)
    if unknown is None:
        return
    missing = missing_extensions(config)
    if not missing:
        raise PlayError(
            f"{str(folder)!r} was trained with {unknown}, which is not registered here: install the package that "
            "brings it, or add --extension with the file or module that does."
        )
    paths = [_probable_path(folder, name) for name in missing]
    source = "the extension" if len(missing) == 1 else "one of the extensions"
    raise PlayError(
        f"{str(folder)!r} was trained with {unknown} from {source} {', '.join(map(repr, missing))}, which a "
        f"checkpoint does not make run: add {' '.join(f'--extension {shlex.quote(path)}' for path in paths)} "
        f"(in Python: vagram_ray.rllib.load_extensions({paths!r}) first)."
    )


def _unknown_names(config: Mapping[str, Any]) -> Iterator[str]:
    loss, env_id = config.get("model_loss", "none"), config.get("env")
    try:
        if loss != "none":
            get_model_loss(loss)
    except ValueError:
        yield f"model_loss={loss!r}"
    known = not isinstance(env_id, str) or env_id.rpartition(":")[2] in gym.registry or is_dm_control(env_id)
    if not known and _creator(env_id) is None:
        yield f"env={env_id!r}"


def _missing_module(env_id: Any) -> str:
    """The module or file that an environment needs and that is not imported, empty where there is none."""
    if not isinstance(env_id, str) or env_id in gym.registry:
        return ""
    from vagram_ray.rllib.environments import missing_module  # imports Ray, and starts nothing

    return missing_module(env_id)


def _creator(env_id: Any) -> Callable[[Mapping[str, Any]], Any] | None:
    """What makes an environment that is not Gymnasium's, out of what has been imported."""
    if not isinstance(env_id, str) or (env_id.rpartition(":")[2] in gym.registry and "ray.tune" not in sys.modules):
        return None  # without Ray nothing is registered there
    from vagram_ray.rllib.environments import find_creator

    return find_creator(env_id, imports=False)


def _probable_path(folder: Path, name: str) -> str:
    """Where an extension's file is likely to lie: here, or as the sweep's copy of its own file."""
    if not name.endswith(".py") or Path(name).is_file():
        return name
    sweep = folder.parent.parent
    try:
        words = shlex.split(SweepFolder(sweep).read().get("command", ""))
    except (FileNotFoundError, SweepError, ValueError):
        words = []
    copy = sweep / SWEEP_FILE_COPY
    is_sweep_file = any(os.path.basename(word) == name for word in words)
    return str(copy) if is_sweep_file and copy.is_file() else name


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
