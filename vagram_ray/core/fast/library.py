"""The compiled library as ``core`` uses it: found, tested, and asked for whole pieces of work."""

from __future__ import annotations

import ctypes
import functools

from torch import Tensor

from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.fast import build, selftest
from vagram_ray.core.fast.model import NativeFit, can_fit
from vagram_ray.core.fast.sac import NativeSAC
from vagram_ray.core.fast.values import NativeValues
from vagram_ray.core.model_losses import ModelLoss, Target
from vagram_ray.core.sac import SAC


class CompiledLibrary:
    """Implementation of ``execution.Library``.

    Args:
        handle: Of ``build.load_library``.
    """

    def __init__(self, handle: ctypes.CDLL) -> None:
        self._handle = handle
        self.values = NativeValues(handle)

    def sac(self, sac: SAC) -> NativeSAC:
        """Updates of this agent."""
        return NativeSAC(sac, self._handle)

    def fit(self, dynamics: DynamicsEnsemble, loss: ModelLoss, targets: Target, weights: Tensor) -> NativeFit | None:
        """A fit of such networks, or None if they or the loss are not for the library."""
        return NativeFit(self._handle, dynamics, loss, targets, weights) if can_fit(dynamics, loss) else None


@functools.cache
def find_library(may_compile: bool) -> tuple[CompiledLibrary | None, str]:
    """The library if it computes what PyTorch does, or why there is none, in a sentence without its full stop.

    Args:
        may_compile: Whether it is compiled if nobody has done so before.
    """
    found = build.load_library() if may_compile else build.load_built_library()
    if found.handle is None:
        return None, found.reason
    if wrong := selftest.wrong_parts(found.handle):
        return None, f"the compiled one computes {' and '.join(wrong)} otherwise than PyTorch"
    return CompiledLibrary(found.handle), ""
