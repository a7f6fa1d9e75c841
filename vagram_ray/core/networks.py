"""Many small networks as one: multilayer perceptrons stacked along a leading axis, and their Adam.

A stack holds N networks of one shape, N = S for one network per seed and N = S * E for an ensemble per seed
(row ``s * E + e`` is member e of seed s). All weights of network n lie in row n of one (N, P) tensor, so that
copying, checkpointing, snapshotting or dropping a seed is one indexing operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURE_NORM_EPSILON = 1e-12
"""Hidden features shorter than this are not scaled up (only all-zero features are)."""

Activation = Callable[[Tensor], Tensor]
Initializer = Callable[[Tensor, torch.Generator], None]


def orthogonal_init(weight: Tensor, generator: torch.Generator) -> None:
    """Orthogonal rows or columns, as in the SAC implementations the paper builds on. ``weight`` is (in, out)."""
    nn.init.orthogonal_(weight, generator=generator)


def truncated_normal_init(weight: Tensor, generator: torch.Generator) -> None:
    """Normal with deviation 1 / (2 sqrt(in)), cut at two deviations: PETS' and MBPO's model initialisation."""
    deviation = 1.0 / (2.0 * math.sqrt(weight.shape[0]))
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator)


class Tape(NamedTuple):
    """What a pass through a stack leaves behind for its differentiation."""

    layer_inputs: list[Tensor]  # of each layer, (N, B, width)
    inverse_norm: Tensor | None  # 1 / |h| of the last hidden features (N, B, 1), if they are normalised
    unscaled: Tensor | None  # h W (N, B, out), if they are


class StackedMLP(nn.Module):
    """N multilayer perceptrons of one shape, evaluated together with batched matrix products.

    Args:
        num_networks: N.
        sizes: Widths from input to output, e.g. ``(in, 256, 256, out)``.
        activation: Nonlinearity of the hidden layers.
        normalize_features: Scale the last hidden features to unit L2 norm.
        extra_sizes: Lengths of further parameter vectors kept in the same rows (``extras``).
        device: Where the parameters live.
        dtype: Their floating-point type.

    Attributes:
        flat: All parameters, (N, P).
        views: The same memory as leaf tensors, per layer weight (N, in, out) and bias (N, 1, out), then the
            extras (N, 1, length). Gradients are taken with respect to these.
    """

    def __init__(
        self,
        num_networks: int,
        sizes: Sequence[int],
        *,
        activation: Activation = F.relu,
        normalize_features: bool = False,
        extra_sizes: Sequence[int] = (),
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.num_networks = num_networks
        self.activation = activation
        self.normalize_features = normalize_features
        self.num_layers = len(sizes) - 1
        self._shapes: list[tuple[int, int]] = []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            self._shapes += [(fan_in, fan_out), (1, fan_out)]
        self._shapes += [(1, length) for length in extra_sizes]
        num_parameters = sum(rows * columns for rows, columns in self._shapes)
        self.flat = nn.Parameter(torch.zeros(num_networks, num_parameters, device=device, dtype=dtype))
        self._build_views()

    @property
    def extras(self) -> list[Tensor]:
        """The further parameter vectors, each (N, 1, length)."""
        return self.views[2 * self.num_layers :]

    @torch.no_grad()
    def initialize(self, initializer: Initializer, generators: Sequence[torch.Generator]) -> None:
        """Draw the weights, network n from ``generators[n * len(generators) // N]``; biases start at 0."""
        members = self.num_networks // len(generators)
        for layer in range(self.num_layers):
            weight, bias = self.views[2 * layer : 2 * layer + 2]
            bias.zero_()
            for row in range(self.num_networks):
                # Drawn outside the stack: initialisers want contiguous memory, and on the generator's device.
                drawn = torch.empty(weight.shape[1:], device=weight.device, dtype=weight.dtype)
                initializer(drawn, generators[row // members])
                weight[row] = drawn

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (N, B, out) for inputs (N, B, in)."""
        return self.forward_with_tape(inputs)[0]

    def forward_with_tape(self, inputs: Tensor) -> tuple[Tensor, Tape]:
        """Outputs as ``forward``, and what ``backward`` needs to differentiate them."""
        layer_inputs = [inputs]
        for layer in range(self.num_layers - 1):
            weight, bias = self.views[2 * layer : 2 * layer + 2]
            layer_inputs.append(self.activation(torch.baddbmm(bias, layer_inputs[-1], weight)))
        features = layer_inputs[-1]
        weight, bias = self.views[2 * self.num_layers - 2 : 2 * self.num_layers]
        if not self.normalize_features:
            return torch.baddbmm(bias, features, weight), Tape(layer_inputs, None, None)
        # (h / |h|) W = (h W) / |h|: scaling the few outputs is cheaper than scaling the many features.
        square_norm = features.square().sum(dim=-1, keepdim=True).clamp_min(FEATURE_NORM_EPSILON**2)
        inverse_norm, unscaled = square_norm.rsqrt(), torch.bmm(features, weight)
        return unscaled * inverse_norm + bias, Tape(layer_inputs, inverse_norm, unscaled)

    def backward(self, tape: Tape, gradient: Tensor, weight_gradients: Sequence[Tensor] | None) -> Tensor:
        """Differentiate a pass of a ReLU network; the same as autograd in fewer operations (docs/performance.md).

        Args:
            tape: Of the pass.
            gradient: Of the loss with respect to the outputs, (N, B, out).
            weight_gradients: Where to write the gradients, shaped like ``views``; None leaves them out.

        Returns:
            Gradient with respect to the first layer's pre-activation (N, B, width): times the first weight's
            transpose it is the gradient of the inputs, of which callers often want a few columns only.
        """
        for layer in reversed(range(self.num_layers)):
            inputs, weight = tape.layer_inputs[layer], self.views[2 * layer]
            if weight_gradients is not None:
                torch.sum(gradient, dim=1, keepdim=True, out=weight_gradients[2 * layer + 1])
            last = layer == self.num_layers - 1
            scaled = gradient * tape.inverse_norm if last and tape.inverse_norm is not None else gradient
            if weight_gradients is not None:
                torch.bmm(inputs.transpose(1, 2), scaled, out=weight_gradients[2 * layer])
            if layer == 0:
                return scaled
            hidden_gradient = torch.bmm(scaled, weight.transpose(1, 2))
            if last and tape.inverse_norm is not None and tape.unscaled is not None:
                # d(1/|h|)/dh = -h/|h|^3, so the features' own direction loses its share.
                along = (scaled * tape.unscaled).sum(dim=-1, keepdim=True) * tape.inverse_norm.square()
                hidden_gradient.addcmul_(inputs, along, value=-1.0)
            gradient = torch.ops.aten.threshold_backward(hidden_gradient, inputs, 0.0)
        raise AssertionError("a network has at least one layer")

    def select_networks(self, index: Tensor) -> StackedMLP:
        """A new stack with copies of the networks at ``index`` (M,)."""
        selected = StackedMLP.__new__(StackedMLP)
        nn.Module.__init__(selected)
        for name in ("activation", "normalize_features", "num_layers", "_shapes"):
            setattr(selected, name, getattr(self, name))
        selected.num_networks = len(index)
        selected.flat = nn.Parameter(self.flat.detach()[index])
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
        return {name: value for name, value in self.__dict__.items() if name != "views"}

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

    The update itself is ``torch.optim.Adam`` (fused where the device has it) with one parameter per seed;
    the moments live in (S, P) tensors, so that a seed's optimiser state is a row like its weights.

    Args:
        flat: The parameters; (N, P) with N a multiple of ``num_seeds``. Updated in place.
        num_seeds: S.
        lr: Step size.
        weight_decay: L2 penalty factor added to the gradient.

    Attributes:
        gradient: (N, P), what ``step()`` without arguments uses.
    """

    def __init__(self, flat: Tensor, num_seeds: int, lr: float, weight_decay: float = 0.0) -> None:
        self.lr, self.weight_decay = lr, weight_decay
        self._stack_shape = flat.shape
        rows = flat.detach().view(num_seeds, -1)
        self._rows = rows
        self._gradient = torch.zeros_like(rows)
        self.gradient = self._gradient.view(self._stack_shape)
        self.exp_avg = torch.zeros_like(rows)
        self.exp_avg_sq = torch.zeros_like(rows)
        self.step_count = torch.zeros(num_seeds, device=rows.device, dtype=torch.float32)
        self._build_optimizer()

    def _build_optimizer(self) -> None:
        parameters = [nn.Parameter(row) for row in self._rows]
        self._adam = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)
        for seed, parameter in enumerate(parameters):
            parameter.grad = self._gradient[seed]
            self._adam.state[parameter] = {
                "step": self.step_count[seed],
                "exp_avg": self.exp_avg[seed],
                "exp_avg_sq": self.exp_avg_sq[seed],
            }

    def step(self, gradients: Sequence[Tensor] | None = None) -> None:
        """One step with the gradients of a stack's ``views`` (in their order), or with what is in ``gradient``."""
        if gradients is not None:
            torch.cat([gradient.flatten(1) for gradient in gradients], dim=1, out=self.gradient)
        self._adam.step()

    def freeze(self, seed: int) -> None:
        """Leave this seed's parameters untouched from now on."""
        self._adam.param_groups[0]["params"][seed].grad = None

    def select_seeds(self, index: Tensor, flat: Tensor) -> StackedAdam:
        """An optimiser for ``flat``, the copied rows of the seeds at ``index``, with copies of their state."""
        selected = StackedAdam(flat, len(index), self.lr, self.weight_decay)
        for own, other in zip(selected._state(), self._state(), strict=True):
            own.copy_(other[index])
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
        """Take over saved moments and step counts; no seed is frozen afterwards."""
        for parameter, gradient in zip(self._adam.param_groups[0]["params"], self._gradient, strict=True):
            parameter.grad = gradient
        for own, saved in zip(self._state(), (state["exp_avg"], state["exp_avg_sq"], state["step_count"]), strict=True):
            own.copy_(saved)
