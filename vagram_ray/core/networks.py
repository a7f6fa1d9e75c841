"""Many small networks as one: multilayer perceptrons stacked along a leading axis, and their Adam.

A stack holds N networks of one shape, N = S for one network per seed and N = S * E for an ensemble per seed
(row ``s * E + e`` is member e of seed s). All weights of network n lie in row n of one (N, P) tensor, so that
copying, checkpointing, snapshotting or dropping a seed is one indexing operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vagram_ray.core.seed_selection import copy_of_seeds

Activation = Callable[[Tensor], Tensor]
Initializer = Callable[[Tensor, torch.Generator], None]
LAYER_NORM_EPSILON = 1e-5
"""Added to the variance of a layer's pre-activations (PyTorch's default)."""
FEATURE_NORM_EPSILON = 1e-12
"""Hidden features shorter than this are not scaled up (only all-zero features are)."""


def orthogonal_init(weight: Tensor, generator: torch.Generator) -> None:
    """Orthogonal rows or columns, as in the SAC implementations the paper builds on. ``weight`` is (in, out)."""
    nn.init.orthogonal_(weight, generator=generator)


def truncated_normal_init(weight: Tensor, generator: torch.Generator) -> None:
    """Normal with deviation 1 / (2 sqrt(in)), cut at two deviations: PETS' and MBPO's model initialisation."""
    deviation = 1.0 / (2.0 * math.sqrt(weight.shape[0]))
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator)


class StackedMLP(nn.Module):
    """N multilayer perceptrons of one shape, evaluated together with batched matrix products.

    Args:
        num_networks: N.
        sizes: Widths from input to output, e.g. ``(in, 256, 256, out)``.
        activation: Nonlinearity of the hidden layers.
        normalize_features: Scale the last hidden features to unit L2 norm.
        layer_norm: Normalise hidden pre-activations over a layer's units, with a gain and a shift per unit
            (Ba et al., 2016).
        extra_sizes: Lengths of further parameter vectors kept in the same rows (``extras``).
        device: Where the parameters live.
        dtype: Their floating-point type.

    Attributes:
        flat: All parameters, (N, P).
        views: The same memory as leaf tensors, per layer weight (N, in, out) and bias (N, 1, out), then the
            gains and shifts (N, 1, out) of normalised layers and the extras (N, 1, length). Gradients are taken with
            respect to these.
        evaluator: Computes ``forward`` where no gradients are wanted, if there is something faster. It is equal but for
            rounding.
    """

    def __init__(
        self,
        num_networks: int,
        sizes: Sequence[int],
        *,
        activation: Activation = F.relu,
        normalize_features: bool = False,
        layer_norm: bool = False,
        extra_sizes: Sequence[int] = (),
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.num_networks = num_networks
        self.activation = activation
        self.evaluator: Callable[[StackedMLP, Tensor], Tensor] | None = None
        self.normalize_features = normalize_features
        self.layer_norm = layer_norm
        self.num_layers = len(sizes) - 1
        self._shapes: list[tuple[int, int]] = []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            self._shapes += [(fan_in, fan_out), (1, fan_out)]
        norm_sizes = [width for width in sizes[1:-1] for _ in ("gain", "shift")] if layer_norm else []
        self._shapes += [(1, length) for length in (*norm_sizes, *extra_sizes)]
        self._num_extras = len(extra_sizes)
        num_parameters = sum(rows * columns for rows, columns in self._shapes)
        self.flat = nn.Parameter(torch.zeros(num_networks, num_parameters, device=device, dtype=dtype))
        self._build_views()

    @property
    def sizes(self) -> list[int]:
        """Widths from input to output."""
        return [self._shapes[0][0], *(columns for _, columns in self._shapes[1 : 2 * self.num_layers : 2])]

    @property
    def extras(self) -> list[Tensor]:
        """The further parameter vectors, each (N, 1, length)."""
        return self.views[len(self.views) - self._num_extras :]

    @torch.no_grad()
    def initialize(self, initializer: Initializer, generators: Sequence[torch.Generator]) -> None:
        """Draw the weights, network n from ``generators[n * len(generators) // N]``. Biases start at 0, gains at 1."""
        members = self.num_networks // len(generators)
        for layer in range(self.num_layers):
            weight, bias = self.views[2 * layer : 2 * layer + 2]
            bias.zero_()
            for row in range(self.num_networks):
                # Drawn outside the stack: initialisers want contiguous memory, and on the generator's device.
                drawn = torch.empty(weight.shape[1:], device=weight.device, dtype=weight.dtype)
                initializer(drawn, generators[row // members])
                weight[row] = drawn
            if self.layer_norm and layer < self.num_layers - 1:
                gain, shift = self._gain_and_shift(layer)
                gain.fill_(1.0)
                shift.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (N, B, out) for inputs (N, B, in), or (M, B, in) where every N / M networks share their inputs."""
        if self.evaluator is not None and not torch.is_grad_enabled():
            return self.evaluator(self, inputs)
        features = self._of_each_network(inputs)
        for layer in range(self.num_layers - 1):
            weight, bias = self.views[2 * layer : 2 * layer + 2]
            features = torch.baddbmm(bias, features, weight)
            if self.layer_norm:
                features = self._normalized(features, layer)
            features = self.activation(features)
        weight, bias = self.views[2 * self.num_layers - 2 : 2 * self.num_layers]
        if not self.normalize_features:
            return torch.baddbmm(bias, features, weight)
        # (h / |h|) W = (h W) / |h|: scaling the few outputs is cheaper than scaling the many features.
        square_norm = features.square().sum(dim=-1, keepdim=True).clamp_min(FEATURE_NORM_EPSILON**2)
        return torch.bmm(features, weight) * square_norm.rsqrt() + bias

    def _normalized(self, features: Tensor, layer: int) -> Tensor:
        """Standardise pre-activations (N, B, width) over a hidden layer's units, then scale and shift each unit."""
        gain, shift = self._gain_and_shift(layer)
        normal = F.layer_norm(features, features.shape[-1:], eps=LAYER_NORM_EPSILON)
        return torch.addcmul(shift, normal, gain)

    def _gain_and_shift(self, layer: int) -> list[Tensor]:
        position = 2 * (self.num_layers + layer)
        return self.views[position : position + 2]

    def _of_each_network(self, inputs: Tensor) -> Tensor:
        """Inputs (N, B, in) of inputs (M, B, in) that are shared."""
        sharing = self.num_networks // inputs.shape[0]
        if sharing == 1:
            return inputs
        return inputs.unsqueeze(1).expand(-1, sharing, -1, -1).reshape(self.num_networks, *inputs.shape[1:])

    def select_networks(self, index: Tensor) -> StackedMLP:
        """A new stack with copies of the networks at ``index`` (M,)."""
        flat = nn.Parameter(self.flat.detach()[index])
        selected = copy_of_seeds(self, index, num_networks=len(index), flat=flat)
        selected._build_views()
        return selected

    def split(self, flat: Tensor) -> list[Tensor]:
        """Views of a (N, P) tensor in the shapes of ``views``."""
        parts = flat.split([rows * columns for rows, columns in self._shapes], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _build_views(self) -> None:
        # Detached first, so that each view is a leaf of its own and gradients need not pass through ``flat``.
        self.views: list[Tensor] = [view.requires_grad_() for view in self.split(self.flat.detach())]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> StackedMLP:
        super()._apply(fn, recurse)
        self._build_views()  # .to() may have moved the parameters to new memory
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**{name: value for name, value in self.__dict__.items() if name != "views"}, "evaluator": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._build_views()


@contextmanager
def constant_weights(*networks: StackedMLP) -> Iterator[None]:
    """Within, the networks' weights are constants: what is computed has gradients with respect to inputs alone."""
    views = [view for network in networks for view in network.views]
    for view in views:
        view.requires_grad_(False)
    try:
        yield
    finally:
        for view in views:
            view.requires_grad_()


class StackedAdam:
    """Adam over the rows of a (S, P) tensor: each seed has its own moments and step count.

    The update itself is the kernel of ``torch.optim.Adam(fused=True)`` with its defaults and one parameter per seed,
    called directly: the optimiser's own bookkeeping costs as much as the kernel at small sizes. The moments live in
    (S, P) tensors, so that a seed's optimiser state is a row like its weights.

    Args:
        flat: The parameters, (N, P) with N a multiple of ``num_seeds``. Updated in place.
        num_seeds: S.
        lr: Step size.
        weight_decay: L2 penalty factor added to the gradient.
    """

    def __init__(self, flat: Tensor, num_seeds: int, lr: float, weight_decay: float = 0.0) -> None:
        self.lr, self.weight_decay = lr, weight_decay
        rows = flat.detach().view(num_seeds, -1)
        self.exp_avg = torch.zeros_like(rows)
        self.exp_avg_sq = torch.zeros_like(rows)
        self.step_count = torch.zeros(num_seeds, device=rows.device, dtype=torch.float32)
        self._attach(flat)

    def _attach(self, flat: Tensor) -> None:
        """Update ``flat`` from now on, for all seeds."""
        self._rows = flat.detach().view(len(self.step_count), -1)
        self._gradient = torch.zeros_like(self._rows)
        self._unfreeze_all()

    def _unfreeze_all(self) -> None:
        """Update all seeds from now on."""
        self._updated = list(range(len(self._rows)))
        self._list_tensors()

    def _list_tensors(self) -> None:
        columns = (self._rows, self._gradient, self.exp_avg, self.exp_avg_sq, self.step_count)
        self._tensors = [[column[seed] for seed in self._updated] for column in columns]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step with the gradients of a stack's ``views``, in their order."""
        by_network = self._gradient.view(len(gradients[0]), -1)
        torch.cat([gradient.flatten(1) for gradient in gradients], dim=1, out=by_network)
        if not self._updated:
            return
        rows, gradient, exp_avg, exp_avg_sq, step_count = self._tensors
        torch._foreach_add_(step_count, 1.0)
        torch._fused_adam_(
            rows, gradient, exp_avg, exp_avg_sq, [], step_count,
            lr=self.lr, beta1=0.9, beta2=0.999, weight_decay=self.weight_decay, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip

    @property
    def updated_seeds(self) -> list[int]:
        """Seeds that are not frozen."""
        return list(self._updated)

    def freeze(self, seed: int) -> None:
        """Leave this seed's parameters untouched from now on."""
        if seed in self._updated:
            self._updated.remove(seed)
            self._list_tensors()

    def select_seeds(self, index: Tensor, flat: Tensor) -> StackedAdam:
        """An optimiser for ``flat``, the copied rows of the seeds at ``index``, with copies of their state."""
        selected = copy_of_seeds(self, index, ("exp_avg", "exp_avg_sq", "step_count"))
        selected._attach(flat)
        return selected

    def write_seeds(self, index: Tensor, other: StackedAdam) -> None:
        """Take over ``other``'s state as the state of the seeds at ``index``."""
        for own, new in zip(self._state(), other._state(), strict=True):
            own[index] = new

    def _state(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.exp_avg, self.exp_avg_sq, self.step_count

    def state_dict(self) -> dict[str, Tensor]:
        """Moments (S, P) and step counts (S,)."""
        return {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq, "step_count": self.step_count}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over saved moments and step counts. No seed is frozen afterwards."""
        self._unfreeze_all()
        for own, saved in zip(self._state(), (state["exp_avg"], state["exp_avg_sq"], state["step_count"]), strict=True):
            own.copy_(saved)
