import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vagram_ray.core.networks import StackedAdam, StackedMLP, orthogonal_init, truncated_normal_init
from vagram_ray.core.random_streams import RandomStreams


def make_stack(num_networks=3, sizes=(4, 8, 6, 2), seeds=(0, 1, 2), **kwargs):
    stack = StackedMLP(num_networks, sizes, **kwargs)
    stack.initialize(truncated_normal_init, RandomStreams(seeds, "init").generators)
    with torch.no_grad():  # biases that matter
        stack.flat += 0.1 * torch.randn(stack.flat.shape, generator=torch.Generator().manual_seed(1))
    return stack


@pytest.mark.parametrize("normalize_features", [False, True])
def test_each_network_of_a_stack_computes_what_it_would_alone(normalize_features):
    stack = make_stack(normalize_features=normalize_features)
    inputs = torch.randn(3, 5, 4)
    outputs = stack(inputs)
    for n in range(3):
        w = [view[n] for view in stack.views]
        hidden = F.relu(F.relu(inputs[n] @ w[0] + w[1]) @ w[2] + w[3])
        if normalize_features:
            hidden = F.normalize(hidden, dim=-1)
        torch.testing.assert_close(outputs[n], hidden @ w[4] + w[5])


def test_normalised_layers_are_layer_normalisation_before_the_activation():
    stack = make_stack(layer_norm=True, extra_sizes=(5,))
    assert [tuple(view.shape) for view in stack.extras] == [(3, 1, 5)]
    inputs = torch.randn(3, 5, 4)
    outputs = stack(inputs)
    for n in range(3):
        w1, b1, w2, b2, w3, b3, gain1, shift1, gain2, shift2 = (
            view[n].detach().double().numpy() for view in stack.views[:-1]
        )
        hidden = inputs[n].double().numpy()
        for weight, bias, gain, shift in ((w1, b1, gain1, shift1), (w2, b2, gain2, shift2)):
            sums = hidden @ weight + bias
            deviation = np.sqrt(sums.var(axis=1, keepdims=True) + 1e-5)
            hidden = np.maximum(0.0, gain * (sums - sums.mean(axis=1, keepdims=True)) / deviation + shift)
        np.testing.assert_allclose(outputs[n].detach().numpy(), hidden @ w3 + b3, rtol=1e-4, atol=1e-5)


def test_normalised_layers_start_with_gain_one_and_shift_zero():
    stack = StackedMLP(2, (3, 6, 5, 1), layer_norm=True)
    stack.initialize(truncated_normal_init, RandomStreams((0, 1), "init").generators)
    plain = StackedMLP(2, (3, 6, 5, 1))
    plain.initialize(truncated_normal_init, RandomStreams((0, 1), "init").generators)
    gain1, shift1, gain2, shift2 = stack.views[6:]
    assert all((gain == 1.0).all() for gain in (gain1, gain2))
    assert all((shift == 0.0).all() for shift in (shift1, shift2))
    assert all(torch.equal(own, theirs) for own, theirs in zip(stack.views, plain.views, strict=False))  # same draws


def test_all_zero_features_give_the_bias_and_finite_gradients():
    stack = StackedMLP(1, (2, 3, 1), normalize_features=True)  # zero weights: zero features
    outputs = stack(torch.ones(1, 4, 2))
    gradients = torch.autograd.grad(outputs.sum(), stack.views)
    assert torch.equal(outputs, torch.zeros(1, 4, 1))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_views_share_memory_with_flat():
    stack = make_stack()
    with torch.no_grad():
        stack.flat.fill_(2.0)
    assert all((view == 2.0).all() for view in stack.views)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s)), lambda s: s.to("cpu")])
def test_copies_keep_views_tied_to_their_own_parameters(copier):
    stack = make_stack(extra_sizes=(2,))
    inputs = torch.randn(3, 5, 4)
    expected = stack(inputs)
    copied = copier(stack)
    torch.testing.assert_close(copied(inputs), expected)
    with torch.no_grad():
        copied.flat.zero_()
    assert torch.equal(copied(inputs), torch.zeros(3, 5, 2))
    if copied is not stack:
        torch.testing.assert_close(stack(inputs), expected)


def test_select_networks_copies_the_rows_asked_for():
    stack = make_stack()
    inputs = torch.randn(2, 5, 4)
    selected = stack.select_networks(torch.tensor([2, 0]))
    expected = torch.stack([stack(inputs[[0]].expand(3, -1, -1))[2], stack(inputs[[1]].expand(3, -1, -1))[0]])
    torch.testing.assert_close(selected(inputs), expected)


