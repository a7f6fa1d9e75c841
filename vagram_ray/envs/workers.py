"""Worker processes that step a share of a cohort's environments, as the trial's process sees them.

A worker is a fresh interpreter, never a fork: the trial's process has threads, sockets of Ray and often a GPU, none of
which a copy of it may touch. `worker_process` is what it runs.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import cloudpickle
import gymnasium as gym

from vagram_ray.envs.errors import EnvironmentSpecError, EnvironmentWorkerError
from vagram_ray.envs.spec import EnvironmentSpec
from vagram_ray.envs.worker_process import RING, STACKS_SIGNAL, Recipe

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import {0} as w; w.main(sys.argv[2:])"
_CLOSE_S = 5.0
"""Seconds that a worker has to close its environments."""
_STACKS_S = 1.0
"""Seconds that a worker has to print its stacks."""


class _WorkerTracebackError(Exception):
    """The traceback of a worker's error, shown as its cause."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class StepWorker:
    """One worker process; it is ready after `wait_until_ready`, so that several can start together.

    Args:
        spec: what environment.
        seeds: of the cohort, S of them.
        rows: those whose environments this process holds.
        memory: descriptor of the memory of the cohort's `SharedStep`, wanted only here.
        evaluation: whether these are evaluation environments.

    Raises:
        EnvironmentSpecError: the environment cannot be described to another process.
    """

    def __init__(
        self, spec: EnvironmentSpec, seeds: Sequence[int], rows: slice, memory: int, *, evaluation: bool
    ) -> None:
        self.seeds, self.rows = tuple(seeds[rows]), rows
        recipe = _pickled_recipe(spec, self.seeds, evaluation, len(seeds), rows)
        self._busy = self._closing = False
        with _descriptors() as (here, there, asked, done):
            self._asked, self._done = os.dup(asked[1]), os.dup(done[0])
            passed = (there, memory, asked[0], done[1])
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT.format("vagram_ray.envs.worker_process"), json.dumps(sys.path)]
                    + [str(number) for number in (os.getpid(), *passed)],
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for the trial's process, which then ends this one
                )
            except OSError:  # no memory for one more, say
                os.close(self._asked)
                os.close(self._done)
                raise
            self._connection = Connection(os.dup(here))
        self._poller = select.poll()
        self._poller.register(self._done, select.POLLIN)
        self._poller.register(self._connection.fileno(), select.POLLIN)
        self._busy = True
        with self._alive():
            self._connection.send_bytes(recipe)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Return when the environments are made.

        Raises:
            EnvironmentSpecError: they cannot be made there.
            EnvironmentWorkerError: the process has ended.
        """
        with self._alive():
            answer = self._connection.recv()
        self._busy = False
        if answer is not None:
            self._raise(*answer[1])

    def start_step(self) -> None:
        """Begin the step whose arguments lie in the shared memory; `finish_step` must follow."""
        self._busy = True
        os.write(self._asked, RING)

    def finish_step(self) -> None:
        """Wait until the step's results lie in the shared memory.

        Raises:
            EnvironmentWorkerError: the process has ended.
            Exception: whatever an environment has raised.
        """
        report = None
        with self._alive():
            if self._done in {descriptor for descriptor, _ in self._poller.poll()}:
                os.read(self._done, len(RING))
            else:
                _, report = self._connection.recv()
        self._busy = False
        if report is not None:
            self._raise(*report)

    def send(self, command: str, *arguments: Any) -> None:
        """Begin ``"reset"``, ``"get"`` or ``"set"``; `receive` must follow."""
        self._busy = True
        with self._alive():
            self._connection.send((command, *arguments))

    def receive(self) -> Any:
        """What a command returned; raises as `finish_step`."""
        with self._alive():
            succeeded, value = self._connection.recv()
        self._busy = False
        if not succeeded:
            self._raise(*value)
        return value

    def begin_close(self) -> None:
        """Tell the process to end; `close` must follow."""
        if self._process.poll() is None and not self._closing:
            self._closing = True
            if self._busy:  # hanging, or interrupted: there is nobody to wait for
                self._process.kill()
            else:
                with contextlib.suppress(OSError):
                    self._connection.send(("close",))

    def close(self) -> None:
        """Wait until the process has closed its environments and ended; one that takes too long is killed."""
        self.begin_close()
        if self._process.returncode is None:
            try:
                self._process.wait(_CLOSE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if not self._connection.closed:
            self._connection.close()
            os.close(self._asked)
            os.close(self._done)

    def ask_for_stacks(self) -> bool:
        """Let the process print its threads' stacks if it is at work; whether it is."""
        if STACKS_SIGNAL is not None and self._busy and self._process.poll() is None:
            self._process.send_signal(STACKS_SIGNAL)
            return True
        return False

    def kill(self) -> None:
        """End the process at once."""
        if self._process.poll() is None:
            self._process.kill()

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise EnvironmentWorkerError(self._how_it_ended()) from error

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_S)
        code = self._process.returncode
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            how += " (the machine may be short of memory)" if -code == signal.SIGKILL else ""
        else:
            how = f"ended with status {code}"
        return (
            f"the worker process {self.pid} that steps the environments of seeds {list(self.seeds)} {how}: make the "
            "environments again, or step all of them in one process (num_workers=1, env_workers=1)"
        )

    def _raise(self, pickled: bytes, trace: str) -> None:
        error: BaseException = pickle.loads(pickled)
        raise error from _WorkerTracebackError(trace)


