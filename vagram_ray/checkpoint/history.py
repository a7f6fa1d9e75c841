"""The checkpoints of one run in one folder: writing the next, finding the newest whole one, keeping few."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from pyarrow.fs import FileSystem

from vagram_ray.checkpoint.errors import CheckpointError, ForeignCheckpointError
from vagram_ray.checkpoint.files import STORAGE_ERRORS, delete_file, delete_folder, folder_names, list_folder
from vagram_ray.checkpoint.folder import REPLAY, CheckpointFolder, Manifest, read_checkpoint, write_checkpoint
from vagram_ray.checkpoint.segments import Segment
from vagram_ray.files import TEMPORARY

logger = logging.getLogger(__name__)

OWN_FOLDER = "own_checkpoints"
"""Where a trial keeps its checkpoints if Tune numbers its own in the trial's folder."""
_NAME = re.compile(r"checkpoint_([0-9]{6,})")


def checkpoint_name(number: int) -> str:
    """``checkpoint_000012``."""
    return f"checkpoint_{number:06d}"


def numbered_checkpoints(filesystem: FileSystem, path: str) -> list[tuple[int, CheckpointFolder]]:
    """All folders named as checkpoints, oldest first, whole or not."""
    found = [(match, info.path) for info in list_folder(filesystem, path) if (match := _NAME.fullmatch(info.base_name))]
    return sorted(((int(match[1]), CheckpointFolder(filesystem, path)) for match, path in found), key=lambda p: p[0])


def newest_whole(filesystem: FileSystem, path: str) -> CheckpointFolder | None:
    """The newest checkpoint in a run's folder of which nothing is missing, or None if there is none."""
    return next((own for _, own in reversed(numbered_checkpoints(filesystem, path)) if own.is_whole()), None)


class CheckpointHistory:
    """The checkpoints of one run: numbered folders beside a shared folder with the segments of the real buffer.

    Args:
        filesystem: Where ``path`` is.
        path: The run's folder.
        keep: Checkpoints that are kept, the newest ones.
    """

    def __init__(self, filesystem: FileSystem, path: str, keep: int = 2) -> None:
        self.filesystem, self.path, self.keep = filesystem, path, keep
        self._segments: tuple[Segment, ...] = ()
        self._damaged: list[CheckpointFolder] = []

    def write(
        self,
        number: int,
        config: Mapping[str, Any],
        state: Mapping[str, Any],
        replay: Any,
        beside: Mapping[str, bytes] | None = None,
    ) -> Manifest:
        """Write checkpoint ``number`` and delete those that are not kept, and later ones of a run that was set back.

        Raises:
            OSError: It cannot be written. The ones before are untouched.
        """
        folder = CheckpointFolder(self.filesystem, f"{self.path}/{checkpoint_name(number)}")
        manifest = write_checkpoint(folder, config, state, replay, shared=self._segments, beside=beside)
        self._segments = manifest.segments
        with contextlib.suppress(*STORAGE_ERRORS):  # what cannot be deleted now is deleted next time
            self._prune(number)
        return manifest

    def read_newest(
        self, tell: Callable[[str], None] = lambda sentence: None
    ) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """Number, settings and state of the newest checkpoint that can be read, or None without one.

        One that is damaged is passed over with a warning, which ``tell`` gets too, and the one before is taken.

        Raises:
            ForeignCheckpointError: It was written by another version.
            OSError: The storage does not answer.
        """
        for number, folder in reversed(numbered_checkpoints(self.filesystem, self.path)):
            try:
                config, state = read_checkpoint(folder)
                self._segments = folder.manifest().segments
            except ForeignCheckpointError:
                raise
            except CheckpointError as error:
                logger.warning("%s It is passed over.", error)
                tell(f"{error} It is passed over.")
                self._damaged.append(folder)
                continue
            return number, config, state
        return None

    def set_back(self) -> None:
        """What comes next goes on from a state of elsewhere: its buffer is written anew, in segments of its own."""
        self._segments = ()

    def clean(self) -> None:
        """Delete what a killed process has left: folders and files under way, and segments of no checkpoint."""
        with contextlib.suppress(*STORAGE_ERRORS):
            for name in folder_names(self.filesystem, self.path):
                if name.startswith(TEMPORARY):
                    delete_folder(self.filesystem, f"{self.path}/{name}")
                    delete_file(self.filesystem, f"{self.path}/{name}")
            used = {segment.name for segment in self._segments_of_all()}
            for info in list_folder(self.filesystem, f"{self.path}/{REPLAY}"):
                if info.base_name not in used:
                    delete_file(self.filesystem, info.path)

    def _prune(self, newest: int) -> None:
        while self._damaged:
            if not self._damaged[-1].path.endswith(checkpoint_name(newest)):  # written anew by now
                delete_folder(self.filesystem, self._damaged[-1].path)
            self._damaged.pop()
        others = [(number, own) for number, own in numbered_checkpoints(self.filesystem, self.path) if number != newest]
        # What was never finished is not kept for one, nor are later ones: the run was set back behind them.
        whole = [number for number, own in others if number < newest and own.is_whole()]
        kept = set(whole[len(whole) - (self.keep - 1) :]) if self.keep > 1 else set()
        dropped = [(number, own) for number, own in others if number not in kept]
        if not dropped:
            return
        unused: set[str] = set()
        for _, folder in dropped:
            with contextlib.suppress(CheckpointError):
                unused |= {segment.name for segment in folder.manifest().segments}
            delete_folder(self.filesystem, folder.path)
        for name in unused - {segment.name for segment in self._segments_of_all()}:
            delete_file(self.filesystem, f"{self.path}/{REPLAY}/{name}")

    def _segments_of_all(self) -> set[Segment]:
        segments: set[Segment] = set()
        for _, folder in numbered_checkpoints(self.filesystem, self.path):
            with contextlib.suppress(CheckpointError):
                segments |= set(folder.manifest().segments)
        return segments
