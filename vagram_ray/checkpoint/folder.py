"""One checkpoint: a folder that is written completely or not at all, and whose reading executes nothing.

::

    checkpoint_000012/
      agent.safetensors      tensors of the state, but for the next two
      imagined.safetensors   tensors of the imagined buffer
      state.json             the state's plain values: counters, random generators of environments, the last result
      config.json            the settings of the run and its seeds
      manifest.json          format, size and SHA-256 of every file, the segments of the real buffer
      replay/                those segments, or ../replay/ where a run's checkpoints share them

Further files may lie beside these for other programs. They are of no checkpoint: nothing here reads them.

The manifest is written last. A folder on a disk appears under its name only when everything is in it.

An exported, *pretrained* agent is the same without buffers and optimizers: of one seed the tensors that it takes to act
and to predict. It can be played, not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyarrow.fs import FileSystem
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vagram_ray.checkpoint.errors import CheckpointError, DamagedCheckpointError, ForeignCheckpointError
from vagram_ray.checkpoint.files import (
    checksum,
    file_size,
    is_local,
    list_folder,
    new_folder,
    read_file,
    write_file,
)
from vagram_ray.checkpoint.segments import Segment, append_segment, gather_ring
from vagram_ray.checkpoint.tree import join_tree, split_tree

FORMAT, PRETRAINED_FORMAT, FORMAT_VERSION = "vagram_ray.checkpoint", "vagram_ray.pretrained", 1
MANIFEST, CONFIG, STATE = "manifest.json", "config.json", "state.json"
AGENT_TENSORS, IMAGINED_TENSORS = "agent.safetensors", "imagined.safetensors"
REPLAY, SHARED_REPLAY = "replay", "../replay"
_SENSELESS = (SafetensorError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError)
"""What values raise that make no sense, though they are as they were written."""
_FILES = (AGENT_TENSORS, IMAGINED_TENSORS, STATE, CONFIG)
PRETRAINED_FILES = (AGENT_TENSORS, STATE, CONFIG)
_FORMATS: Mapping[str, tuple[str, ...]] = {FORMAT: _FILES, PRETRAINED_FORMAT: PRETRAINED_FILES}


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of."""

    files: Mapping[str, tuple[int, str]]
    """Bytes and SHA-256 by name."""
    replay: str = REPLAY
    """Folder of the segments, relative to the checkpoint's."""
    segments: tuple[Segment, ...] = ()
    num_bytes: int = field(default=0, compare=False)
    """Bytes of the files, without the segments."""
    pretrained: bool = False
    """Whether it holds what it takes to act and to predict, and no more."""