@contextlib.contextmanager
def step_memory() -> Iterator[int]:
    """A descriptor of memory without a name, gone with the last process that maps it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("vagram_ray_env_step")
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()


def kill_all(workers: Sequence[StepWorker]) -> None:
    """End the processes at once; those at work print their stacks first."""
    if any([worker.ask_for_stacks() for worker in workers]):
        time.sleep(_STACKS_S)
    for worker in workers:
        worker.kill()


def close_all(workers: Sequence[StepWorker], creator: int) -> None:
    """Close the workers, unless this is a forked copy of the process that made them."""
    if os.getpid() == creator:
        for worker in workers:
            worker.begin_close()
        for worker in workers:
            worker.close()


@contextlib.contextmanager
def _descriptors() -> Iterator[tuple[int, int, tuple[int, int], tuple[int, int]]]:
    """Both ends of a socket and two bells (read, write); all closed at the end, whoever needs them copies them."""
    with contextlib.ExitStack() as stack:
        here, there = socket.socketpair()
        stack.enter_context(here)
        stack.enter_context(there)
        bells = []
        for _ in range(2):
            bell = (os.eventfd(0),) * 2 if hasattr(os, "eventfd") else os.pipe()
            for descriptor in set(bell):
                stack.callback(os.close, descriptor)
            bells.append(bell)
        yield here.fileno(), there.fileno(), bells[0], bells[1]


def _pickled_recipe(
    spec: EnvironmentSpec, seeds: tuple[int, ...], evaluation: bool, num_seeds: int, rows: slice
) -> bytes:
    """A `Recipe` that a process can read which has imported nothing of the user's."""
    registered = gym.registry.get(spec.env_id.rpartition(":")[2])
    by_value: list[ModuleType] = []
    try:
        if registered is not None:
            module = _module_of(registered.entry_point)
            if module is not None and not _is_importable(module.__name__):
                registered = copy.copy(registered)
                if isinstance(registered.entry_point, str):
                    creator: Any = gym.envs.registration.load_env_creator(registered.entry_point)
                    registered.entry_point = creator
                cloudpickle.register_pickle_by_value(module)
                by_value.append(module)
        return cloudpickle.dumps(Recipe(spec, registered, seeds, evaluation, num_seeds, rows))
    except Exception as error:
        raise EnvironmentSpecError(
            f"environment {spec.env_id!r} cannot be made in a worker process ({type(error).__name__}: {error}): "
            "use num_workers=1 (env_workers=1), or define it in a module that can be imported"
        ) from error
    finally:
        for module in by_value:
            cloudpickle.unregister_pickle_by_value(module)


def _module_of(entry_point: Any) -> ModuleType | None:
    name = entry_point.partition(":")[0] if isinstance(entry_point, str) else getattr(entry_point, "__module__", None)
    return sys.modules.get(name) if name else None


def _is_importable(name: str) -> bool:
    """Whether a fresh process finds the module (an extension that is a file has a name that nobody finds)."""
    top = name.partition(".")[0]
    finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))  # an editable install has its own
    return any(finder.find_spec(top, None) is not None for finder in finders)
