"""``MBPOConfig.initialize_from``: a run that starts with the networks of a finished one, with other settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyarrow.fs import FileSystem

from vagram_ray.checkpoint import CheckpointError, CheckpointFolder, newest_whole, read_checkpoint
from vagram_ray.checkpoint.files import resolve
from vagram_ray.checkpoint.history import OWN_FOLDER
from vagram_ray.core.initialization import PARTS, initialize_agent
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.files import below
from vagram_ray.rllib.plain_config import differences, lasting_differences, listed_differences, plain_settings
from vagram_ray.rllib.values import MBPOValues
from vagram_ray.text import did_you_mean

_SEES = ("normalize_features", "normalize_observations")
_SETTINGS_OF = {
    "actor": ("actor_hidden_sizes", *_SEES),
    "critics": ("critic_hidden_sizes", "critic_layer_norm", *_SEES),
    "model": (
        "num_layers", "hidden_size", "ensemble_size", "prediction_target", "normalize_dynamics_targets",
        "normalize_reward_targets", "probabilistic", "termination", "model_loss",
    ),
}  # fmt: skip
"""Settings that have to be the same for a part. Of a loss, only whether the model predicts a variance."""
_OF_THE_ENVIRONMENT = ("env", "env_config", "num_distractors")


def find_source(path: Any) -> str:
    """Absolute path or URI of the checkpoint that is meant: itself, or the newest whole one of a trial's folder.

    Raises:
        CheckpointError: There is none.
    """
    given = absolute(path)
    filesystem, location = resolve(given)
    try:
        CheckpointFolder(filesystem, location).manifest()
        return given
    except CheckpointError as error:
        for inside in ((), (OWN_FOLDER,)):
            if found := newest_whole(filesystem, below(location, *inside)):
                return below(given, *inside, found.path.rpartition("/")[2])
        raise CheckpointError(
            f"initialize_from: {str(error).rstrip('.')}, and it is no trial's folder that holds one."
        ) from None


def absolute(path: Any) -> str:
    """What a user gives for a checkpoint, as a path that holds in other folders too, or a URI."""
    given = os.fspath(getattr(path, "path", path)).rstrip("/")  # a checkpoint of Tune's has its place there
    return given if "://" in given else str(Path(given).expanduser().absolute())


def check_initialization(config: MBPOValues) -> None:
    """Refuse values that cannot work. What lies at the path is looked at when the run starts.

    Raises:
        ValueError: One sentence with the value and the way out.
    """
    path, parts = config.initial_checkpoint, config.initial_parts
    if path is not None and not isinstance(path, str):
        raise ValueError(f"initial_checkpoint={path!r} is not usable: give it with .initialize_from(path).")
    if isinstance(parts, str) or not isinstance(parts, Sequence) or not parts:
        raise ValueError(f"initial_parts={parts!r} is not usable: give some of {', '.join(PARTS)}.")
    for part in parts:
        if part not in PARTS:
            hint = did_you_mean(str(part), PARTS, show=repr)
            raise ValueError(
                f"initial_parts={tuple(parts)!r} is not usable: there is no part {part!r}"
                f"{f', {hint}' if hint else ''} There are {', '.join(PARTS)}."
            )


def check_fits(config: MBPOValues, path: str, filesystem: FileSystem | None = None) -> None:
    """Refuse a source whose networks are of another shape or meaning.

    Raises:
        CheckpointError: There is no checkpoint at ``path``, or it is damaged.
        ValueError: It names the settings that differ, with both values.
    """
    folder = CheckpointFolder(*resolve(path, filesystem))
    saved, own = folder.read_config()["settings"], plain_settings(config)
    wanted = {name for part in _needed(config) for name in _SETTINGS_OF.get(part, ())}
    changed = {name: values for name, values in lasting_differences(saved, own).items() if name in wanted}
    if saved.get("model_loss") == "none" and "model" in _needed(config):
        changed = {"model_loss": ("none", own["model_loss"])}
    elsewhere = differences(saved, own)
    if "num_distractors" in elsewhere and "env" not in elsewhere:
        changed["num_distractors"] = elsewhere["num_distractors"]
    if changed:
        raise ValueError(_does_not_fit(folder.path, changed))


def initialize(agent: MBPOAgent, config: MBPOValues) -> None:
    """Start ``agent`` from ``config.initial_checkpoint``.

    A seed starts from the same seed of the source. Where that is not there or has failed, from the others in turn.

    Raises:
        CheckpointError: There is no checkpoint at the path, or it is damaged.
        ValueError: It does not fit, or all its seeds have failed.
    """
    assert config.initial_checkpoint is not None
    path, parts = config.initial_checkpoint, _needed(config)
    check_fits(config, path)
    folder = CheckpointFolder(*resolve(path))
    saved, state = read_checkpoint(folder, with_buffers="buffer" in parts)
    positions = _positions(folder.path, state["agent"], agent.seeds)
    try:
        initialize_agent(agent, state["agent"], positions, parts)
    except ValueError as error:
        changed = differences(saved["settings"], plain_settings(config))
        environment = {name: changed[name] for name in _OF_THE_ENVIRONMENT if name in changed}
        raise ValueError(_does_not_fit(folder.path, environment) if environment else f"{path!r}: {error}.") from error


def _needed(config: MBPOValues) -> list[str]:
    """The parts that have an effect: plain SAC has no model."""
    return [part for part in config.initial_parts if part != "model" or config.to_settings().model_based]


def _positions(path: str, saved: Mapping[str, Any], seeds: Sequence[int]) -> list[int]:
    sound = [place for place, failed in enumerate(saved["failed"]) if not failed]
    if not sound:
        raise ValueError(f"initialize_from({path!r}): all its seeds have failed, so there is nothing to start from.")
    same = {saved["seeds"][place]: place for place in sound}
    return [same.get(seed, sound[place % len(sound)]) for place, seed in enumerate(seeds)]


def _does_not_fit(path: str, changed: Mapping[str, tuple[Any, Any]]) -> str:
    return (
        f"initialize_from({path!r}) does not fit ({listed_differences(changed)}): set the same, or ask for other parts "
        f"({', '.join(PARTS)})."
    )
