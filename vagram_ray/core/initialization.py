"""Starting an agent from what another one has learned: networks, the observations' scale, the real transitions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vagram_ray.core.mbpo import MBPOAgent

PARTS = ("actor", "critics", "model", "normalizer", "buffer")
"""What can be taken over: the policy, critics with their targets, the model's networks, mean and deviation of the
observations that actor and critics see, and the real transitions."""
NETWORKS = ("actor", "critics", "model", "normalizer")
"""Without the transitions, which a run collects for itself."""


@torch.no_grad()
def initialize_agent(
    agent: MBPOAgent, state: Mapping[str, Any], positions: Sequence[int], parts: Collection[str]
) -> None:
    """Copy parts of a saved agent's state into a new agent. Optimisers, temperature and counters start as ever.

    A normaliser that is taken over without the buffer stays as it is: fitted to the first new transitions it would give
    the networks other inputs than those that they have learned from.

    Args:
        agent: It has not been trained.
        state: Of ``MBPOAgent.state_dict``, with transitions if the buffer is wanted.
        positions: For each seed of ``agent`` the position of a saved one.
        parts: Of ``PARTS``.

    Raises:
        ValueError: A part has another shape. Nothing has been changed.
    """
    index, count = torch.tensor(positions), len(state["seeds"])
    copies: list[tuple[Tensor, Tensor]] = []

    def copy(own: Tensor, saved: Tensor) -> None:
        rows = saved.reshape(count, saved.shape[0] // count, *saved.shape[1:])[index].flatten(0, 1)
        if rows.shape != own.shape:
            raise ValueError(f"its networks have {tuple(rows.shape)} numbers where {tuple(own.shape)} are needed")
        copies.append((own, rows))

    sac = state["sac"]
    if "actor" in parts:
        copy(agent.actor.network.flat, sac["actor"]["network.flat"])
    if "normalizer" in parts:
        copy(agent.actor.scale.obs_mean, sac["actor"]["scale.obs_mean"])
        copy(agent.actor.scale.obs_std, sac["actor"]["scale.obs_std"])
    if "critics" in parts:
        copy(agent.sac.critic.network.flat, sac["critic"])
        copy(agent.sac.target_critic.network.flat, sac["target_critic"])
    if "model" in parts and agent.settings.model_based:
        copy(agent.dynamics.network.flat, state["dynamics"]["flat"])
    ring = _ring(agent, state["replay"], index) if "buffer" in parts and state["replay"]["size"] else None
    for own, saved in copies:
        own.copy_(saved)
    agent.keeps_scale = "normalizer" in parts and ring is None
    if ring is not None:
        agent.replay.load_state_dict(ring)


def _ring(agent: MBPOAgent, saved: Mapping[str, Any], index: Tensor) -> dict[str, Any]:
    """The newest transitions as a buffer that began with them."""
    rows = saved["rows"][index]
    if rows.shape[2] != agent.replay.layout.width:
        raise ValueError(f"its transitions have {rows.shape[2]} numbers where {agent.replay.layout.width} are needed")
    if saved["next"] != rows.shape[1]:  # the oldest first
        rows = rows.roll(-int(saved["next"]), dims=1)
    capacity = agent.replay.capacity
    rows = rows[:, -capacity:]
    size = rows.shape[1]
    return {"rows": rows, "size": size, "num_added": size, "next": size % capacity}
