import pytest
import torch
import torch.nn.functional as F

from tests.core.toy import small_settings
from vagram_ray.core import passes
from vagram_ray.core.networks import StackedMLP, constant_weights, truncated_normal_init
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac import SAC

BATCH = 70
needs_onednn = pytest.mark.skipif(not passes.has_fast_onednn(torch.empty(0)), reason="no oneDNN or no AVX-512 here")
kinds = pytest.mark.parametrize(
    ("activation", "normalize"), [(F.relu, False), (F.relu, True), (F.silu, False), (F.silu, True)]
)


def make_stack(sizes, activation=F.relu, normalize=False, num_networks=4, dtype=torch.float32):
    stack = StackedMLP(num_networks, sizes, activation=activation, normalize_features=normalize, dtype=dtype)
    stack.initialize(truncated_normal_init, RandomStreams(range(num_networks), "init", dtype=dtype).generators)
    with torch.no_grad():  # biases that matter
        stack.flat += 0.1 * torch.randn_like(stack.flat)
    return stack


def plain(stack, inputs):
    """The networks one by one, in operations that autograd differentiates."""
    outputs = []
    for n in range(stack.num_networks):
        *hidden, last = zip(stack.views[::2], stack.views[1::2], strict=True)
        features = inputs[n * len(inputs) // stack.num_networks]
        for weight, bias in hidden:
            features = stack.activation(features @ weight[n] + bias[n])
        if stack.normalize_features:
            features = F.normalize(features, dim=-1)
        outputs.append(features @ last[0][n] + last[1][n])
    return torch.stack(outputs)


def check_against_plain(stack, inputs, **tolerance):
    inputs.requires_grad_()
    expected = plain(stack, inputs)
    direction = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), [inputs, *stack.views])

    with torch.no_grad():
        torch.testing.assert_close(stack(inputs), expected, **tolerance)
    recorded = stack(inputs)
    torch.testing.assert_close(recorded, expected, **tolerance)
    for own, automatic in zip(
        torch.autograd.grad((recorded * direction).sum(), [inputs, *stack.views]), expected_gradients, strict=True
    ):
        torch.testing.assert_close(own, automatic, **tolerance)

    outputs, tapes = stack.forward_with_tape(inputs.detach())
    torch.testing.assert_close(outputs, expected, **tolerance)
    written = stack.split(torch.empty_like(stack.flat))
    by_inputs = stack.backward(tapes, direction, written, slice(0, inputs.shape[-1]))
    for own, automatic in zip(written, expected_gradients[1:], strict=True):
        torch.testing.assert_close(own, automatic, **tolerance)
    by_inputs = by_inputs.unflatten(0, (len(inputs), -1)).sum(dim=1)
    torch.testing.assert_close(by_inputs, expected_gradients[0], **tolerance)


@kinds
@pytest.mark.parametrize("outputs", [1, 3, 20])
@pytest.mark.parametrize("sharing", [1, 2])
def test_batched_passes_equal_plain_networks_and_autograd(activation, normalize, outputs, sharing):
    stack = make_stack((6, 16, 12, outputs), activation, normalize, dtype=torch.float64)
    inputs = torch.randn(4 // sharing, BATCH, 6, dtype=torch.float64)
    check_against_plain(stack, inputs, rtol=1e-9, atol=1e-11)


@needs_onednn
@kinds
@pytest.mark.parametrize("outputs", [1, 3, 20])
@pytest.mark.parametrize("sharing", [1, 2])
def test_passes_with_onednn_equal_plain_networks_and_autograd(activation, normalize, outputs, sharing):
    stack = make_stack((6, 160, 128, outputs), activation, normalize)
    assert stack._by_network(torch.empty(4, BATCH, 6))
    check_against_plain(stack, torch.randn(4 // sharing, BATCH, 6), rtol=1e-4, atol=2e-4)


@needs_onednn
def test_a_wide_network_computes_the_same_bits_alone_and_in_a_stack():
    stack = make_stack((6, 160, 128, 3))
    inputs = torch.randn(4, BATCH, 6)
    alone = stack.select_networks(torch.tensor([2]))
    with torch.no_grad():
        assert torch.equal(stack(inputs)[2], alone(inputs[[2]])[0])


@needs_onednn
@kinds
def test_many_rows_are_evaluated_in_blocks_with_the_same_result(monkeypatch, activation, normalize):
    stack = make_stack((6, 160, 128, 1), activation, normalize)
    inputs = torch.randn(2, 3 * BATCH + 1, 6)
    with torch.no_grad():
        expected = stack(inputs)
        monkeypatch.setattr(passes, "ROWS_IN_CACHE", BATCH)
        torch.testing.assert_close(stack(inputs), expected, rtol=1e-4, atol=1e-5)


@needs_onednn
def test_small_batches_of_wide_networks_go_through_one_batched_product(monkeypatch):
    stack = make_stack((6, 160, 128, 3))
    monkeypatch.setattr(passes, "_onednn", None)  # a call would fail
    inputs = torch.randn(4, 1, 6)
    with torch.no_grad():
        torch.testing.assert_close(stack(inputs), plain(stack, inputs), rtol=1e-4, atol=1e-5)


@needs_onednn
def test_constant_weights_get_no_gradients_from_wide_networks():
    stack = make_stack((6, 160, 128, 3))
    inputs = torch.randn(4, BATCH, 6, requires_grad=True)
    with constant_weights(stack):
        outputs = stack(inputs)
        (own,) = torch.autograd.grad(outputs.sum(), inputs)
        torch.testing.assert_close(
            own, torch.autograd.grad(plain(stack, inputs).sum(), inputs)[0], rtol=1e-4, atol=1e-4
        )
        assert not stack(inputs.detach()).requires_grad


@needs_onednn
@pytest.mark.parametrize("normalize", [False, True])
def test_an_update_with_onednn_equals_one_with_batched_products(monkeypatch, normalize):
    def make_sac():
        settings = small_settings(
            actor_hidden_sizes=(128, 144), critic_hidden_sizes=(160, 128), normalize_features=normalize
        )
        return SAC(settings, 2, 3, 2, RandomStreams([0, 1], "init"))

    ours = make_sac()
    monkeypatch.setattr(passes, "WIDE", 2**62)
    batched = make_sac()
    assert ours.critic.network._networks and not batched.critic.network._networks
    for step in range(3):
        rows = torch.randn(2, BATCH, 3 + 2 + 3)
        columns = (*rows.split([3, 2, 3], dim=-1), torch.randn(2, BATCH), (torch.rand(2, BATCH) < 0.1).float())
        batch = Transitions(columns[0], columns[1].tanh(), columns[3], columns[2], columns[4])
        noise = torch.randn(2, BATCH, 4)
        monkeypatch.setattr(passes, "WIDE", 128 * 128)
        first = ours.update(batch, noise)
        monkeypatch.setattr(passes, "WIDE", 2**62)
        second = batched.update(batch, noise)
        for name, value in first.items():
            torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-4, msg=f"{name} at step {step}")
    # Adam divides by the gradient's own size: entries near zero may differ by a step of 3e-3.
    difference = (ours.critic.network.flat - batched.critic.network.flat).abs()
    assert difference.median() < 1e-6
    assert difference.max() < 1e-2
