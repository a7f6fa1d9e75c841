"""What a CUDA graph does, on a CPU: operations recorded with the memory they used, and done again in that memory.

Recording does nothing, as with CUDA. What CUDA forbids while it records is refused: reading a value on the host,
copying from the host, results whose size depends on values, random numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST_READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim"}
INDEXING = {"index", "index_put_", "index_put", "_index_put_impl_"}
HOST_COPIES = {"lift_fresh", "lift_fresh_copy"}
RANDOM = {"normal_", "uniform_", "random_", "randperm", "bernoulli_", "bernoulli", "exponential_", "multinomial"}


class CannotBeRecordedError(Exception):
    """What CUDA would not record."""


class TapeRecorder:
    """A ``Recorder`` for the CPU; counts what it is asked for."""

    def __init__(self):
        self.warm_ups = self.recordings = self.replays = 0

    def warm_up(self, function):
        self.warm_ups += 1
        return function()

    def record(self, function):
        self.recordings += 1
        with _Tape() as tape:
            result = function()
        tape.undo()

        def replay():
            self.replays += 1
            tape.play()

        return replay, result


class _Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations, self.made, self.before = [], set(), {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        by_mask = name in INDEXING and any(own.dtype == torch.bool for own in _tensors(args[1]))
        if by_mask or name in HOST_READS | HOST_COPIES | RANDOM:
            raise CannotBeRecordedError(f"{function} in recorded work")
        written = _written(function, args, kwargs)
        for tensor in written:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.made | self.before.keys():
                self.before[storage.data_ptr()] = (storage, storage.clone())
        results = function(*args, **kwargs)
        given = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs))}
        new = [own for own in _tensors(results) if own.untyped_storage().data_ptr() not in given]
        self.made |= {own.untyped_storage().data_ptr() for own in new}
        if written or new:  # views are there already
            self.operations.append((function, args, kwargs, results, bool(written)))
        return results

    def undo(self):
        """Put back what recording has written to memory that was there before."""
        for storage, content in self.before.values():
            storage.copy_(content)

    @torch.no_grad()
    def play(self):
        for function, args, kwargs, results, in_place in self.operations:
            again = function(*args, **kwargs)
            if not in_place:
                for own, new in zip(_tensors(results), _tensors(again), strict=True):
                    own.detach().copy_(new)


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _written(function, args, kwargs):
    written = []
    for position, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = kwargs.get(argument.name) if argument.name in kwargs else args[position : position + 1]
            written += _tensors(value)
    return written