@dataclass(frozen=True)
class CheckpointFolder:
    """Where a checkpoint lies."""

    filesystem: FileSystem
    path: str

    def replay_path(self, replay: str) -> str:
        """The segments' folder."""
        parent = self.path.rpartition("/")[0]
        return f"{parent}/{REPLAY}" if replay == SHARED_REPLAY else f"{self.path}/{REPLAY}"

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            CheckpointError: There is none, or one of another version.
            DamagedCheckpointError: It cannot be understood.
        """
        try:
            plain = json.loads(read_file(self.filesystem, f"{self.path}/{MANIFEST}"))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise self._without_manifest() from None
        except (ValueError, RecursionError):
            raise DamagedCheckpointError(f"The checkpoint {self.path!r} is damaged: {MANIFEST} is no JSON.") from None
        try:
            if plain["format"] not in _FORMATS or int(plain["version"]) != FORMAT_VERSION:
                raise ForeignCheckpointError(
                    f"The checkpoint {self.path!r} is of format {plain['format']} {plain['version']}, this version of "
                    f"vagram_ray reads {FORMAT} {FORMAT_VERSION}; use the version that wrote it."
                )
            files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in plain["files"].items()}
            segments = tuple(Segment.from_plain(entry) for entry in plain["segments"])
            if set(files) != set(_FORMATS[plain["format"]]) or plain["replay"] not in (REPLAY, SHARED_REPLAY):
                raise ValueError("unknown files")
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DamagedCheckpointError(
                f"The checkpoint {self.path!r} is damaged: its {MANIFEST} makes no sense ({error!r})."
            ) from None
        num_bytes = sum(size for size, _ in files.values())
        return Manifest(files, plain["replay"], segments, num_bytes, plain["format"] == PRETRAINED_FORMAT)

    def is_whole(self) -> bool:
        """Whether all files are there in their size (their content is checked when they are read)."""
        try:
            manifest = self.manifest()
        except CheckpointError:
            return False
        own = {f"{self.path}/{name}": size for name, (size, _) in manifest.files.items()}
        folder = self.replay_path(manifest.replay)
        own |= {f"{folder}/{segment.name}": segment.num_bytes for segment in manifest.segments}
        return all(file_size(self.filesystem, path) == size for path, size in own.items())

    def read(self, name: str, manifest: Manifest) -> bytes:
        """The content of one of the files.

        Raises:
            DamagedCheckpointError: It is not as it was written.
        """
        try:
            content = read_file(self.filesystem, f"{self.path}/{name}")
        except FileNotFoundError:
            raise DamagedCheckpointError(f"The checkpoint {self.path!r} is damaged: {name} is missing.") from None
        if (len(content), checksum(content)) != manifest.files[name]:
            raise DamagedCheckpointError(
                f"The checkpoint {self.path!r} is damaged: {name} has not the size or checksum that was written."
            )
        return content

    def read_config(self) -> dict[str, Any]:
        """The settings alone.

        Raises:
            CheckpointError: There is no checkpoint, or it is damaged.
        """
        try:
            config: dict[str, Any] = join_tree(json.loads(self.read(CONFIG, self.manifest())), {})
            seeds, settings = config["seeds"], config["settings"]
            if not isinstance(settings, dict) or not all(isinstance(seed, int) for seed in seeds):
                raise ValueError("unknown content")
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedCheckpointError(f"{CONFIG} in {self.path!r} makes no sense ({error!r}).") from None
        return config

    def _without_manifest(self) -> CheckpointError:
        names = {info.base_name for info in list_folder(self.filesystem, self.path)}
        if names & {*_FILES, REPLAY}:
            return DamagedCheckpointError(f"The checkpoint {self.path!r} is not complete: it has no {MANIFEST}.")
        older = " (it is one of RLlib's own format)" if "rllib_checkpoint.json" in names else ""
        return CheckpointError(f"{self.path!r} is no checkpoint of MBPO{older}: there is no {MANIFEST} in it.")


def write_checkpoint(
    folder: CheckpointFolder,
    config: Mapping[str, Any],
    state: Mapping[str, Any],
    replay: Any,
    *,
    shared: Sequence[Segment] | None = None,
    beside: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write a checkpoint completely or not at all. One that stood there is replaced.

    Args:
        folder: Where.
        config: Plain settings.
        state: Nested dicts and lists of tensors and plain values. Tensors below a key ``imagined`` get a file of
            their own.
        replay: The real buffer: ``size``, ``num_added`` and ``arrivals(first, last)``.
        shared: Segments in the folder beside the checkpoint, to be added to. None keeps all in the checkpoint.
        beside: Content of further files by their path in the folder, for other programs.

    Raises:
        OSError: It cannot be written. Nothing is left of it.
        TypeError: The state holds a value that is neither a tensor nor plain.
    """
    plain, tensors = split_tree(state)
    imagined = {name for name in tensors if "imagined" in name.split("/")}
    contents = {
        AGENT_TENSORS: lambda: save({name: own for name, own in tensors.items() if name not in imagined}),
        IMAGINED_TENSORS: lambda: save({name: own for name, own in tensors.items() if name in imagined}),
        STATE: lambda: json.dumps(plain, allow_nan=False).encode(),
        CONFIG: lambda: json.dumps(split_tree(config)[0], indent=2, allow_nan=False).encode(),
    }
    filesystem, bounds = folder.filesystem, (replay.num_added - replay.size, replay.num_added)
    segments: list[Segment] = []
    if shared is not None:
        place = folder.replay_path(SHARED_REPLAY)
        filesystem.create_dir(place, recursive=True)
        segments = append_segment(filesystem, place, shared, *bounds, replay.arrivals)
    with new_folder(filesystem, folder.path) as path:
        if not is_local(filesystem):
            filesystem.create_dir(path, recursive=True)
        if shared is None:
            filesystem.create_dir(f"{path}/{REPLAY}")
            segments = append_segment(filesystem, f"{path}/{REPLAY}", (), *bounds, replay.arrivals)
        files = _write_files(filesystem, path, contents)
        for name, content in (beside or {}).items():
            filesystem.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
            write_file(filesystem, f"{path}/{name}", content)
        manifest = Manifest(files, REPLAY if shared is None else SHARED_REPLAY, tuple(segments))
        write_file(filesystem, f"{path}/{MANIFEST}", json.dumps(_manifest_plain(manifest), indent=2).encode())
    return manifest


