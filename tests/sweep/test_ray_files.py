"""Where Ray's files go: a folder that its sockets can have, with room, and a token where the home folder takes none."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from vagram_ray.sweep.run import ray_files
from vagram_ray.sweep.run.ray_files import LONGEST_FOLDER, prepare_ray_files
from vagram_ray.sweep.spec import SweepError

LONG = "/tmp/" + "x" * 80


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is as before in the end
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_longest_folder_is_one_whose_socket_can_be_made(tmp_path: Path) -> None:
    """By the system itself: one byte more is too long."""
    session = "/ray/session_2026-11-30_04-21-52_123456_4194304/sockets/plasma_store"
    with socket.socket(socket.AF_UNIX) as own:
        with pytest.raises(FileNotFoundError):  # the length is fine, the folder is not there
            own.connect("/" + "x" * (LONGEST_FOLDER - 1) + session)
        with pytest.raises(OSError, match="too long"):
            own.connect("/" + "x" * (LONGEST_FOLDER + 1) + session)


def test_a_folder_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", LONG)
    prepare_ray_files()
    assert os.environ["RAY_TMPDIR"] == "/tmp" and not Path(LONG).exists()


def test_ones_own_choice_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", LONG)
    with pytest.raises(SweepError, match=f"{LONG} is a path of 85 bytes, and sockets leave room for {LONGEST_FOLDER};"):
        prepare_ray_files()
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null/x")
    with pytest.raises(SweepError, match=r"/dev/null/x cannot be written \(Not a directory\); set RAY_TMPDIR"):
        prepare_ray_files()


def test_a_full_folder_is_passed_over_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = {"/tmp": 2**30}
    monkeypatch.setattr(ray_files, "LONGEST_FOLDER", 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free.get(folder, 2**20)))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    prepare_ray_files()
    assert os.environ.pop("RAY_TMPDIR") == "/tmp"
    free["/tmp"] = 0
    with pytest.raises(SweepError, match=f"{tmp_path} has 1 MiB free, less than 64 and /tmp has 0 MiB free"):
        prepare_ray_files()


def test_a_home_that_takes_no_token_gets_one_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_ray_files()
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.setenv("HOME", "/dev/null/x")
    prepare_ray_files()
    assert len(token := os.environ["RAY_AUTH_TOKEN"]) == 64
    prepare_ray_files()
    assert os.environ["RAY_AUTH_TOKEN"] == token
