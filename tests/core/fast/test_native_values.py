"""Values of networks by the compiled library against ``StackedMLP.forward``."""

import pytest
import torch
import torch.nn.functional as F

from vagram_ray.core.fast.values import NativeValues
from vagram_ray.core.networks import StackedMLP, truncated_normal_init

CASES = {
    "shared inputs, odd widths": (6, 2, (5, 20, 13, 7), F.silu, {}, 700),
    "one output of unit features": (4, 4, (3, 9, 1), F.relu, {"normalize_features": True}, 5),
    "no hidden layer": (3, 3, (4, 2), F.relu, {}, 1),
    "no hidden layer, one output": (3, 3, (11, 1), F.relu, {}, 9),
    "rows beyond a chunk": (2, 1, (14, 40, 40, 24), F.silu, {}, 1030),
    "many outputs of unit features": (2, 2, (4, 16, 16, 37), F.relu, {"normalize_features": True}, 12),
    "normalised layers": (4, 2, (5, 21, 13, 1), F.relu, {"layer_norm": True}, 33),
    "normalised layers, smooth": (4, 2, (5, 21, 13, 3), F.silu, {"layer_norm": True}, 33),
    "normalised layers, unit features": (
        2,
        2,
        (5, 9, 16, 2),
        F.relu,
        {"layer_norm": True, "normalize_features": True},
        600,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_are_those_of_the_readable_path(native_library, case):
    number, inputs, sizes, activation, norms, rows = case
    network = StackedMLP(number, sizes, activation=activation, extra_sizes=(3,), **norms)
    network.initialize(truncated_normal_init, [torch.Generator().manual_seed(seed) for seed in range(number)])
    with torch.no_grad():
        network.flat.add_(0.1)  # biases, too
    drawn = 5.0 * torch.randn(inputs, rows, sizes[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(drawn)
    torch.testing.assert_close(NativeValues(native_library)(network, drawn), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("activation", [F.relu, F.silu])
def test_values_that_are_not_finite_stay_so(native_library, activation, value):
    network = StackedMLP(1, (2, 8, 1), activation=activation)
    network.initialize(truncated_normal_init, [torch.Generator().manual_seed(0)])
    inputs = torch.tensor([[[0.5, 0.5], [value, 0.5]]])
    found = NativeValues(native_library)(network, inputs)
    assert found[0, 0].isfinite().all() and not found[0, 1].isfinite().all()