def test_initial_weights_depend_on_the_own_seed_alone():
    alone = StackedMLP(1, (4, 8, 2))
    alone.initialize(orthogonal_init, RandomStreams([7], "init").generators)
    cohort = StackedMLP(3, (4, 8, 2))
    cohort.initialize(orthogonal_init, RandomStreams([3, 7, 5], "init").generators)
    assert torch.equal(cohort.flat[1], alone.flat[0])
    assert not torch.equal(cohort.flat[0], cohort.flat[1])


def test_orthogonal_initialisation_is_orthogonal():
    stack = StackedMLP(1, (4, 8, 2))
    stack.initialize(orthogonal_init, RandomStreams([0], "init").generators)
    weight = stack.views[0][0]  # (4, 8): orthonormal rows
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_stacked_adam_equals_an_adam_per_seed(weight_decay):
    flat = torch.randn(4, 6)  # 2 seeds with 2 members each
    references = [torch.nn.Parameter(rows.clone()) for rows in flat.view(2, 12)]
    optimizers = [torch.optim.Adam([p], lr=0.1, weight_decay=weight_decay) for p in references]
    stacked = StackedAdam(flat, 2, lr=0.1, weight_decay=weight_decay)
    for _ in range(5):
        gradient = torch.randn(4, 6)
        stacked.step([gradient[:, :2].reshape(4, 1, 2), gradient[:, 2:].reshape(4, 2, 2)])
        for seed, (parameter, optimizer) in enumerate(zip(references, optimizers, strict=True)):
            parameter.grad = gradient.view(2, 12)[seed]
            optimizer.step()
    torch.testing.assert_close(flat.view(2, 12), torch.stack([p.detach() for p in references]))


def test_a_frozen_seed_stands_still_and_the_others_go_on():
    flat = torch.ones(2, 3)
    adam = StackedAdam(flat, 2, lr=0.1)
    adam.freeze(0)
    adam.step([torch.ones(2, 1, 3)])
    assert torch.equal(flat[0], torch.ones(3))
    assert (flat[1] < 1).all()


def test_adam_state_survives_selection_and_writing_back():
    flat = torch.randn(3, 4)
    adam = StackedAdam(flat, 3, lr=0.1)
    adam.step([torch.randn(3, 1, 4)])
    part_flat = flat[[2, 0]].clone()
    part = adam.select_seeds(torch.tensor([2, 0]), part_flat)
    gradient = torch.randn(3, 1, 4)
    part.step([gradient[[2, 0]]])
    adam.write_seeds(torch.tensor([2, 0]), part)
    assert adam.step_count.tolist() == [2.0, 1.0, 2.0]
    torch.testing.assert_close(adam.exp_avg[2], part.exp_avg[0])


def test_random_streams_depend_on_seed_and_purpose_alone():
    cohort, alone = RandomStreams([1, 2, 3], "sac"), RandomStreams([2], "sac")
    other_purpose = RandomStreams([2], "fit")
    drawn = cohort.normal(4)
    assert torch.equal(drawn[1], alone.normal(4)[0])
    assert not torch.equal(drawn[1], other_purpose.normal(4)[0])


def test_random_streams_continue_from_their_saved_state():
    streams = RandomStreams([0, 1], "sac")
    streams.uniform(3)
    state = copy.deepcopy(streams.state_dict())
    expected = streams.permutation(10)
    streams.load_state_dict(state)
    assert torch.equal(streams.permutation(10), expected)


def test_forked_streams_follow_their_seed_and_leave_it_alone():
    cohort, alone, untouched = RandomStreams([1, 2], "fit"), RandomStreams([2], "fit"), RandomStreams([2], "fit")
    forked = alone.fork("validate").normal(4)
    assert torch.equal(cohort.fork("validate").normal(4)[1], forked[0])
    assert torch.equal(alone.fork("validate").normal(4), forked)
    assert not torch.equal(alone.fork("other").normal(4), forked)
    drawn = untouched.normal(4)
    assert torch.equal(alone.normal(4), drawn)
    assert not torch.equal(drawn, forked)
    assert not torch.equal(alone.fork("validate").normal(4), forked)


def test_integers_respect_a_bound_per_seed():
    drawn = RandomStreams([0, 1], "sac").integers(torch.tensor([3, 1000]), 5000)
    assert set(drawn[0].tolist()) == {0, 1, 2}
    assert drawn[1].max() < 1000
    np.testing.assert_allclose(drawn[1].double().mean(), 499.5, atol=15)
