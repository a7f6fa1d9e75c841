"""The checkpoints of one run in one folder: writing the next, finding the newest whole one, keeping few."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
_EVERY = re.compile(r"every ([0-9]{1,9})(?: epochs?)?")


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


@dataclass(frozen=True)
class Kept:
    """Which checkpoints of a run stay. The newest ones always do, so that a damaged one has another before it."""

    newest: int | None = 2
    """How many of the newest; None is all."""
    every: int | None = None
    """And all whose number is divisible by this."""

    @classmethod
    def of(cls, value: Any) -> Kept:
        """From a number of the newest, ``"all"``, or ``"every 10 epochs"``.

        Raises:
            ValueError: It is none of these.
        """
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return cls(value)
        if value == "all":
            return cls(None)
        if isinstance(value, str) and (match := _EVERY.fullmatch(value.strip())) and int(match[1]) >= 1:
            return cls(every=int(match[1]))
        raise ValueError(
            f"checkpoints_kept={value!r} is not usable: give how many of the newest, 'all', or 'every 10 epochs'."
        )

    def is_marked(self, number: int) -> bool:
        """Whether the checkpoint of this number stays whatever comes after it."""
        return self.newest is None or (self.every is not None and number % self.every == 0)

    def of_older(self, numbers: Sequence[int]) -> set[int]:
        """Those of ``numbers``, oldest first, that stay when a newer one has been written."""
        marked = {number for number in numbers if self.is_marked(number)}
        newest = 0 if self.newest is None else self.newest - 1
        return marked | set(numbers[len(numbers) - newest :] if newest else ())

    def most(self, epochs: int, between: int | None) -> int:
        """How many there are at most after ``epochs``, with ``between`` epochs from one to the next (None: any)."""
        if self.newest is None:
            return -(-epochs // (between or 1))
        return self.newest + (epochs // self.every if self.every else 0)

    def __str__(self) -> str:
        """``the last two``, ``all``, ``those of every 10 epochs and the last two``."""
        if self.newest is None:
            return "all"
        last = {1: "the last one", 2: "the last two"}.get(self.newest, f"the last {self.newest}")
        return last if self.every is None else f"those of every {self.every} epochs and {last}"


class CheckpointHistory:
    """The checkpoints of one run: numbered folders beside a shared folder with the segments of the real buffer.

    Args:
        filesystem: Where ``path`` is.
        path: The run's folder.
        keep: Checkpoints that are kept, as ``Kept.of`` takes them.
    """

    def __init__(self, filesystem: FileSystem, path: str, keep: int | str = 2) -> None:
        self.filesystem, self.path, self.kept = filesystem, path, Kept.of(keep)
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
        kept = self.kept.of_older(whole)
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
