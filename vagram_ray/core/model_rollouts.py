"""Imagined transitions: short rollouts of the current policy in the learned model (MBPO, Algorithm 2).

Rollouts start at states drawn uniformly from the real buffer. At each step every transition is predicted by a
random elite member (PETS' TS1): the rows are shuffled and dealt out evenly, so that no member predicts rows
it is not asked for. A rollout ends where its termination function says so; the rest of its row is invalid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vagram_ray.core.actor_critic import SquashedGaussianActor
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.environments import TerminationFn
from vagram_ray.core.networks import StackedMLP
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import ImaginedBuffer, ReplayBuffer, gather_rows

CHUNK_ELEMENTS = 2**23
"""Hidden activations held at a time, so that large rollouts neither fill the memory nor leave the cache."""


@torch.no_grad()
def imagine(
    dynamics: DynamicsEnsemble,
    actor: SquashedGaussianActor,
    termination: TerminationFn,
    replay: ReplayBuffer,
    imagined: ImaginedBuffer,
    *,
    num_rollouts: int,
    rollout_length: int,
    streams: RandomStreams,
) -> dict[str, Tensor]:
    """Roll out the policy in the model and store the transitions in ``imagined``.

    Args:
        num_rollouts: Rollouts per seed.
        rollout_length: Imagined steps per rollout.
        streams: Random streams of the rollouts.

    Returns:
        Metrics (S,): mean imagined reward, share of transitions that terminate.
    """
    num_elites = dynamics.elites.shape[1]
    padded = math.ceil(num_rollouts / num_elites) * num_elites
    index = replay.sample_index(streams, padded)
    obs = replay.layout.split(replay.gather(index)).obs
    alive = (torch.arange(padded, device=obs.device) < num_rollouts).expand(obs.shape[:2])
    networks = dynamics.elite_networks()
    reward_sum = terminated_sum = torch.zeros(obs.shape[0], device=obs.device)
    count = torch.zeros_like(reward_sum)
    for _ in range(rollout_length):
        order = streams.permutation(padded)
        action_noise = streams.normal(padded, dynamics.action_dim)
        model_noise = streams.normal(padded, dynamics.obs_dim + 1) if dynamics.probabilistic else None
        action = _act(actor, obs, action_noise)
        next_obs, reward = _step(dynamics, networks, obs, action, order, model_noise)
        terminated = termination(obs, action, next_obs)
        columns = [obs, action, reward.unsqueeze(-1), next_obs, terminated.unsqueeze(-1).to(obs.dtype)]
        imagined.add(torch.cat(columns, dim=-1), alive)
        reward_sum = reward_sum + torch.where(alive, reward, 0.0).sum(dim=1)
        terminated_sum = terminated_sum + (terminated & alive).sum(dim=1)
        count = count + alive.sum(dim=1)
        alive = alive & ~terminated
        # A finished rollout stays where it ended: its row goes on being computed, but never stored.
        obs = torch.where(alive.unsqueeze(-1), next_obs, obs)
    return {"imagined_reward": reward_sum / count, "imagined_termination_share": terminated_sum / count}


def _act(actor: SquashedGaussianActor, obs: Tensor, noise: Tensor) -> Tensor:
    width = max(weight.shape[-1] for weight in actor.network.views)
    chunk = max(1, CHUNK_ELEMENTS // (width * obs.shape[0]))
    pairs = zip(obs.split(chunk, dim=1), noise.split(chunk, dim=1), strict=True)
    return torch.cat([actor.sample(part, part_noise)[0] for part, part_noise in pairs], dim=1)


def _step(
    dynamics: DynamicsEnsemble,
    networks: StackedMLP,
    obs: Tensor,
    action: Tensor,
    order: Tensor,
    noise: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Next observations (S, n, D) and rewards (S, n), row ``order[s, i]`` by elite ``i // (n / num_elites)``."""
    num_elites = dynamics.elites.shape[1]
    dealt = order.unflatten(1, (num_elites, -1))
    width = max(weight.shape[-1] for weight in networks.views)
    chunk = max(1, CHUNK_ELEMENTS // (width * networks.num_networks))
    next_obs, reward = torch.empty_like(obs), torch.empty_like(obs[..., 0])
    for part in dealt.split(chunk, dim=2):
        rows = part.flatten(1)
        part_obs = gather_rows(obs, rows)
        prediction = dynamics.predict_with(
            networks, part_obs.unflatten(1, part.shape[1:]), gather_rows(action, rows).unflatten(1, part.shape[1:])
        )
        change = torch.cat([prediction.delta, prediction.reward.unsqueeze(-1)], dim=-1).flatten(1, 2)
        if prediction.log_variance is not None and noise is not None:
            change = change + torch.exp(0.5 * prediction.log_variance).flatten(1, 2) * gather_rows(noise, rows)
        next_obs.scatter_(1, rows.unsqueeze(-1).expand_as(part_obs), part_obs + change[..., :-1])
        reward.scatter_(1, rows, change[..., -1])
    return next_obs, reward
