"""What each trial asks Ray for, and how ``sweep.json`` keeps it: CPUs, its share of a GPU, the kind of that GPU.

Trials of one sweep may ask for different shares, and a trial for another one after the sweep has gone on elsewhere: a
trial's ``resources`` in ``sweep.json`` are those of the last time that it ran. Files of earlier versions say only what
the most demanding trial asks for, under ``resources`` of the whole sweep.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vagram_ray.records.recorded import ACCELERATOR_TYPE, CPU, GPU
from vagram_ray.sweep.plan.shares import ACCELERATOR

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig
    from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan


def cell_requests(configs: Sequence[MBPOConfig]) -> list[dict[str, float]]:
    """What a trial of each of these configurations asks for, as RLlib requests it, custom resources among it."""
    requests = []
    for config in configs:
        algorithm: Any = config.algo_class
        with quiet_ray():
            request = algorithm.default_resource_request(config.to_dict()).required_resources
        requests.append({kind: float(amount) for kind, amount in request.items()})
    return requests


def largest_request(requests: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """CPUs and GPUs of the most demanding trial."""
    return {kind: max((request.get(kind, 0.0) for request in requests), default=0.0) for kind in (CPU, GPU)}


def trial_resources(plan: SweepPlan, trial: TrialPlan) -> dict[str, float | str]:
    """CPUs and GPUs of a trial of the plan, and the accelerator that it has to come to, if any."""
    request = plan.requests.get(trial.cell.index, plan.resources)
    custom = request
    amounts = {kind: float(request.get(kind, 0.0)) for kind in (CPU, GPU)}
    if (placement := trial.placement) is not None:
        amounts[GPU] = placement.gpus
        amounts[CPU] = amounts[CPU] if placement.cpus is None else placement.cpus
        custom = custom if placement.custom is None else dict(placement.custom)
    kinds = [
        name.removeprefix(ACCELERATOR) for name, amount in custom.items() if name.startswith(ACCELERATOR) and amount
    ]
    return {**amounts, **({ACCELERATOR_TYPE: kinds[0]} if kinds else {})}


@contextlib.contextmanager
def quiet_ray() -> Iterator[None]:
    """Without RLlib's hints while it validates: they would stand between the lines of the plan."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
