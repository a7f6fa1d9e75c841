"""Where a Ray that a sweep starts keeps its files and its token, chosen before it starts."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path

from vagram_ray.sweep.spec import SweepError

LONGEST_FOLDER = 107 - len("/ray/session_2026-11-30_04-21-52_123456_4194304/sockets/plasma_store")
"""Bytes of the folder's path: the address of a Unix socket ends at 107."""
ROOM_BYTES = 64 * 2**20
"""Ray's logs and sockets take less."""


def prepare_ray_files() -> None:
    """Choose a folder for Ray's files, and a token where the home folder takes none.

    ``RAY_TMPDIR`` is the user's own choice. Without it the folder is ``TMPDIR`` if Ray can use it, else ``/tmp``.
    A token in the environment keeps Ray's authentication on where ``~/.ray`` cannot be written.

    Raises:
        SweepError: Ray can use none of them. The sentence names each with the reason.
    """
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    chosen = os.environ.get(name)
    folders = [chosen] if name == "RAY_TMPDIR" else [chosen, "/tmp"]
    problems = {folder: _problem(folder) for folder in folders if folder}
    usable = [folder for folder, problem in problems.items() if not problem]
    if not usable:
        found = " and ".join(f"{folder} {problem}" for folder, problem in problems.items())
        raise SweepError(f"Ray cannot keep its files: {found}; set RAY_TMPDIR to a short folder with room.")
    os.environ["RAY_TMPDIR"] = usable[0]
    if not _has_token() and not _home_takes_a_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _problem(folder: str) -> str:
    """Why Ray cannot use a folder, to stand behind its name, empty if it can."""
    if (length := len(os.fsencode(folder))) > LONGEST_FOLDER:
        return f"is a path of {length} bytes, and sockets leave room for {LONGEST_FOLDER}"
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return "" if free >= ROOM_BYTES else f"has {free // 2**20} MiB free, less than {ROOM_BYTES // 2**20}"


def _has_token() -> bool:
    own = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    return "RAY_AUTH_TOKEN" in os.environ or os.path.isfile(own)


def _home_takes_a_token() -> bool:
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return False
