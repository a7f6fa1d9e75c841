"""A pass through networks of one shape and back again, each matrix product by the call that is fastest for it.

``StackedMLP`` says what is computed; here is how. Three things are decided, all by measurement (docs/performance.md):

- *Narrow* products, with a few columns, are computed transposed: BLAS libraries are slow at tall, thin results.
- *Wide* layers of a large batch on a CPU with AVX-512 are computed network by network with oneDNN, which is twice as
  fast as PyTorch's default library there. Everywhere else all networks go through one batched product.
- Gradients are written out instead of recorded, and overwrite what is no longer needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

FEATURE_NORM_EPSILON = 1e-12
"""Hidden features shorter than this are not scaled up (only all-zero features are)."""

NARROW = 8
"""Layers with at most so many outputs are narrow."""
WIDE = 128 * 128
"""Weight matrices with at least so many entries are wide."""
WIDE_BATCH = 64
"""Rows from which on wide layers are worth a call per network."""
ROWS_IN_CACHE = 2048
"""Rows that such a network evaluates at a time: more would leave the cache between two layers."""

Activation = Callable[[Tensor], Tensor]


class Layer(NamedTuple):
    """Weights of a layer, and the same memory transposed."""

    weight: Tensor  # (n, in, out)
    bias: Tensor  # (n, 1, out)
    transposed: Tensor  # (n, out, in)

    @property
    def fan_out(self) -> int:
        """Outputs."""
        return self.weight.shape[-1]


class Part(NamedTuple):
    """Networks that are computed together: all of a stack, or a single one, whose tensors lack the axis n then."""

    rows: slice | int  # of the stack
    layers: list[Layer]
    product: Callable[..., Tensor]
    affine: Callable[..., Tensor]
    onednn: bool  # wide products by oneDNN


def whole_stack(views: Sequence[Tensor]) -> Part:
    """All networks, whose weights (N, in, out) and biases (N, 1, out) ``views`` are, in one batched product."""
    return Part(slice(None), _layers(views), torch.bmm, torch.baddbmm, onednn=False)


def single_network(views: Sequence[Tensor], row: int) -> Part:
    """The network in a row, with oneDNN."""
    return Part(row, _layers([view[row] for view in views]), torch.mm, torch.addmm, onednn=True)


def _layers(views: Sequence[Tensor]) -> list[Layer]:
    constant = [view.detach() for view in views]
    pairs = zip(constant[::2], constant[1::2], strict=True)
    return [Layer(weight, bias, weight.mT) for weight, bias in pairs]


class Tape(NamedTuple):
    """What a pass through a part leaves behind for its differentiation."""

    layer_inputs: list[Tensor]  # of each layer, (n, B, width)
    activated: list[Tensor]  # what the derivative of each hidden layer's activation is a function of, (n, B, width)
    inverse_norm: Tensor | None  # 1 / |h| of the last hidden features (n, B, 1), if they are normalised
    unscaled: Tensor | None  # h W (n, B, out), if they are


def has_fast_onednn(like: Tensor) -> bool:
    """Whether ``like`` lives where oneDNN's products were found faster: float32 on a CPU with AVX-512."""
    return (
        like.device.type == "cpu"
        and like.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
    )


# -- a pass and its derivative ----------------------------------------------------------------------------------


def forward(part: Part, inputs: Tensor, outputs: Tensor, activation: Activation, normalize_features: bool) -> Tape:
    """Write the networks' values at ``inputs`` (n, B, in) to ``outputs`` (n, B, out)."""
    layer_inputs, activated = [inputs], []
    for layer in part.layers[:-1]:
        before = _hidden(part, layer_inputs[-1], layer, activation)
        activated.append(before)
        layer_inputs.append(before if activation is F.relu else F.silu(before))
    if not normalize_features:
        _last(part, layer_inputs[-1], part.layers[-1], part.layers[-1].bias, outputs)
        return Tape(layer_inputs, activated, None, None)
    return Tape(layer_inputs, activated, *_last_normalized(part, layer_inputs[-1], outputs))


def evaluate(part: Part, inputs: Tensor, outputs: Tensor, activation: Activation, normalize_features: bool) -> None:
    """As ``forward``, keeping no more than one layer's values at a time."""
    if part.onednn and len(inputs) > ROWS_IN_CACHE:
        for some, their in zip(inputs.split(ROWS_IN_CACHE), outputs.split(ROWS_IN_CACHE), strict=True):
            evaluate(part, some, their, activation, normalize_features)
        return
    features = inputs
    for layer in part.layers[:-1]:
        features = _hidden(part, features, layer, activation)
        if activation is F.silu:
            F.silu(features, inplace=True)
    if normalize_features:
        _last_normalized(part, features, outputs)
    else:
        _last(part, features, part.layers[-1], part.layers[-1].bias, outputs)


