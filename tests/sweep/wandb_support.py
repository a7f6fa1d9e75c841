"""What the tests of W&B logging share: a user of its own, and processes.

Whatever the user's own login is, it plays no part: HOME and NETRC point into the test's folder.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No key, no settings and no W&B variable of the user's."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    # prepare_wandb sets these; naming them here has monkeypatch take them back afterwards.
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_CONSOLE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return home


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        entry.getMessage()
        for entry in caplog.records
        if entry.levelno >= logging.WARNING and entry.name.startswith("vagram_ray")
    ]


class Ended(NamedTuple):
    """How a process ended."""

    returncode: int
    stdout: str
    stderr: str


def in_a_process(script: str, directory: Path, **env: str) -> Ended:
    """Run ``script``, which knows ``directory`` and ``PlayedSweep``, in a process of its own."""
    process = start_process(script, directory, **env)
    try:
        code = process.wait(timeout=240)  # far more than needed: a hang, not a loaded machine, shall end it
    finally:
        process.kill()
    return Ended(code, (directory / "out").read_text(), (directory / "err").read_text())


def start_process(script: str, directory: Path, **env: str) -> subprocess.Popen[bytes]:
    """Start ``script`` in a process of its own; its output goes to the files ``out`` and ``err``."""
    head = (
        "import os, signal, time\n"
        "from pathlib import Path\n"
        "from tests.sweep.wandb_sweep import *\n"
        f"directory = Path({str(directory)!r})\n"
    )
    # Files, not pipes: a stopped service process would hold a pipe open.
    with open(directory / "out", "w") as out, open(directory / "err", "w") as err:
        return subprocess.Popen(
            [sys.executable, "-c", head + script],
            env={**os.environ, **env},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
