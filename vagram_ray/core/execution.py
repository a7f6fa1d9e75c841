"""How an agent's work is executed: what the setting ``execution`` comes to on a device.

=================  ==========================================================================================
``"eager"``        PyTorch, operation by operation: the reference.
``"native"``       SAC's updates as calls of the compiled library of ``core.fast``; on a CPU.
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

from vagram_ray.core.fast import build
from vagram_ray.core.graphs import Recorder, make_recorder
from vagram_ray.core.settings import MBPOSettings

UPDATES_WORTH_COMPILING = 1000
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


def _demanded_library(device: torch.device) -> ctypes.CDLL:
    if device.type != "cpu":
        raise ValueError(
            f"execution='native' computes on a CPU, and this agent is on {str(device)!r}; use execution='auto'."
        )
    library = build.load_library()
    if library.handle is None:
        raise ValueError(f"execution='native' is not possible: {library.reason}. Use execution='auto'.")
    return library.handle


def _library_at_hand(updates_per_epoch: int) -> ctypes.CDLL | None:
    if updates_per_epoch < UPDATES_WORTH_COMPILING:
        return build.load_built_library().handle
    library = build.load_library()
    if library.handle is None:
        _tell_once(library.reason)
    return library.handle


@functools.cache
def _tell_once(reason: str) -> None:
    logger.warning(
        "SAC's updates take longer than they need to (docs/performance.md): PyTorch executes each operation by itself, "
        "as there is no compiled library: %s.",
        reason,
    )
