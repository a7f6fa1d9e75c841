"""What a worker process runs: the environments of some seeds, stepped when the trial's process asks.

A step's arrays lie in memory that both processes map, and a bell (an eventfd) says that they are ready. Everything
else goes through a socket, errors too: an end of the socket tells either side that the other is gone.

The bell is no detail. Linux takes a write to a socket or a pipe as a hint that the writer is about to sleep and wakes
the reader on the writer's own core, where it waits until the trial's process has stepped its share; an eventfd gives
no such hint.
"""

from __future__ import annotations

import faulthandler
import functools
import mmap
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, NoReturn

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import DTypeLike

from vagram_ray.envs.spec import EnvironmentSpec
from vagram_ray.envs.step_group import StepArrays, StepGroup

RING = (1).to_bytes(8, sys.byteorder)
"""What is written to a bell; eight bytes, as an eventfd wants."""
STACKS_SIGNAL: int | None = getattr(signal, "SIGUSR1", None)
"""Makes a worker print the stacks of its threads; None where there is no such signal."""
_ORPHAN_POLL_S = 1.0


class Recipe(NamedTuple):
    """What a worker makes its environments from."""

    spec: EnvironmentSpec
    registered: Any  # Gymnasium's entry for the id, or None: the trial's process may have registered it itself
    seeds: tuple[int, ...]
    evaluation: bool
    num_seeds: int  # of the cohort
    rows: slice  # which of them are these


class SharedStep:
    """A step's arguments and results in memory that all processes of a cohort map.

    Attributes:
        actions: (S, A), in the environments' own range.
        active: (S,) bool.
        out: the results, S rows.
    """

    def __init__(self, descriptor: int, num_seeds: int, obs_dim: int, action_dim: int, action_dtype: np.dtype) -> None:
        n = num_seeds
        shapes: list[tuple[tuple[int, ...], DTypeLike]] = [
            ((n, action_dim), action_dtype), ((n, obs_dim), np.float32), ((n, obs_dim), np.float32), ((n,), np.float32),
            ((n,), bool), ((n,), bool), ((n,), bool),
        ]  # fmt: skip
        sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes]
        if os.fstat(descriptor).st_size < sum(sizes):
            os.ftruncate(descriptor, sum(sizes))
        memory, start, arrays = mmap.mmap(descriptor, sum(sizes)), 0, []
        for (shape, dtype), size in zip(shapes, sizes, strict=True):
            arrays.append(np.frombuffer(memory, dtype, int(np.prod(shape)), start).reshape(shape))
            start += size
        self.actions, *results, self.active = arrays
        self.out = StepArrays(*results)


def main(arguments: list[str]) -> None:
    """Serve until the trial's process closes the socket or is gone."""
    parent, control, memory, asked, done = (int(argument) for argument in arguments)
    faulthandler.enable()
    if STACKS_SIGNAL is not None:
        faulthandler.register(STACKS_SIGNAL, all_threads=True)
    # A step may hang while the trial's process is killed: nobody else would end this one. (One that hangs without ever
    # letting go of Python's lock is not ended by a thread either.)
    threading.Thread(target=_end_with, args=(parent,), name="env-worker-parent", daemon=True).start()
    connection = Connection(control)
    try:
        recipe = pickle.loads(connection.recv_bytes())
        group, shared = _prepare(recipe, memory)
    except Exception as error:
        _report(connection, error)
        return
    connection.send(None)
    _serve(group, functools.partial(_step, group, shared, recipe.rows), connection, asked, done)


def _step(group: StepGroup, shared: SharedStep, rows: slice) -> None:
    group.step(shared.actions[rows], shared.active[rows], shared.out.rows(rows))


def _prepare(recipe: Recipe, memory: int) -> tuple[StepGroup, SharedStep]:
    if recipe.registered is not None:
        gym.registry[recipe.registered.id] = recipe.registered
    group = StepGroup(recipe.spec, recipe.seeds, evaluation=recipe.evaluation)
    observation_space, action_space = group.envs[0].observation_space, group.envs[0].action_space
    assert isinstance(observation_space, gym.spaces.Box) and isinstance(action_space, gym.spaces.Box)
    sizes = (recipe.num_seeds, observation_space.shape[0], action_space.shape[0])
    return group, SharedStep(memory, *sizes, np.dtype(action_space.dtype))


def _serve(group: StepGroup, step: Callable[[], None], connection: Connection, asked: int, done: int) -> None:
    commands: dict[str, Callable[..., Any]] = {
        "reset": group.reset, "get": group.get_generator_states, "set": group.set_generator_states,
    }  # fmt: skip
    poller = select.poll()
    poller.register(asked, select.POLLIN)
    poller.register(connection.fileno(), select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll()}
        try:
            if asked in ready:
                os.read(asked, len(RING))
                step()
                os.write(done, RING)
                continue
            try:
                name, *arguments = connection.recv()
            except (EOFError, ConnectionError):
                name = "close"
            if name == "close":
                group.close()
                return
            connection.send((True, commands[name](*arguments)))
        except BaseException as error:  # also an environment's sys.exit
            _report(connection, error)


def _report(connection: Connection, error: BaseException) -> None:
    """Send an error and its traceback; one that cannot be pickled goes as a RuntimeError with its text."""
    try:
        pickled = cloudpickle.dumps(error)
        pickle.loads(pickled)
    except Exception:
        pickled = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    connection.send((False, (pickled, "".join(traceback.format_exception(error)))))


def _end_with(parent: int) -> NoReturn:
    while os.getppid() == parent:
        time.sleep(_ORPHAN_POLL_S)
    os._exit(1)
