"""Work that repeats, issued once: CUDA graphs behind one small wrapper that the mathematics never mentions.

At this field's network sizes a GPU finishes a kernel sooner than Python issues the next. A CUDA graph is a recorded
sequence of kernels that one call issues whole. What it was recorded from must read and write the same memory each
time, read nothing on the host and draw no random numbers. The two loops that take an agent's time, ``utd_ratio`` SAC
updates and a minibatch of model fitting, are written so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from vagram_ray.core.random_streams import RandomStreams

T = TypeVar("T")
Replay = Callable[[], None]


class Recorder(Protocol):
    """Records device work and issues it again."""

    def warm_up(self, function: Callable[[], T]) -> T:
        """Run ``function`` as it is, where ``record`` will: libraries set themselves up at their first call."""
        ...

    def record(self, function: Callable[[], T]) -> tuple[Replay, T]:
        """Record what ``function`` issues, without doing it. Returns how to do it, and where its results will be."""
        ...


class CudaRecorder:
    """Records CUDA graphs on a stream of its own, all with one pool of memory.

    They may share it as each is replayed to its end, and its results are read, before the next one starts. An empty
    graph keeps the pool: PyTorch does not record into one again whose last graph has gone, as those of a fit do.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*CUDA Graph is empty")
            self._keeps_pool, _ = self._record(lambda: None)

    def warm_up(self, function: Callable[[], T]) -> T:
        """See ``Recorder``."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = function()
        current.wait_stream(self._stream)
        return result

    def record(self, function: Callable[[], T]) -> tuple[Replay, T]:
        """See ``Recorder``.

        ``torch.cuda.graph`` does the same after collecting garbage and emptying the allocator's cache, which takes
        longer than the recording. An agent records anew at every model fit. While it records the allocator cannot give
        back what it keeps, so that is done, and recorded once more, if there was not enough.
        """
        try:
            graph, result = self._record(function)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            graph, result = self._record(function)
        return graph.replay, result

    def _record(self, function: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                result = function()
            finally:
                graph.capture_end()
        return graph, result


def make_recorder(execution: str, device: torch.device) -> Recorder | None:
    """The recorder that the setting ``execution`` asks for on a device, or None.

    Raises:
        ValueError: If the device has no CUDA graphs.
    """
    if execution != "cuda_graphs":
        return None
    if device.type != "cuda":
        raise ValueError(
            f"execution='cuda_graphs' needs a CUDA device, and this agent is on {str(device)!r}; "
            "give it one, or use execution='auto'."
        )
    return CudaRecorder(device)


class RepeatedWork:
    """Calls functions of device tensors: as they are the first time, recorded the second, replayed from then on.

    A function that drew random numbers at its first call is called as it is for ever.

    Args:
        recorder: Records. None calls all functions as they are.
        streams: Where the functions may draw random numbers from.
    """

    def __init__(self, recorder: Recorder | None, streams: RandomStreams | None = None) -> None:
        self._recorder, self._streams = recorder, streams
        self._can_be_recorded: dict[Hashable, bool] = {}
        self._recorded: dict[Hashable, _Recording] = {}

    def __call__(self, key: Hashable, function: Callable[..., T], *inputs: Tensor) -> T:
        """``function(*inputs)``.

        Args:
            key: Says what on the host the function depends on: equal keys must stand for equal work.
            function: But for its inputs, it reads and writes the same memory at each call with this key. What it
                changes on the host it changes at some of the calls, perhaps twice at one. That must not matter.
            inputs: Of the same shapes with equal keys.

        Returns:
            What the function returns. Tensors in it are overwritten by the next call.
        """
        if self._recorder is None or not self._can_be_recorded.get(key, True):
            return function(*inputs)
        if key not in self._can_be_recorded:
            before = self._stream_states()
            result = self._recorder.warm_up(lambda: function(*inputs))
            self._can_be_recorded[key] = all(map(torch.equal, before, self._stream_states()))
            return result
        if key not in self._recorded:
            self._recorded[key] = _Recording(self._recorder, function, inputs)
        return cast(T, self._recorded[key](*inputs))

    def forget(self) -> None:
        """Drop all recordings: the memory that they read or write has changed."""
        self._can_be_recorded.clear()
        self._recorded.clear()

    def _stream_states(self) -> list[Tensor]:
        return [] if self._streams is None else [generator.get_state() for generator in self._streams.generators]


class _Recording:
    """Recorded work with the memory that it reads its inputs from."""

    def __init__(self, recorder: Recorder, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        self._replay, self._result = recorder.record(lambda: function(*self._inputs))

    def __call__(self, *inputs: Tensor) -> Any:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._replay()
        return self._result
