"""What each trial asks Ray for, and how ``sweep.json`` keeps it: CPUs, its share of a GPU, the kind of that GPU.

Trials of one sweep may ask for different shares, and a trial for another one after the sweep has gone on elsewhere: a
trial's ``resources`` in ``sweep.json`` are those of the last time that it ran. Files of earlier versions say only what
the most demanding trial asks for, under ``resources`` of the whole sweep.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.plan.shares import ACCELERATOR

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig
    from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan

CPU, GPU, ACCELERATOR_TYPE = "CPU", "GPU", "accelerator_type"
"""Keys of a trial's ``resources``; the last one is there if the trial asks for one kind of GPU."""


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


def resources_of_launch(
    plan: SweepPlan, running: Collection[str], recorded: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """What ``sweep.json`` says of each trial, by name; nothing of a trial of which an earlier version ran to its end.

    Args:
        plan: The whole sweep.
        running: Names of the trials that now run, which share the GPUs among themselves.
        recorded: What each trial asked for when it last ran.
    """
    now = plan.only(running)
    return {**recorded, **{trial.name: trial_resources(now, trial) for trial in now.trials}}


def recorded_resources(info: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What each trial asked for when it last ran by the content of ``sweep.json``, where that says it of the trial."""
    return {
        trial["name"]: trial["resources"]
        for trial in info.get("trials", ())
        if isinstance(trial.get("resources"), Mapping)
    }


def recorded_amount(info: Mapping[str, Any], trial: str, kind: str) -> float | None:
    """How much of ``"CPU"`` or ``"GPU"`` a trial asked for by the content of ``sweep.json``; None if not told."""
    for resources in (recorded_resources(info).get(trial), info.get("resources")):
        amount = resources.get(kind) if isinstance(resources, Mapping) else None
        if isinstance(amount, (int, float)) and not isinstance(amount, bool) and 0 <= amount < math.inf:
            return float(amount)
    return None


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
