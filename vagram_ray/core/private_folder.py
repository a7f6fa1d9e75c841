"""Folders that nobody else can write to, for files that are executed.

The rules are those of ssh for its keys: the folder is the user's own, and neither it nor a folder above it, up to the
home folder, lets others in. Whoever may write to one of them could put another file in the place of ours.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

ROOT = 0
"""User id of the superuser, whose folders are trusted."""


class NotPrivateError(OSError):
    """Somebody else can write to a folder or file. The message names it and the way out."""


def user_cache_folder() -> Path:
    """``vagram_ray`` in the user's cache folder: ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        OSError: If the user has no home folder.
    """
    told = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(told):  # others are to be ignored, as the XDG base directory specification says
        return Path(told) / "vagram_ray"
    try:
        return Path.home() / ".cache" / "vagram_ray"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def user_temporary_folder() -> Path:
    """The user's own folder among the temporary files, the same for all of the user's processes."""
    return Path(tempfile.gettempdir()) / f"vagram_ray-{os.getuid()}"


def private_folder(path: Path) -> Path:
    """Create the folder with its parents if it is missing, and check that it is private.

    Returns:
        Its path without symbolic links.

    Raises:
        NotPrivateError: If somebody else owns it or can write to it or to a folder above it.
        OSError: If it cannot be created.
    """
    for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)  # parents too: pathlib would leave theirs to the umask
    if path.is_symlink() and path.lstat().st_uid not in (ROOT, os.getuid()):
        raise NotPrivateError(f"{path} is another user's link; remove it")
    real = path.resolve(strict=True)
    check_private(real)
    home = Path(os.path.expanduser("~")).resolve()
    for folder in real.parents if real != home else ():
        _check_parent(folder)
        if folder == home:
            break
    return real


def check_private(path: Path) -> None:
    """Check that a folder or file, not a link to one, is the user's own and that nobody else can write to it.

    Raises:
        NotPrivateError: If not.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise NotPrivateError(f"{path} is a symbolic link")
    if found.st_uid != os.getuid():
        raise NotPrivateError(f"{path} belongs to another user (id {found.st_uid})")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotPrivateError(f"{path} can be written by others; chmod go-w {path}")


def _check_parent(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid not in (ROOT, os.getuid()):
        raise NotPrivateError(f"{folder} belongs to another user (id {found.st_uid})")
    # In a sticky folder, as /tmp is, others can neither rename nor remove what is not theirs.
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        raise NotPrivateError(f"{folder} can be written by others; chmod go-w {folder}")
