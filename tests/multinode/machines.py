"""Machines that are none: network namespaces on one computer, each with an address, and Ray nodes in them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.harness import MARK, ROOT, kill, until

OBJECT_STORE = "--object-store-memory=100000000"


def why_not() -> str:
    """Why namespaces cannot be made here; empty if they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if shutil.which("ip") is None:
        return "there is no `ip` (iproute2)"
    name = f"vr-{secrets.token_hex(3)}-probe"
    made = _ip("netns", "add", name, check=False)
    if made.returncode:
        return f"network namespaces are not permitted: {made.stderr.strip()}"
    _ip("netns", "delete", name)
    return ""


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


@dataclass
class Machine:
    """A network namespace with an address, and what runs in it."""

    namespace: str
    address: str
    folder: Path
    """Ray's temporary folder."""
    mark: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command that runs here."""
        return ("ip", "netns", "exec", self.namespace)

    @property
    def environment(self) -> dict[str, str]:
        """Of what runs here: Ray's own folder, and no token, which machines would have to share."""
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return {
            "RAY_TMPDIR": str(self.folder), "RAY_AUTH_MODE": "disabled", "HOME": str(self.folder),
            "XDG_CACHE_HOME": cache,  # with the compiled library: without it updates are eager and round otherwise
        }  # fmt: skip

    def pids(self) -> list[int]:
        """All processes."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace, check=False).stdout.split()]

    def start_ray(self, *arguments: str, **environment: str) -> None:
        """``ray start --block ...``, in the background."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "RAY_"))}
        kept |= {MARK: self.mark, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
        command = [*self.prefix, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", OBJECT_STORE]
        command += [f"--node-ip-address={self.address}", "--disable-usage-stats", *arguments]
        with (self.folder / "ray.txt").open("ab") as log:
            subprocess.Popen(
                command, cwd=ROOT, env={**kept, **self.environment, **environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def power_off(self) -> None:
        """Nothing runs here any more."""
        for _ in range(20):
            pids = self.pids()
            for pid in pids:
                kill(pid, signal.SIGKILL)
            if not pids:
                return
            until(lambda: not self.pids(), 1.0)

    def read_log(self) -> str:
        """What Ray has said when it started here."""
        path = self.folder / "ray.txt"
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass
class Network:
    """Machines that reach each other, and nothing else; the first one is where the head goes."""

    token: str = field(default_factory=lambda: secrets.token_hex(3))
    machines: list[Machine] = field(default_factory=list)

    @property
    def head(self) -> Machine:
        """The first machine, which is also the switch between all others."""
        return self.machines[0]

    def add(self) -> Machine:
        """A further machine."""
        number = len(self.machines) + 1
        folder = Path(tempfile.mkdtemp(prefix="vr", dir="/tmp"))  # short: paths of sockets have at most 107 letters
        machine = Machine(f"vr-{self.token}-{number}", f"10.77.0.{number}", folder, self.token)
        _ip("netns", "add", machine.namespace)
        self.machines.append(machine)
        self._run(machine, "link", "set", "lo", "up")
        if number == 1:
            self._run(machine, "link", "add", "lan", "type", "bridge")
        else:
            self._run(machine, "link", "add", "lan", "type", "veth", "peer", "name", f"port{number}",
                      "netns", self.head.namespace)  # fmt: skip
            self._run(self.head, "link", "set", f"port{number}", "master", "lan", "up")
        self._run(machine, "address", "add", f"{machine.address}/24", "dev", "lan")
        self._run(machine, "link", "set", "lan", "up")
        return machine

    def unplug(self, machine: Machine) -> None:
        """Cut a machine off; what runs there goes on."""
        self._run(machine, "link", "set", "lan", "down")

    @staticmethod
    def _run(machine: Machine, *arguments: str) -> None:
        _ip("-n", machine.namespace, *arguments)

    def close(self) -> None:
        """End what runs on all machines, and take them away."""
        for machine in reversed(self.machines):
            machine.power_off()
            _ip("netns", "delete", machine.namespace, check=False)
            shutil.rmtree(machine.folder, ignore_errors=True)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """An empty network, which is gone at the end of the block."""
    own = Network()
    try:
        yield own
    finally:
        own.close()
