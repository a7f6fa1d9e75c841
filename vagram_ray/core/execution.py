"""How an agent's work is executed: what ``execution`` and ``matmul_precision`` come to on a device.

Whatever is chosen computes what the readable modules define. ``core.fast`` is known here alone, and may be missing.

=================  ==========================================================================================
``"eager"``        PyTorch, operation by operation: the reference.
``"native"``       Calls of the compiled library of ``core.fast``, on a CPU: SAC's updates, model fits of the losses
                   with a family (``ModelLoss.family``), and values of networks without gradients. The rest is eager.
``"cuda_graphs"``  Updates and the minibatches of a fit, recorded once and issued whole, on a GPU.
``"auto"``         On a CPU ``"native"`` if the library has been compiled, or if it can be and an epoch has at least
                   ``UPDATES_WORTH_COMPILING`` updates, summed over seeds, ``"eager"`` otherwise and on a GPU.
=================  ==========================================================================================
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from vagram_ray.core.graphs import Recorder, make_recorder
from vagram_ray.core.settings import MBPOSettings

if TYPE_CHECKING:
    from vagram_ray.core.dynamics import DynamicsEnsemble
    from vagram_ray.core.metrics import MetricSums
    from vagram_ray.core.model_losses import ModelLoss, Target
    from vagram_ray.core.networks import StackedAdam, StackedMLP
    from vagram_ray.core.sac import SAC

UPDATES_WORTH_COMPILING = 5000
"""At a millisecond or more per update, some tens of epochs with so many take longer than the compiler does."""

logger = logging.getLogger(__name__)


class Library(Protocol):
    """Computes whole pieces of an agent's work on a CPU, equal to the readable modules but for rounding."""

    def values(self, network: StackedMLP, inputs: Tensor, /) -> Tensor:
        """``StackedMLP.forward`` without gradients."""
        ...

    def sac(self, sac: SAC) -> SacUpdates:
        """The updates of this agent."""
        ...

    def fit(self, dynamics: DynamicsEnsemble, loss: ModelLoss, targets: Target, weights: Tensor) -> FitEpochs | None:
        """The epochs of ``ModelFit``, or None if the library does not know the loss or such networks."""
        ...


class SacUpdates(Protocol):
    """``SAC.update``, several at once."""

    def updates(self, first: int, batches: Tensor, noise: Tensor) -> MetricSums:
        """On batches (S, count, B, width) with noise (S, count, B, 2 A), from number ``first`` on."""
        ...


class FitEpochs(Protocol):
    """The epochs of a fit, and its measures on rows (S, N) of the data."""

    def train(self, dynamics: DynamicsEnsemble, optimizer: StackedAdam, index: Tensor, batch: int) -> Tensor:
        """A step for every ``batch`` rows at ``index`` (S, E, N). Returns the sums of the losses (S, E)."""
        ...

    def mean_loss(self, dynamics: DynamicsEnsemble, index: Tensor) -> Tensor:
        """Of each member, (S, E)."""
        ...

    def mean_squared_error(self, dynamics: DynamicsEnsemble, index: Tensor) -> Tensor:
        """Of each member, over the outputs in the targets' units, (S, E)."""
        ...

    def mean_delta_mse(self, dynamics: DynamicsEnsemble, index: Tensor) -> Tensor:
        """Of each member, ``model_losses.delta_mse``, (S, E)."""
        ...

    def select_seeds(self, index: Tensor) -> FitEpochs:
        """The same for some of the seeds."""
        ...


class Execution(NamedTuple):
    """The executors of an agent's work. Both are None where PyTorch executes it operation by operation."""

    library: Library | None  # computes on a CPU
    recorder: Recorder | None  # records on a GPU


def choose_execution(settings: MBPOSettings, num_seeds: int, device: torch.device) -> Execution:
    """The executors that the setting ``execution`` asks for.

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
    settings: MBPOSettings, device: torch.device, native: bool, library: Library | None
) -> Library | None:
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


@contextlib.contextmanager
def precision_of_products(precision: str, device: torch.device) -> Iterator[None]:
    """Give float32 products on a GPU the precision of the setting ``matmul_precision``. Nothing changes on a CPU.

    ``torch.set_float32_matmul_precision`` is for a whole process and for CPUs too, where it may mean bfloat16.
    """
    if device.type != "cuda":
        yield
        return
    backend, high = torch.backends.cuda.matmul, precision == "high"
    # From PyTorch 2.9 on there is one name for it. The two must not be mixed.
    name, value = ("fp32_precision", "tf32" if high else "ieee") if _names_precision() else ("allow_tf32", high)
    before = getattr(backend, name)
    setattr(backend, name, value)
    try:
        yield
    finally:
        setattr(backend, name, before)


def _names_precision() -> bool:
    return hasattr(torch.backends.cuda.matmul, "fp32_precision")


def _demanded_library(device: torch.device) -> Library:
    if device.type != "cpu":
        raise ValueError(
            f"execution='native' computes on a CPU, and this agent is on {str(device)!r}; use execution='auto'."
        )
    library, reason = _find_library(may_compile=True)
    if library is None:
        raise ValueError(f"execution='native' is not possible: {reason}. Use execution='auto'.")
    return library


def _library_at_hand(updates_per_epoch: int) -> Library | None:
    worth_compiling = updates_per_epoch >= UPDATES_WORTH_COMPILING
    library, reason = _find_library(may_compile=worth_compiling)
    if library is None and worth_compiling:
        _tell_once(reason)
    return library


def _find_library(may_compile: bool) -> tuple[Library | None, str]:
    """The library, or why there is none in a sentence without its full stop."""
    try:
        from vagram_ray.core.fast.library import find_library
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("vagram_ray.core.fast"):
            raise
        return None, "vagram_ray.core.fast is not installed"
    return find_library(may_compile)


@functools.cache
def _tell_once(reason: str) -> None:
    logger.warning(
        "Updates and fits take longer than they need to (docs/performance.md): PyTorch executes each operation by "
        "itself, as there is no compiled library: %s.",
        reason,
    )
