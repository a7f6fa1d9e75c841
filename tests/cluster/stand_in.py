"""Plays the programs that reach out to other machines, and the machine they reach, in a directory.

Called as ``python stand_in.py NAME ARGUMENTS...`` by wrappers called ``ssh``, ``rsync``, ``curl``, ``uv`` and ``ray``,
which ``cluster_support.Machine`` writes. ``ssh`` runs its command with the directory as home, ``rsync`` copies into it,
``curl`` installs ``uv``, which makes a virtual environment of stand-ins. Every call is a line in a log. Python's own
modules only, so that a call takes milliseconds.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

BIN = Path(os.environ["STAND_IN_BIN"])
ROOT = BIN.parent
HOME = ROOT / "home"
SSH_OPTIONS_WITH_VALUE = ("-i", "-o", "-L")


def log(name: str, arguments: list[str], **more: object) -> None:
    with (ROOT / "calls.jsonl").open("a") as file:
        file.write(json.dumps({"name": name, "arguments": arguments, **more}) + "\n")


def ssh(arguments: list[str]) -> int:
    """What sshd does: the words after the host are joined and handed to a shell; LC_* variables come along."""
    log("ssh", arguments)
    at = 0
    while arguments[at].startswith("-"):
        at += 2 if arguments[at] in SSH_OPTIONS_WITH_VALUE else 1
    command = " ".join(arguments[at + 1 :])
    environment = {"HOME": str(HOME), "PATH": "/usr/bin:/bin", "USER": "ubuntu", "TERM": "dumb"}
    environment |= {key: value for key, value in os.environ.items() if key.startswith("LC_")}
    return subprocess.call(["/bin/bash", "-c", command], env=environment, cwd=HOME, stdin=subprocess.DEVNULL)


def rsync(arguments: list[str]) -> int:
    log("rsync", arguments)
    excluded = [arguments[i + 1] for i, argument in enumerate(arguments) if argument == "--exclude"]
    source, target = arguments[-2], arguments[-1].partition(":")[2]
    there = HOME / target.removeprefix("~/").removeprefix(f"{HOME}/")

    def ignore(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in excluded)}

    if source.endswith("/"):
        shutil.copytree(source, there, ignore=ignore, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, there)
    return 0


def curl(arguments: list[str]) -> int:
    """The installer of uv, as its address names the version."""
    log("curl", arguments)
    version = arguments[-1].split("/uv/")[1].split("/")[0]
    print(f"mkdir -p ~/.local/bin && sed s/@VERSION@/{version}/ {BIN}/uv-of-a-version > ~/.local/bin/uv")
    print("chmod +x ~/.local/bin/uv")
    return 0


def uv(arguments: list[str]) -> int:
    log("uv", arguments)
    if arguments == ["--version"]:
        print(f"uv {os.environ['STAND_IN_UV']} (stand-in)")
    elif arguments[0] == "venv":
        scripts = Path(arguments[-1]) / "bin"
        scripts.mkdir(parents=True)
        (scripts / "activate").write_text(f'export PATH="{scripts}:$PATH"\n')
        (scripts / "python").write_text(f"#!/bin/sh\necho Python {arguments[arguments.index('--python') + 1]}\n")
        (scripts / "python").chmod(0o755)
        shutil.copy(BIN / "ray-on-the-machine", scripts / "ray")
    else:
        lock = Path(arguments[arguments.index("--requirements") + 1])
        project = Path(arguments[arguments.index("--editable") + 1])
        needed = [lock, *(project / name for name in ("pyproject.toml", "README.md", "vagram_ray/__init__.py"))]
        return 0 if all(path.is_file() for path in needed) else 1
    return 0


def ray(arguments: list[str]) -> int:
    """Ray on the machine: says how it was called, the key only as its hash."""
    key = os.environ.get("WANDB_API_KEY")
    environment = {name: value for name, value in os.environ.items() if name.startswith(("RAY_", "LC_", "OMP_"))}
    digest = None if key is None else hashlib.sha256(key.encode()).hexdigest()
    log("ray", arguments, folder=os.getcwd(), environment=environment, key_sha256=digest)
    return 0


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
