"""What the tests of ``cluster/`` share: where its files are, a pretended machine, and a mock of AWS."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
PROFILE = """# As Ubuntu has it, but for the first line, which leads to the stand-ins.
PATH="{bin}:$PATH"
if [ -f "$HOME/.bashrc" ]; then . "$HOME/.bashrc"; fi
"""
BASHRC = """case $- in *i*) ;; *) return ;; esac
"""


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return content


def load_script(name: str) -> ModuleType:
    """A script of ``cluster/`` as a module."""
    spec = importlib.util.spec_from_file_location(f"cluster_{name}", CLUSTER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Machine:
    """A directory that plays a machine and the programs by which it is reached."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Machine:
        machine = cls(root)
        machine.bin.mkdir(parents=True)
        machine.home.mkdir()
        (machine.home / ".profile").write_text(PROFILE.format(bin=machine.bin))
        (machine.home / ".bashrc").write_text(BASHRC)
        for name, program in {"uv-of-a-version": "uv", "ray-on-the-machine": "ray"}.items():
            machine._write(name, program)
        for name in ("ssh", "rsync", "curl"):
            machine._write(name, name)
        return machine

    def _write(self, name: str, program: str) -> None:
        script = self.bin / name
        stand_in = Path(__file__).with_name("stand_in.py")
        script.write_text(
            f"#!/bin/sh\nSTAND_IN_BIN={self.bin} STAND_IN_UV=@VERSION@ exec "
            f'{sys.executable} -S -E {stand_in} {program} "$@"\n'
        )
        script.chmod(0o755)

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def home(self) -> Path:
        return self.root / "home"

    def calls(self, name: str) -> list[dict[str, Any]]:
        """The calls of a program, in order."""
        log = self.root / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [call for call in map(json.loads, lines) if call["name"] == name]

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Of a process on the laptop that reaches this machine."""
        kept = {key: os.environ[key] for key in ("LANG", "PYTHONPATH") if key in os.environ}
        own = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "TMPDIR": str(home),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        return kept | own | more


RAY = """
from ray.autoscaler._private import commands, updater

commands.POLL_INTERVAL = updater.READY_CHECK_INTERVAL = 0.2
from ray.scripts import scripts

scripts.main()
"""
"""The command ``ray``, which looks every 5 s what has become of a machine; those of the mock are there at once."""


def run_ray(
    arguments: Sequence[str], environment: dict[str, str], folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """``ray ARGUMENTS...``."""
    command = [sys.executable, "-c", RAY, *arguments]
    return subprocess.run(
        command, env=environment, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600
    )


@contextmanager
def aws_server(log: Path) -> Iterator[str]:
    """A mock of AWS in a process of its own; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    strict = {"MOTO_ENABLE_KEYPAIR_VALIDATION": "true", "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            env=os.environ | strict, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/moto-api/", process, log)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the mock of AWS does not answer: {log.read_text()}")
