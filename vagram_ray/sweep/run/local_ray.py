"""The Ray that a sweep uses: connecting to it or starting one, noticing its death, removing what is left of it."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vagram_ray.sweep.plan.machine import Machine
from vagram_ray.sweep.processes import import_path, load_psutil
from vagram_ray.sweep.run.interruption import (
    Interruption,
    call_beside_signals,
    leave_at_once_on_signals,
    spared_from_hangup,
)
from vagram_ray.sweep.run.ray_address import CURRENT
from vagram_ray.sweep.spec import SweepError, describe

OBJECT_STORE_BYTES = 256 * 2**20
"""Ray's shared memory on a local start: trials pass no large objects, and Ray's default is a third of the memory."""
OWNER_FILE = "vagram_ray_driver.json"
"""In the session folder of a Ray that a sweep has started: which process did."""
_sessions: list[Path] = []
"""Folders of the Ray that this process has started, unless they are kept."""
_LOOK_EVERY_S = 2.0
_PATIENCE_S = {True: 4.0, False: 45.0}
"""Seconds without Ray's control process, of one's own Ray and of a cluster's, which may come back."""


class RayLostError(BaseException):
    """Ray itself has died. No ``Exception``, for Tune would try to end the trials through Ray and wait for ever."""


def connect_to_ray(
    address: str | None, machine: Machine | None = None, interruption: Interruption | None = None
) -> None:
    """Connect to a running Ray at ``address``, or start one embedded in this process with the machine's resources.

    At ``CURRENT`` this process is connected. Signals that come meanwhile are noted in ``interruption``.

    Raises:
        SweepError: There is no Ray at the address, or it cannot be started.
        SystemExit: A signal has come.
    """
    if address == CURRENT:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns about its future at every start
    (interruption or Interruption()).await_ray(lambda: _connect(address) if address is not None else _start(machine))