def write_pretrained(
    folder: CheckpointFolder, config: Mapping[str, Any], state: Mapping[str, Any], beside: Mapping[str, bytes]
) -> Manifest:
    """Write what it takes to act and to predict, completely or not at all.

    Args:
        folder: Where, on this machine.
        config: Plain settings.
        state: Nested dicts and lists of tensors and plain values, without optimizers and buffers.
        beside: Content of further files by name, which may be edited later.

    Raises:
        OSError: It cannot be written. Nothing is left of it.
        TypeError: The state holds a value that is neither a tensor nor plain.
    """
    plain, tensors = split_tree(state)
    contents = {
        AGENT_TENSORS: lambda: save(tensors),
        STATE: lambda: json.dumps(plain, indent=2, allow_nan=False).encode(),
        CONFIG: lambda: json.dumps(split_tree(config)[0], indent=2, allow_nan=False).encode(),
    }
    with new_folder(folder.filesystem, folder.path) as path:
        for name, content in beside.items():
            write_file(folder.filesystem, f"{path}/{name}", content)
        manifest = Manifest(_write_files(folder.filesystem, path, contents), pretrained=True)
        write_file(folder.filesystem, f"{path}/{MANIFEST}", json.dumps(_manifest_plain(manifest), indent=2).encode())
    return manifest


def _write_files(
    filesystem: FileSystem, path: str, contents: Mapping[str, Callable[[], bytes]]
) -> dict[str, tuple[int, str]]:
    """Write files one after the other. Returns bytes and SHA-256 by name."""
    files = {}
    for name, make in contents.items():
        content = make()
        write_file(filesystem, f"{path}/{name}", content)
        files[name] = (len(content), checksum(content))
    return files


def read_checkpoint(folder: CheckpointFolder, *, with_buffers: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and state of a checkpoint, every file checked against the manifest.

    The real buffer's rows are put into ``state["agent"]["replay"]["rows"]``, in the order in which the buffer held
    them. Without ``with_buffers`` neither buffer is read, and the state lacks both.

    Raises:
        CheckpointError: There is no checkpoint, or buffers are asked for of a pretrained agent.
        DamagedCheckpointError: It is not as it was written.
    """
    manifest = folder.manifest()
    if manifest.pretrained and with_buffers:
        raise CheckpointError(
            f"{folder.path!r} is an exported agent without buffers and optimizers: python -m vagram_ray.play shows it, "
            "nothing is trained on from there."
        )
    tensors: dict[str, Tensor] = {}
    try:
        for name in (AGENT_TENSORS, IMAGINED_TENSORS) if with_buffers else (AGENT_TENSORS,):
            tensors |= load(folder.read(name, manifest))
        plain = json.loads(folder.read(STATE, manifest))
        if not with_buffers:
            plain["agent"] = {key: value for key, value in plain["agent"].items() if key not in ("replay", "imagined")}
        state = join_tree(plain, tensors)
        replay = state["agent"].get("replay")
        if replay is not None and replay["size"]:
            place = folder.replay_path(manifest.replay)
            position = replay["size"], replay["num_added"], replay["next"]
            replay["rows"] = gather_ring(folder.filesystem, place, manifest.segments, *position)
    except CheckpointError:
        raise
    except _SENSELESS as error:
        raise DamagedCheckpointError(f"The checkpoint {folder.path!r} makes no sense ({error!r}).") from None
    return folder.read_config(), state


def _manifest_plain(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": PRETRAINED_FORMAT if manifest.pretrained else FORMAT,
        "version": FORMAT_VERSION,
        "files": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in manifest.files.items()},
        "replay": manifest.replay,
        "segments": [segment.to_plain() for segment in manifest.segments],
    }
