"""The real buffer on disk: segments of transitions in order of arrival, written once and shared by checkpoints.

The buffer grows by appending, and so does what is written: a checkpoint adds the transitions since the one before.
Small segments at the end are merged into the new one, so that their number grows with the logarithm of their count
and each transition is written only so many times. A segment's name holds its content's checksum: two runs that share
a folder never overwrite each other's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyarrow.fs import FileSystem
from safetensors.torch import load, save
from torch import Tensor

from vagram_ray.checkpoint.errors import DamagedCheckpointError
from vagram_ray.checkpoint.files import checksum, read_file, write_file_atomically

SEGMENT_BYTES = 64 * 2**20
"""Segments of at least this size are not merged any more."""
_NAME = re.compile(r"[0-9]{12}-[0-9]{12}-[0-9a-f]{8}\.safetensors")
_ROWS = "rows"


@dataclass(frozen=True)
class Segment:
    """Transitions number ``first`` to ``last - 1`` of every seed, counted from the start of the run."""

    name: str
    first: int
    last: int
    num_bytes: int
    sha256: str

    def to_plain(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "name": self.name,
            "first": self.first,
            "last": self.last,
            "bytes": self.num_bytes,
            "sha256": self.sha256,
        }

    @classmethod
    def from_plain(cls, plain: Any) -> Segment:
        """From a manifest.

        Raises:
            ValueError: The entry makes no sense, or names a file elsewhere.
        """
        segment = cls(
            str(plain["name"]), int(plain["first"]), int(plain["last"]), int(plain["bytes"]), str(plain["sha256"])
        )
        if not _NAME.fullmatch(segment.name) or not 0 <= segment.first < segment.last:
            raise ValueError(f"{segment.name!r} is no segment")
        return segment


def append_segment(
    filesystem: FileSystem,
    folder: str,
    known: Sequence[Segment],
    first: int,
    last: int,
    rows: Callable[[int, int], Tensor],
) -> list[Segment]:
    """Write what ``known`` lacks of the transitions ``first`` to ``last - 1``. Returns the segments that hold them.

    Args:
        filesystem: Where ``folder`` is.
        folder: The segments' folder, which exists.
        known: Segments that are there already, in order and without gaps.
        first: The oldest transition that is needed.
        last: One more than the newest.
        rows: Gives transitions (S, n, width) by first and last number.
    """
    kept = [segment for segment in known if segment.last > first]
    start = kept[-1].last if kept else first
    if start >= last:
        return kept
    while kept and kept[-1].num_bytes < SEGMENT_BYTES and kept[-1].last - kept[-1].first <= last - start:
        if kept[-1].first < first:  # its first transitions have been overwritten in the buffer
            break
        start = kept.pop().first
    content = save({_ROWS: rows(start, last).detach().cpu().contiguous()})
    digest = checksum(content)
    name = f"{start:012d}-{last:012d}-{digest[:8]}.safetensors"
    # A run that was set back writes the same again: what is there may be the reason why it was.
    write_file_atomically(filesystem, f"{folder}/{name}", content)
    return [*kept, Segment(name, start, last, len(content), digest)]


def read_segment(filesystem: FileSystem, folder: str, segment: Segment) -> Tensor:
    """Transitions (S, last - first, width).

    Raises:
        DamagedCheckpointError: The file is not as it was written.
    """
    path = f"{folder}/{segment.name}"
    try:
        content = read_file(filesystem, path)
    except FileNotFoundError:
        raise DamagedCheckpointError(f"{path!r} is missing.") from None
    if checksum(content) != segment.sha256:
        raise DamagedCheckpointError(f"{path!r} is damaged: its checksum is not the one that was written.")
    rows = load(content)[_ROWS]
    if rows.dim() != 3 or rows.shape[1] != segment.last - segment.first:
        raise DamagedCheckpointError(f"{path!r} is damaged: it holds {tuple(rows.shape)}.")
    return rows


def gather_ring(
    filesystem: FileSystem, folder: str, segments: Sequence[Segment], size: int, last: int, position: int
) -> Tensor:
    """The newest ``size`` transitions as the ring buffer held them: (S, size, width).

    Args:
        filesystem: Where ``folder`` is.
        folder: The segments' folder.
        segments: Segments in order, without gaps.
        size: Transitions in the buffer.
        last: Transitions of each seed so far.
        position: Where the next one will be written.

    Raises:
        DamagedCheckpointError: A file is not as it was written, or transitions are missing.
    """
    first, ring, reached = last - size, None, last - size
    for segment in segments:
        if segment.first > reached:
            break
        rows = read_segment(filesystem, folder, segment)[:, max(0, first - segment.first) :]
        start = max(first, segment.first)
        if ring is None:
            ring = rows.new_zeros(rows.shape[0], size, rows.shape[2])
        index = (position - last + torch.arange(start, segment.last)) % size
        ring[:, index] = rows
        reached = segment.last
    if reached != last or ring is None:
        raise DamagedCheckpointError(f"{folder!r} lacks transitions {reached} to {last}.")
    return ring
