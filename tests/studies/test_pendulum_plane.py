"""Losses over the plane of Pendulum's states, against NumPy and what theory promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vagram_ray.studies.pendulum_plane import (
    SURFACES,
    LossPlane,
    ReferenceLosses,
    loss_plane,
    low_region,
    observe,
    share_bounded,
)

REFERENCE = (2.0, 2.0)


@pytest.fixture(scope="module")
def losses(small_run):
    run = small_run((5,), 2)
    return ReferenceLosses(run.values[-1], run.data, REFERENCE)


@pytest.fixture(scope="module")
def plane(losses):
    return loss_plane(losses, 17)


def test_observations_are_pendulums():
    np.testing.assert_allclose(observe(np.array([0.5]), np.array([-3.0]))[0], [np.cos(0.5), np.sin(0.5), -3.0])


def test_every_loss_is_zero_at_the_reference(losses):
    for name, loss in losses.at(np.array([2.0]), np.array([2.0])).items():
        assert loss[0] == pytest.approx(0.0, abs=1e-6), name


def test_the_surfaces_are_the_equations(losses, plane, small_run):
    theta, theta_dot = np.meshgrid(plane.theta, plane.theta_dot)
    error = (observe(theta, theta_dot) - observe(*map(np.array, REFERENCE))).double().numpy()
    np.testing.assert_allclose(plane.losses["mse"], (error**2).mean(-1), rtol=1e-4)
    gradients = plane.gradients.astype(np.float64)  # (K, 3)
    bound = 3 * ((gradients**2).mean(0) * error**2).sum(-1)
    np.testing.assert_allclose(plane.losses["vagram"], bound, rtol=1e-3, atol=1e-6)
    first_order = ((error[..., None, :] * gradients).sum(-1) ** 2).mean(-1)
    np.testing.assert_allclose(plane.losses["taylor"], first_order, rtol=1e-3, atol=1e-5)

    def values(*state):
        obs = observe(*map(np.array, state)).reshape(1, -1, 3)
        return small_run((5,), 2).values[-1].values(obs)[0].detach().double().numpy()

    for row, column in [(0, 0), (8, 3), (16, 11)]:
        here, there = values(plane.theta[column], plane.theta_dot[row]), values(*REFERENCE)
        assert plane.losses["vaml"][row, column] == pytest.approx(((here - there) ** 2).mean(), rel=1e-3)
        assert plane.value[row, column] == pytest.approx(here.mean(), rel=1e-4)


def test_the_gradients_are_finite_differences_of_the_action_value(losses, small_run):
    values = small_run((5,), 2).values[-1]
    obs = observe(*map(np.array, REFERENCE)).reshape(1, 1, 3)
    gradients, critic, step = losses.values.gradients(obs), values.sac.critic, 1e-2
    with torch.no_grad():
        action = values.sac.actor.mean_action(obs)
        for d in range(3):
            shift = step * torch.eye(3)[d]
            slope = (critic(obs + shift, action) - critic(obs - shift, action))[0, :, 0] / (2 * step)
            np.testing.assert_allclose(gradients[0, :2, 0, d], slope, rtol=0.05, atol=0.02)


def test_the_plane_closes_where_the_angle_wraps(plane):
    assert list(plane.losses) == list(SURFACES)
    for surface in (plane.value, *plane.losses.values()):
        np.testing.assert_allclose(surface[:, 0], surface[:, -1], rtol=1e-3, atol=1e-3)


def test_the_cuts_pass_through_the_reference(plane, losses):
    for cut, here in ((plane.along_theta, 2.0), (plane.along_theta_dot, 2.0)):
        assert (np.diff(cut.place) > 0).all()
        at = int(np.flatnonzero(cut.place == here)[0])
        assert all(loss[at] == pytest.approx(0.0, abs=1e-6) for loss in cut.losses.values())
    last = losses.at(np.array([2.0]), np.array([8.0]))
    assert plane.along_theta_dot.losses["vaml"][-1] == pytest.approx(last["vaml"][0])


def test_the_bound_holds_for_the_first_order_everywhere(plane):
    assert share_bounded(plane, "taylor") == 1.0
    too_high = dataclasses.replace(plane, losses=plane.losses | {"taylor": plane.losses["vagram"] * 1.01})
    assert share_bounded(too_high, "taylor") < 0.05


def test_gradients_that_are_clipped_are_reported(small_run):
    run = small_run((5,), 2)
    clipped = dataclasses.replace(run.values[-1], clip_percentile=1.0)
    assert ReferenceLosses(clipped, run.data, REFERENCE).gradients()[1].all()
    free = dataclasses.replace(run.values[-1], clip_percentile=100.0)
    assert not ReferenceLosses(free, run.data, REFERENCE).gradients()[1].any()


def made_plane(loss: np.ndarray) -> LossPlane:
    n = len(loss)
    theta, theta_dot = np.linspace(-np.pi, np.pi, n), np.linspace(-8, 8, n)
    empty = np.zeros(0)
    return LossPlane(theta, theta_dot, (np.pi / 2, 0.0), loss, {"made": loss}, None, None, empty, empty)


def test_a_low_region_joins_where_the_angle_wraps():
    loss = np.ones((41, 41))
    loss[20, :2] = loss[20, -2:] = 0.0  # around theta = pi: one place, though at both edges
    region = low_region(made_plane(loss), "made", share=4 / 41**2)
    assert region.regions == 1
    assert region.farthest_theta == pytest.approx(np.pi / 2 + 2 * np.pi / 40)
    assert region.farthest_theta_dot == 0.0


def test_separate_low_regions_are_counted():
    loss = np.ones((41, 41))
    loss[5, 10] = loss[20, 10] = loss[35, 30] = 0.0
    region = low_region(made_plane(loss), "made", share=3 / 41**2)
    assert region.regions == 3
    assert region.farthest_theta_dot == pytest.approx(6.0)