def backward(
    part: Part, tape: Tape, gradient: Tensor, weight_gradients: Sequence[Tensor] | None, activation: Activation
) -> Tensor:
    """Differentiate a pass.

    Args:
        part: As in the pass.
        tape: Of the pass.
        gradient: Of the loss with respect to the outputs, (n, B, out).
        weight_gradients: Where to write the gradients of weight and bias by layer; None leaves them out.
        activation: As in the pass.

    Returns:
        Gradient with respect to the first layer's outputs before activation (n, B, width).
    """
    for number in reversed(range(len(part.layers))):
        inputs, layer = tape.layer_inputs[number], part.layers[number]
        inverse_norm = tape.inverse_norm if number == len(part.layers) - 1 else None
        if weight_gradients is not None:
            torch.sum(gradient, dim=-2, keepdim=True, out=weight_gradients[2 * number + 1])
        scaled = gradient if inverse_norm is None else gradient * inverse_norm
        if weight_gradients is not None:
            _weight_gradient(part, inputs, scaled, weight_gradients[2 * number])
        if number == 0:
            return scaled
        hidden_gradient = _input_gradient(part, scaled, layer)
        if inverse_norm is not None:
            _remove_own_direction(hidden_gradient, inputs, scaled, tape)
        gradient = _through_activation(hidden_gradient, tape.activated[number - 1], activation)
    raise AssertionError("a network has at least one layer")


def _remove_own_direction(hidden_gradient: Tensor, features: Tensor, scaled: Tensor, tape: Tape) -> None:
    """What the features' norm adds to their gradient: d(1/|h|)/dh = -h/|h|^3."""
    assert tape.inverse_norm is not None and tape.unscaled is not None
    along = (scaled * tape.unscaled).sum(dim=-1, keepdim=True) * tape.inverse_norm.square()
    hidden_gradient.addcmul_(features, along, value=-1.0)


def _through_activation(gradient: Tensor, activated: Tensor, activation: Activation) -> Tensor:
    """Multiply ``gradient`` by the activation's derivative, in place."""
    if activation is F.relu:
        return torch.ops.aten.threshold_backward.grad_input(gradient, activated, 0.0, grad_input=gradient)
    return torch.ops.aten.silu_backward.grad_input(gradient, activated, grad_input=gradient)


# -- products of a layer: inputs (n, B, in), gradient (n, B, out) -------------------------------------------------


def _is_wide(part: Part, weight: Tensor) -> bool:
    return part.onednn and weight.shape[-2] * weight.shape[-1] >= WIDE


def _onednn(left: Tensor, right_transposed: Tensor, bias: Tensor | None, attribute: str) -> Tensor:
    """``left @ right + bias`` of matrices, with the activation ``attribute`` where it is not "none"."""
    return torch.ops.mkldnn._linear_pointwise(left, right_transposed, bias, attribute, [], "")


def _hidden(part: Part, inputs: Tensor, layer: Layer, activation: Activation) -> Tensor:
    """The layer's outputs; with the activation where it is ReLU, before it otherwise."""
    relu = activation is F.relu
    if _is_wide(part, layer.weight):
        return _onednn(inputs, layer.transposed, layer.bias[0], "relu" if relu else "none")
    outputs = part.affine(layer.bias, inputs, layer.weight)
    return outputs.relu_() if relu else outputs


def _last(part: Part, features: Tensor, layer: Layer, bias: Tensor, outputs: Tensor) -> None:
    if layer.fan_out > NARROW:
        part.affine(bias, features, layer.weight, out=outputs)
    elif layer.fan_out == 1:
        part.affine(bias, layer.transposed, features.mT, out=outputs.mT)
    else:
        outputs.copy_(part.affine(bias.mT, layer.transposed, features.mT).mT)


def _last_normalized(part: Part, features: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The last layer on features of unit length; returns their inverse norms (n, B, 1) and ``features @ weight``."""
    layer = part.layers[-1]
    # (h / |h|) W = (h W) / |h|: scaling the few outputs is cheaper than scaling the many features.
    square_norm = torch.linalg.vecdot(features, features).unsqueeze(-1).clamp_min_(FEATURE_NORM_EPSILON**2)
    inverse_norm, unscaled = square_norm.rsqrt_(), torch.empty_like(outputs)
    _last(part, features, layer, torch.zeros_like(layer.bias), unscaled)
    torch.addcmul(layer.bias, unscaled, inverse_norm, out=outputs)
    return inverse_norm, unscaled


def _weight_gradient(part: Part, inputs: Tensor, gradient: Tensor, out: Tensor) -> None:
    if _is_wide(part, out):
        out.copy_(_onednn(inputs.mT, gradient.mT, None, "none"))
    elif out.shape[-1] <= NARROW:
        out.copy_(part.product(gradient.mT, inputs).mT)
    else:
        part.product(inputs.mT, gradient, out=out)


def _input_gradient(part: Part, gradient: Tensor, layer: Layer) -> Tensor:
    if _is_wide(part, layer.weight):
        return _onednn(gradient, layer.weight, None, "none")
    if layer.fan_out == 1:
        return gradient * layer.transposed
    return part.product(gradient, layer.transposed)
