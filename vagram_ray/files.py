"""Files on this machine: replaced in one step, and read only where they are files and of a bearable size."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".tmp-"
"""How names of what is being written begin."""


def below(place: str, *names: str) -> str:
    """Path or URI of something below a place. A URI's query, such as ``?endpoint_override=...``, stays at its end."""
    path, mark, query = place.partition("?") if "://" in place else (place, "", "")
    return "/".join((path.rstrip("/"), *names)) + mark + query


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, so that no reader ever sees half of it. Text is written as UTF-8.

    The folder is made if it is not there. A failed attempt leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name[:100]}-{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file under the name
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: str | Path) -> None:
    """Wait until the names in a folder have reached the disk, where the file system can tell."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_file(path: Path, limit: int) -> BinaryIO:
    """Open a file for reading. Pipes and devices, which may never end, are not waited for.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is a link, a folder, no file at all, or larger than ``limit`` bytes.
        OSError: It cannot be read.
    """
    if path.is_symlink():
        raise ValueError("it is a link")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no file")
        if status.st_size > limit:
            raise ValueError(f"it has {status.st_size:,} bytes, more than {limit:,}")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path, limit: int) -> bytes:
    """The content of a file. Raises as ``open_file``."""
    with open_file(path, limit) as file:
        return file.read(limit)
