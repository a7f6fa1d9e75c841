"""Resources that the trials of a configuration request from Ray."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vagram_ray.records.recorded import CPU, GPU

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig


def cell_requests(configs: Sequence[MBPOConfig]) -> list[dict[str, float]]:
    """Resources of a trial of each of these configurations, as RLlib requests them, custom ones among them."""
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
