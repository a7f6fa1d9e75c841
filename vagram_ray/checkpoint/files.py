"""Files on a disk or in an object store, through PyArrow's file systems, written so that a crash leaves no half."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from vagram_ray.files import TEMPORARY, sync_folder, write_atomically

STORAGE_ERRORS = (OSError, ArrowException)
"""Errors that a disk or an object store raises."""


def resolve(path: str | Path, filesystem: FileSystem | None = None) -> tuple[FileSystem, str]:
    """File system and path in it, of a path on this machine (relative ones too) or a URI."""
    if filesystem is not None:
        return filesystem, str(path)
    if "://" in str(path):
        resolved: tuple[FileSystem, str] = FileSystem.from_uri(str(path))
        return resolved
    return LocalFileSystem(), str(Path(path).expanduser().absolute())


def is_local(filesystem: FileSystem) -> bool:
    """Whether files lie on this machine, where a rename is atomic."""
    return isinstance(filesystem, LocalFileSystem)


def write_file(filesystem: FileSystem, path: str, content: bytes) -> None:
    """Write a file and wait until it has reached the disk."""
    if is_local(filesystem):
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def write_file_atomically(filesystem: FileSystem, path: str, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it. Object stores do that by themselves."""
    if is_local(filesystem):
        write_atomically(Path(path), content)
    else:
        write_file(filesystem, path, content)


@contextlib.contextmanager
def new_folder(filesystem: FileSystem, path: str) -> Iterator[str]:
    """A folder to write into that appears at ``path`` when the block ends well, and leaves nothing when it fails.

    What stood at ``path`` is replaced. In an object store, which has no rename, the files are written in place: the
    last file of the block has to be what tells that all are there.
    """
    if not is_local(filesystem):
        delete_folder(filesystem, path)
        yield path
        return
    parent, _, name = path.rpartition("/")
    temporary = f"{parent}/{TEMPORARY}{name}-{uuid.uuid4().hex[:8]}"
    try:
        os.makedirs(temporary)
        yield temporary
        sync_folder(temporary)
        replaced = f"{parent}/{TEMPORARY}old-{name}-{uuid.uuid4().hex[:8]}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, replaced)
        os.rename(temporary, path)
        sync_folder(parent)
        delete_folder(filesystem, replaced)
    except BaseException:
        delete_folder(filesystem, temporary)
        raise


def read_file(filesystem: FileSystem, path: str) -> bytes:
    """The content of a file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if is_local(filesystem) and not os.path.isfile(path):  # a folder is another error on each system
        raise FileNotFoundError(path)
    with filesystem.open_input_stream(path) as stream:
        content: bytes = stream.read()
    return content


def delete_folder(filesystem: FileSystem, path: str) -> None:
    """Delete a folder if it is there. Where it is a link, only the link goes."""
    if is_local(filesystem) and os.path.islink(path):
        os.unlink(path)
        return
    with contextlib.suppress(FileNotFoundError):
        if filesystem.get_file_info(path).type == FileType.Directory:
            filesystem.delete_dir(path)


def delete_file(filesystem: FileSystem, path: str) -> None:
    """Delete a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        filesystem.delete_file(path)


def list_folder(filesystem: FileSystem, path: str) -> list[Any]:
    """Files and folders directly in a folder (``pyarrow.fs.FileInfo``), none if there is no such folder."""
    entries: list[Any] = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    return entries


def folder_names(filesystem: FileSystem, path: str) -> list[str]:
    """Names of what lies directly in a folder, on this machine also of links that lead nowhere."""
    if is_local(filesystem):
        return os.listdir(path) if os.path.isdir(path) else []
    return [info.base_name for info in list_folder(filesystem, path)]


def file_size(filesystem: FileSystem, path: str) -> int | None:
    """Size in bytes, or None where there is no such file."""
    info = filesystem.get_file_info(path)
    return int(info.size) if info.type == FileType.File else None


def checksum(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
