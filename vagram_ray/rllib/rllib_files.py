"""Files that RLlib's generic loaders look for in a checkpoint. They lie beside ours, and no reader of ours opens them.

``Algorithm.from_checkpoint(path)`` and ``RLModule.from_checkpoint(path + "/" + MODULE_PATH)`` learn from a pickle which
class to build. It holds the class and its constructor's arguments. The state comes from our own files, by the class's
``restore_from_path``. RLlib unpickles whatever lies there, so these two calls are for checkpoints that one trusts.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from pyarrow.fs import FileSystem, FileType
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.utils.checkpoints import CHECKPOINT_VERSION_LEARNER_AND_ENV_RUNNER, Checkpointable

from vagram_ray.checkpoint import CheckpointFolder
from vagram_ray.checkpoint.files import resolve
from vagram_ray.checkpoint.folder import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray.rllib.core.rl_module.rl_module import RLModule

MODULE_PATH = f"{COMPONENT_LEARNER_GROUP}/{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/{DEFAULT_MODULE_ID}"
"""Where RLlib keeps a single-agent module in an algorithm's checkpoint."""


def rllib_files(algorithm_class: type, content: Mapping[str, Any], module: RLModule) -> dict[str, bytes]:
    """Content of the files for RLlib's loaders, by their path in the checkpoint.

    Args:
        algorithm_class: The class to build. Its constructor takes ``saved=content``.
        content: ``config.json`` of the checkpoint.
        module: The policy, whose constructor's arguments are kept.
    """
    version = {"checkpoint_version": str(CHECKPOINT_VERSION_LEARNER_AND_ENV_RUNNER), "ray_version": ray.__version__}
    description = {"type": "Algorithm", **version, "read_by": "vagram_ray.rllib.MBPO.from_checkpoint"}
    constructor = Checkpointable.CLASS_AND_CTOR_ARGS_FILE_NAME
    return {
        "rllib_checkpoint.json": json.dumps(description).encode(),
        "algorithm_state.msgpack": b"",  # has to be there, and is not read
        constructor: _pickled(algorithm_class, ((), {"saved": dict(content)})),
        f"{MODULE_PATH}/{constructor}": _pickled(type(module), module.get_ctor_args_and_kwargs()),
    }


def checkpoint_around(path: str | Path, filesystem: FileSystem | None = None) -> CheckpointFolder | None:
    """The checkpoint that holds the policy of which ``path`` is the usual place, or None if it is no such place."""
    filesystem, location = resolve(path, filesystem)
    root = location.rstrip("/").removesuffix(f"/{MODULE_PATH}")
    if root == location.rstrip("/") or filesystem.get_file_info(f"{root}/{MANIFEST}").type != FileType.File:
        return None
    return CheckpointFolder(filesystem, root)


def _pickled(built: type, arguments: tuple[Any, Any]) -> bytes:
    return pickle.dumps({"class": _importable(built), "ctor_args_and_kwargs": arguments})


def _importable(built: type) -> type:
    """The class as other processes import it: trials get a copy of it, and a user's own may have no module."""
    for own in built.__mro__:
        found = getattr(sys.modules.get(own.__module__), own.__name__, None)
        if isinstance(found, type) and own.__module__ != "__main__":
            return found
    return built
