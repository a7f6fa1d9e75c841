"""Means of one epoch."""

import math

import torch

from vagram_ray.core.metrics import EpochMetrics, MetricSums


def test_what_a_fit_did_not_measure_is_left_out_of_the_mean():
    metrics, missing = EpochMetrics(3), math.nan
    for values in ([missing, 1.0, missing], [0.25, 2.0, missing], [0.75, 6.0, missing]):
        metrics.add("model", {"unexplained_reward": torch.tensor(values)})
    assert metrics.result()["model/unexplained_reward"][:2].tolist() == [0.5, 3.0]
    assert math.isnan(metrics.result()["model/unexplained_reward"][2])


def test_updates_that_are_not_finite_show():
    sums, metrics = MetricSums(), EpochMetrics(2)
    for value in (1.0, math.nan):
        sums.add({"critic_loss": torch.tensor([value, 3.0])})
    metrics.add("sac", sums)
    first, second = metrics.result()["sac/critic_loss"]
    assert math.isnan(first) and second == 3.0