def _start(machine: Machine | None) -> None:
    import ray

    assert machine is not None

    # Without its control process, Ray would wait for a minute before it gives up.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
    # Ray's own logs, in its temporary folder: half a gigabyte each and five old ones of it by default.
    os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(16 * 2**20))
    os.environ.setdefault("RAY_ROTATION_BACKUP_COUNT", "1")
    try:
        with spared_from_hangup(), _importing_alike():
            context: Any = ray.init(
                "local",
                num_cpus=machine.cpus,
                num_gpus=machine.gpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # a bare one where its processes do not answer in time
        reason = describe(error).rstrip(".")
        raise SweepError(
            f"Ray cannot be started on this machine ({reason}); it needs room for its files in RAY_TMPDIR "
            f"({os.environ.get('RAY_TMPDIR', '/tmp')}) and some memory."
        ) from error
    session = Path(context.address_info["session_dir"])
    with contextlib.suppress(OSError):
        (session / OWNER_FILE).write_text(json.dumps(_this_process()))
        remove_leftovers(session.parent)
    _sessions.append(session)
    atexit.register(_end_ray)


@contextlib.contextmanager
def _importing_alike() -> Iterator[None]:
    """Processes that are started here, and those that they start, import what this one does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = import_path()
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _connect(address: str) -> None:
    import ray

    try:
        if endpoint := re.fullmatch(r"(?P<host>[^:/]+):(?P<port>\d+)", address):  # Ray itself would go on for minutes
            socket.create_connection((endpoint["host"], int(endpoint["port"])), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        atexit.register(_end_ray)
    except Exception as error:  # Ray raises a different class for every way of not getting through
        reason = describe(error).rstrip(".")
        raise SweepError(
            f"There is no Ray at --address {address!r} ({reason}); start it with `ray start --head`, or leave "
            "--address (and RAY_ADDRESS) away to run on this machine."
        ) from error


# -- files and processes ---------------------------------------------------------------------------------------


def keep_ray_files() -> None:
    """Leave the logs of this process's own Ray where they are: they may tell more of what went wrong."""
    _sessions.clear()


def end_own_ray() -> None:
    """End what ``connect_to_ray`` has begun, in a process that goes on: Ray, or the connection to it."""
    import ray

    call_beside_signals(ray.shutdown, lambda: None)
    atexit.unregister(_end_ray)
    _remove_own_files()


def _end_ray() -> None:
    import ray

    call_beside_signals(ray.shutdown, leave_at_once_on_signals)
    _remove_own_files()


def _remove_own_files() -> None:
    """Ray keeps logs and sockets for ever, a megabyte or more for every start. What trials print is in the results."""
    while _sessions:
        shutil.rmtree(_sessions.pop(), ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """End and remove what killed sweeps of this user on this machine have left of the Rays inside them.

    Such a Ray's session folder in ``folder`` names the process that started it. When that has ended, all of the
    session is left over: its agents live on for a minute and more.
    """
    psutil = load_psutil()
    here = _this_process()
    for session in folder.glob("session_2*"):
        try:
            owner = json.loads((session / OWNER_FILE).read_text())
            same_machine = all(owner[key] == here[key] for key in ("boot", "pid_namespace", "user"))
            if not same_machine or session.stat().st_uid != os.getuid() or _lives(owner, psutil):
                continue
        except (OSError, ValueError, KeyError, TypeError):  # not a sweep's, or somebody else's
            continue
        for process in psutil.process_iter(["cmdline", "uids"]):
            command, users = process.info["cmdline"] or (), process.info["uids"]
            if users is not None and users.real == os.getuid() and any(session.name in part for part in command):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        shutil.rmtree(session, ignore_errors=True)


def _this_process() -> dict[str, Any]:
    own = load_psutil().Process()
    pid_namespace = boot = ""
    with contextlib.suppress(OSError):  # no Linux
        pid_namespace = os.readlink("/proc/self/ns/pid")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {
        "pid": own.pid, "started": own.create_time(), "user": os.getuid(), "pid_namespace": pid_namespace,
        "boot": boot or socket.gethostname(),
    }  # fmt: skip


def _lives(owner: dict[str, Any], psutil: Any) -> bool:
    try:
        process = psutil.Process(int(owner["pid"]))
        return abs(process.create_time() - float(owner["started"])) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -- its death -------------------------------------------------------------------------------------------------


class RayWatch:
    """Notices that Ray has died, and says how the sweep goes on before Ray ends this process.

    A thread looks, because calls to Ray wait for its control process, and Ray aborts this process in the end.

    Args:
        own: Whether Ray runs inside this process.
        warn: Is told in a sentence.
        command: What goes on with the sweep.
    """

    def __init__(self, own: bool, warn: Callable[[str], None], command: str) -> None:
        import ray

        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._endpoint = host.strip("[]"), int(port)
        self._own, self._warn, self._command = own, warn, command
        self._lost = ""
        self._ended = threading.Event()

    def check(self) -> None:
        """Raise ``RayLostError`` if Ray has died: nothing would ever happen any more."""
        if self._lost:
            raise RayLostError(self._lost)

    def __enter__(self) -> RayWatch:
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        answered, lost = time.monotonic(), ""
        while not lost and not self._ended.wait(_LOOK_EVERY_S):
            if self._answers():
                answered = time.monotonic()
                lost = "" if _has_nodes() else "Ray has no machine left to run trials on: its own process has died."
            elif time.monotonic() - answered > _PATIENCE_S[self._own]:
                lost = "Ray's control process has died, and the sweep ends."
        if not self._ended.is_set():
            self._lost = f"{lost} The same command goes on: {self._command}"
            self._warn(self._lost)

    def _answers(self) -> bool:
        """Whether Ray's control process takes connections. One on this machine that is only busy counts as there."""
        try:
            socket.create_connection(self._endpoint, timeout=10.0).close()
        except OSError as error:
            return self._own and not isinstance(error, ConnectionRefusedError)
        return True


def _has_nodes() -> bool:
    import ray

    try:
        return any(node["Alive"] for node in ray.nodes())
    except Exception:  # it does not answer just now
        return True
