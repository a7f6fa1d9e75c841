"""SAC's updates as one call of the compiled library (``sac.cpp``), equal to ``SAC.update`` but for rounding."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import torch
from torch import Tensor

from vagram_ray.core.metrics import MetricSums
from vagram_ray.core.sac import SAC

_METRICS = ("critic_loss", "value", "actor_loss", "entropy", "alpha")
_OF_ACTOR = frozenset(("actor_loss", "entropy", "alpha"))
"""Metrics of the updates that train the actor, too."""

_POINTERS = (
    "actor", "critics", "targets", "log_alpha",
    "actor_first", "actor_second", "actor_steps",
    "critic_first", "critic_second", "critic_steps",
    "alpha_first", "alpha_second", "alpha_steps",
    "batches", "noise", "obs_mean", "obs_std", "frozen", "metrics", "actor_sizes", "critic_sizes",
)  # fmt: skip
_INTEGERS = (
    "seeds", "updates", "batch", "obs_dim", "action_dim", "actor_layers", "critic_layers", "unit_features",
    "critic_layer_norm", "actor_period", "target_period",
)  # fmt: skip
_NUMBERS = ("gamma", "tau", "target_entropy", "actor_lr", "critic_lr", "alpha_lr")


class _SacUpdates(ctypes.Structure):
    """``SacUpdates`` of sac.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("first_update", ctypes.c_int64),
        *((name, ctypes.c_int32) for name in _INTEGERS),
        *((name, ctypes.c_float) for name in _NUMBERS),
    ]


class NativeSAC:
    """Updates an agent's networks in place, where ``SAC`` keeps them.

    Args:
        sac: On a CPU, in float32.
        library: What ``build.load_library`` gives.
    """

    def __init__(self, sac: SAC, library: ctypes.CDLL) -> None:
        self._sac, self._function = sac, library.sac_updates
        self._function.argtypes, self._function.restype = [ctypes.POINTER(_SacUpdates)], None
        size = library.sac_updates_size()
        assert size == ctypes.sizeof(_SacUpdates), f"sac.cpp expects {size} bytes, not {ctypes.sizeof(_SacUpdates)}"
        self._sizes = [
            torch.tensor(network.sizes, dtype=torch.int32) for network in (sac.actor.network, sac.critic.network)
        ]
        self._constants = self._plain_values()

    def updates(self, first: int, batches: Tensor, noise: Tensor) -> MetricSums:
        """SAC updates from number ``first`` on.

        Args:
            first: Updates that were done before.
            batches: Transitions (S, count, B, 2 D + A + 2), rows of the replay buffer.
            noise: Standard normal (S, count, B, 2 A), as ``SAC.update`` takes it.

        Returns:
            The sums of the metrics of ``SAC.update``, NaN for frozen seeds.
        """
        seeds, count, batch_size = batches.shape[:3]
        metrics = torch.empty(len(_METRICS), seeds)
        frozen = torch.ones(seeds, dtype=torch.uint8)
        frozen[self._sac.critic_optimizer.updated_seeds] = 0
        arrays = dict(self._state())
        arrays |= {"batches": batches.contiguous(), "noise": noise.contiguous(), "frozen": frozen, "metrics": metrics}
        pointers = {name: None if array is None else array.data_ptr() for name, array in arrays.items()}
        call = _SacUpdates(
            **self._constants, **pointers, first_update=first, updates=count, batch=batch_size, seeds=seeds
        )
        self._function(ctypes.byref(call))
        return self._sums(metrics, first, count)

    def _sums(self, metrics: Tensor, first: int, count: int) -> MetricSums:
        period = self._sac.settings.actor_update_period
        of_actor = sum(number % period == 0 for number in range(first, first + count))
        sums = MetricSums()
        for name, values in zip(_METRICS, metrics, strict=True):
            its_count = of_actor if name in _OF_ACTOR else count
            if its_count:
                sums.add({name: values}, its_count)
        return sums

    def _state(self) -> Iterator[tuple[str, Tensor | None]]:
        sac, scale = self._sac, self._sac.actor.scale
        yield "actor", sac.actor.flat
        yield "critics", sac.critic.network.flat
        yield "targets", sac.target_critic.network.flat
        yield "log_alpha", sac.log_alpha
        optimizers = {"actor": sac.actor_optimizer, "critic": sac.critic_optimizer, "alpha": sac.alpha_optimizer}
        for name, optimizer in optimizers.items():
            yield f"{name}_first", optimizer.exp_avg
            yield f"{name}_second", optimizer.exp_avg_sq
            yield f"{name}_steps", optimizer.step_count
        yield "obs_mean", scale.obs_mean if scale.enabled else None
        yield "obs_std", scale.obs_std if scale.enabled else None
        yield "actor_sizes", self._sizes[0]
        yield "critic_sizes", self._sizes[1]

    def _plain_values(self) -> dict[str, float]:
        sac, settings = self._sac, self._sac.settings
        return {
            "obs_dim": sac.actor.network.sizes[0],
            "action_dim": sac.actor.action_dim,
            "actor_layers": sac.actor.network.num_layers,
            "critic_layers": sac.critic.network.num_layers,
            "unit_features": int(settings.normalize_features),
            "critic_layer_norm": int(settings.critic_layer_norm),
            "actor_period": settings.actor_update_period,
            "target_period": settings.target_update_period,
            "gamma": settings.gamma,
            "tau": settings.tau,
            "target_entropy": sac.target_entropy,
            "actor_lr": settings.actor_lr,
            "critic_lr": settings.critic_lr,
            "alpha_lr": settings.alpha_lr,
        }
