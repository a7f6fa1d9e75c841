"""How an agent's work is executed: what the setting ``execution`` comes to on a device.

=================  ==========================================================================================
``"eager"``        PyTorch, operation by operation: the reference.
``"native"``       Calls of the compiled library of ``core.fast``, on a CPU: SAC's updates, model fits of the losses
                   with a family (``ModelLoss.family``), and values of networks without gradients. The rest is eager.
``"cuda_graphs"``  Updates and the minibatches of a fit, recorded once and issued whole; on a GPU.
``"auto"``         On a CPU ``"native"`` if the library has been compiled, or if it can be and an epoch has at least
                   ``UPDATES_WORTH_COMPILING`` updates, summed over seeds; ``"eager"`` otherwise and on a GPU.
=================  ==========================================================================================
"""

from __future__ import annotations

import ctypes
import functools
import logging
from typing import NamedTuple

import torch

from vagram_ray.core.fast import build, selftest
from vagram_ray.core.graphs import Recorder, make_recorder
from vagram_ray.core.settings import MBPOSettings

UPDATES_WORTH_COMPILING = 5000
"""At a millisecond or more per update, some tens of epochs with so many take longer than the compiler does."""

logger = logging.getLogger(__name__)


class Execution(NamedTuple):
    """What an agent's work is handed to; both are None where PyTorch executes it operation by operation."""

    library: ctypes.CDLL | None  # computes on a CPU
    recorder: Recorder | None  # records on a GPU


def choose_execution(settings: MBPOSettings, num_seeds: int, device: torch.device) -> Execution:
    """What the setting ``execution`` asks for.

    Raises:
        ValueError: If the device cannot do it, or there is no library and the setting insists on it.
    """
    if settings.execution == "native":
        return Execution(_demanded_library(device), None)
    if settings.execution == "auto":
        updates = num_seeds * settings.epoch_length * settings.utd_ratio
        return Execution(_library_at_hand(updates) if device.type == "cpu" else None, None)
    return Execution(None, make_recorder(settings.execution, device))


def library_to_go_on_with(
    settings: MBPOSettings, device: torch.device, native: bool, library: ctypes.CDLL | None
) -> ctypes.CDLL | None:
    """What a run goes on with that the library has computed so far (``native``) or has not.

    With ``"auto"`` it is what has been, whatever has been compiled meanwhile: a run that is interrupted then has the
    numbers of one that is not. Other settings are what they say.

    Args:
        settings: Hyperparameters.
        device: Where the agent lives.
        native: Whether the saved run was computed by the library.
        library: What ``choose_execution`` chose.
    """
    if settings.execution != "auto" or device.type != "cpu" or native == (library is not None):
        return library
    return _library_at_hand(UPDATES_WORTH_COMPILING) if native else None


def _demanded_library(device: torch.device) -> ctypes.CDLL:
    if device.type != "cpu":
        raise ValueError(
            f"execution='native' computes on a CPU, and this agent is on {str(device)!r}; use execution='auto'."
        )
    library = _tested(build.load_library())
    if library.handle is None:
        raise ValueError(f"execution='native' is not possible: {library.reason}. Use execution='auto'.")
    return library.handle


def _library_at_hand(updates_per_epoch: int) -> ctypes.CDLL | None:
    worth_compiling = updates_per_epoch >= UPDATES_WORTH_COMPILING
    found = build.load_library() if worth_compiling else build.load_built_library()
    library = _tested(found)
    if library.handle is None and (worth_compiling or found.handle is not None):
        _tell_once(library.reason)
    return library.handle


def _tested(library: build.NativeLibrary) -> build.NativeLibrary:
    """The library if it computes what PyTorch does."""
    wrong = () if library.handle is None else selftest.wrong_parts(library.handle)
    if not wrong:
        return library
    return build.NativeLibrary(None, f"the compiled one computes {' and '.join(wrong)} otherwise than PyTorch")


@functools.cache
def _tell_once(reason: str) -> None:
    logger.warning(
        "Updates and fits take longer than they need to (docs/performance.md): PyTorch executes each operation by "
        "itself, as there is no compiled library: %s.",
        reason,
    )
