"""Values of a stack of networks as one call of the compiled library (``values.cpp``)."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from vagram_ray.core.networks import StackedMLP


class NativeValues:
    """Evaluates networks on a CPU in float32, as ``StackedMLP.forward`` but for rounding.

    Args:
        library: What ``build.load_library`` gives.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._function = library.network_values
        pointer, long, integer = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
        self._function.argtypes = [
            pointer, long, integer, integer, pointer, integer, integer, integer, integer, pointer, long, pointer,
        ]  # fmt: skip
        self._function.restype = None

    def __call__(self, network: StackedMLP, inputs: Tensor) -> Tensor:
        """Outputs (N, B, out) for inputs (M, B, in) that every N / M networks share."""
        inputs = inputs.contiguous()
        sizes = network.sizes
        outputs = torch.empty(network.num_networks, inputs.shape[1], sizes[-1])
        self._function(
            network.flat.data_ptr(),
            network.flat.shape[1],
            network.num_networks,
            network.num_networks // inputs.shape[0],
            (ctypes.c_int32 * len(sizes))(*sizes),
            network.num_layers,
            network.activation is F.silu,
            network.normalize_features,
            network.layer_norm,
            inputs.data_ptr(),
            inputs.shape[1],
            outputs.data_ptr(),
        )
        return outputs
