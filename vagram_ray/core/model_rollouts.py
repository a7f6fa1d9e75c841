"""Imagined transitions: short rollouts of the current policy in the learned model (MBPO, Algorithm 2).

Rollouts start at states drawn uniformly from the real buffer. At each step every transition is predicted by a
random elite member (PETS' TS1): the rows are shuffled and dealt out evenly, so that no member predicts rows
it is not asked for. A rollout ends where its termination function says so. The rest of its row is invalid.

With a ``Truncation`` a rollout also ends where the elites disagree: after MACURA (Frauenknecht et al., *Trust the
Model Where It Trusts Itself*, ICML 2024, Algorithm 2). docs/rollouts.md has the equations and what differs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vagram_ray.core.actor_critic import SquashedGaussianActor
from vagram_ray.core.dynamics import NORMALIZER_EPSILON, DynamicsEnsemble
from vagram_ray.core.environments import TerminationFn
from vagram_ray.core.networks import StackedMLP
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import ImaginedBuffer, ReplayBuffer, Transitions, gather_rows
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates, norm_percentile

CHUNK_ELEMENTS = 2**23
"""Hidden activations held at a time, so that large rollouts neither fill the memory nor leave the cache."""


@dataclass(frozen=True)
class Truncation:
    """Where imagined rollouts end because the elites disagree: at the first transition with u > kappa.

    u(s, a) = sum_d w_d var_e(f_ed), f_e the elites' predicted mean successors of (s, a), var_e their population
    variance. Predicted variances play no part, so deterministic and probabilistic members are measured alike.

    Args:
        weights: Maps the elites' average successors (S, n, D) to w, (S, n, D) or (S, 1, D).
        width: Floats per state that ``weights`` holds at a time.
        quantile: zeta of the threshold.
        factor: xi of the threshold.
    """

    weights: Callable[[Tensor], Tensor]
    width: int
    quantile: float
    factor: float

    def threshold(self, first_steps: Tensor) -> Tensor:
        """kappa = xi times the zeta-quantile (linear interpolation) of u over the first steps (S, n): (S,)."""
        return self.factor * norm_percentile(first_steps, 100.0 * self.quantile)

    @torch.no_grad()
    def disagreement(
        self, dynamics: DynamicsEnsemble, networks: StackedMLP, obs: Tensor, action: Tensor, needed: Tensor
    ) -> Tensor:
        """u (S, n) at obs (S, n, D) and action (S, n, A) where ``needed`` (S, n), elsewhere 0.

        The host reads how many rows are needed, so that no others are computed.
        """
        disagreement = torch.zeros_like(obs[..., 0])
        rows = needed.byte().argsort(dim=1, descending=True, stable=True)[:, : int(needed.sum(dim=1).max())]
        model_width = dynamics.elites.shape[1] * max(weight.shape[-1] for weight in networks.views)
        chunk = max(1, CHUNK_ELEMENTS // (obs.shape[0] * max(model_width, self.width)))
        for part in rows.split(chunk, dim=1) if rows.shape[1] else ():
            of_part = self._of_rows(dynamics, networks, gather_rows(obs, part), gather_rows(action, part))
            disagreement.scatter_(1, part, of_part)
        return torch.where(needed, disagreement, 0.0)

    def _of_rows(self, dynamics: DynamicsEnsemble, networks: StackedMLP, obs: Tensor, action: Tensor) -> Tensor:
        of_each = [column.unsqueeze(1).expand(-1, dynamics.elites.shape[1], -1, -1) for column in (obs, action)]
        variance, change = torch.var_mean(dynamics.predict_with(networks, *of_each).delta, dim=1, correction=0)
        return (self.weights(obs + change) * variance).sum(dim=-1)


def make_truncation(settings: MBPOSettings, values: ValueEstimates, data: Transitions) -> Truncation | None:
    """The truncation of the setting ``rollout_truncation``, or None for ``"schedule"``.

    ``"disagreement"``: w_d = 1 / var(s'_d - s_d) over the real transitions, so u has no unit. 0 for a dimension that
    never changes (a deviation below ``NORMALIZER_EPSILON``).
    ``"value_disagreement"``: w_d = (1/K) sum_k (dV_k/ds'_d)^2 at the average successor, so u is, to first order and
    for dimensions that vary independently, the variance of the successor's value over the elites. This is VaGraM's
    weight (eq. 7), here without its clip: a quantile needs no protection from outliers.

    Args:
        settings: The hyperparameters.
        values: The current value estimates.
        data: The real transitions (S, N, ...).
    """
    if settings.rollout_truncation == "schedule":
        return None
    quantile, factor = settings.rollout_truncation_quantile, settings.rollout_truncation_factor
    if settings.rollout_truncation == "value_disagreement":
        width = 2 * max(weight.shape[-1] for weight in values.sac.critic.network.views)
        return Truncation(functools.partial(_value_weights, values), width, quantile, factor)
    deviation = (data.next_obs - data.obs).std(dim=1, keepdim=True, correction=0)
    weights = torch.where(deviation < NORMALIZER_EPSILON, 0.0, deviation.square().reciprocal())
    return Truncation(lambda obs: weights, weights.shape[-1], quantile, factor)


def _value_weights(values: ValueEstimates, obs: Tensor) -> Tensor:
    with torch.enable_grad():
        return values.gradients(obs).square().mean(dim=1)


@torch.no_grad()
def imagine(
    dynamics: DynamicsEnsemble,
    actor: SquashedGaussianActor,
    termination: TerminationFn | None,
    replay: ReplayBuffer,
    imagined: ImaginedBuffer,
    *,
    num_rollouts: int,
    rollout_length: int,
    streams: RandomStreams,
    truncation: Truncation | None = None,
) -> dict[str, Tensor]:
    """Roll out the policy in the model and store the transitions in ``imagined``.

    Args:
        termination: Says which transitions end an episode. None leaves it to the model, which has learned it.
        num_rollouts: Rollouts per seed.
        rollout_length: Imagined steps per rollout, at most.
        streams: Random streams of the rollouts. What is drawn does not depend on where rollouts end.
        truncation: Also ends rollouts where the elites disagree. A transition with u > kappa is not stored, nor is
            what would follow it. The one before it is stored as usual, not as terminated.

    Returns:
        Metrics (S,): mean imagined reward, share of transitions that terminate, mean length of a rollout. With
        ``truncation`` also the share of rollouts it ended and the threshold kappa.
    """
    num_elites = dynamics.elites.shape[1]
    padded = math.ceil(num_rollouts / num_elites) * num_elites
    index = replay.sample_index(streams, padded)
    obs = replay.layout.split(replay.gather(index)).obs
    alive = (torch.arange(padded, device=obs.device) < num_rollouts).expand(obs.shape[:2])
    networks = dynamics.elite_networks()
    stored = _StoredTransitions(torch.zeros(obs.shape[0], device=obs.device))
    cutoff = _Cutoff(truncation, num_rollouts, torch.zeros_like(stored.count)) if truncation is not None else None
    for _ in range(rollout_length):
        order = streams.permutation(padded)
        action_noise = streams.normal(padded, dynamics.action_dim)
        model_noise = streams.normal(padded, dynamics.obs_dim + 1) if dynamics.probabilistic else None
        action = _act(actor, obs, action_noise)
        next_obs, reward, learned = _step(dynamics, networks, obs, action, order, model_noise)
        terminated = learned if termination is None else termination(obs, action, next_obs)
        if cutoff is not None:
            alive = cutoff.trusted(cutoff.truncation.disagreement(dynamics, networks, obs, action, alive), alive)
        columns = [obs, action, reward.unsqueeze(-1), next_obs, terminated.unsqueeze(-1).to(obs.dtype)]
        imagined.add(torch.cat(columns, dim=-1), alive)
        stored.add(reward, terminated, alive)
        alive = alive & ~terminated
        # A finished rollout stays where it ended: its row goes on being computed, but never stored.
        obs = torch.where(alive.unsqueeze(-1), next_obs, obs)
    return {**stored.metrics(num_rollouts), **(cutoff.metrics() if cutoff is not None else {})}


class _StoredTransitions:
    """Counts what one refill stores.

    Args:
        zero: (S,), on the device of the transitions.
    """

    def __init__(self, zero: Tensor) -> None:
        self.count = self.rewards = self.terminations = zero

    def add(self, reward: Tensor, terminated: Tensor, alive: Tensor) -> None:
        """Count one imagined step (S, n) of the rollouts that are ``alive``."""
        self.rewards = self.rewards + torch.where(alive, reward, 0.0).sum(dim=1)
        self.terminations = self.terminations + (terminated & alive).sum(dim=1)
        self.count = self.count + alive.sum(dim=1)

    def metrics(self, num_rollouts: int) -> dict[str, Tensor]:
        """Means over the stored transitions, (S,)."""
        return {
            "imagined_reward": self.rewards / self.count,
            "imagined_termination_share": self.terminations / self.count,
            "imagined_rollout_length": self.count / num_rollouts,
        }


@dataclass
class _Cutoff:
    """Ends the rollouts of one refill where the elites disagree."""

    truncation: Truncation
    num_rollouts: int
    """Rollouts per seed. Rows beyond them are padding."""
    num_ended: Tensor
    """(S,), rollouts that have been ended."""
    threshold: Tensor | None = None
    """kappa (S,), known after the first step."""

    def trusted(self, disagreement: Tensor, alive: Tensor) -> Tensor:
        """The rollouts (S, n) out of ``alive`` whose present transition has u <= kappa."""
        if self.threshold is None:  # all rollouts are at their first step
            self.threshold = self.truncation.threshold(disagreement[:, : self.num_rollouts])
        trusted = disagreement <= self.threshold.unsqueeze(1)
        self.num_ended = self.num_ended + (alive & ~trusted).sum(dim=1)
        return alive & trusted

    def metrics(self) -> dict[str, Tensor]:
        """Share of the rollouts that were ended and kappa, (S,)."""
        if self.threshold is None:  # no step was taken
            return {}
        shares = self.num_ended / self.num_rollouts
        return {"truncated_rollouts_share": shares, "truncation_threshold": self.threshold}


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
) -> tuple[Tensor, Tensor, Tensor]:
    """Next observations (S, n, D), rewards and ends (S, n), row ``order[s, i]`` by elite ``i // (n / num_elites)``.

    A transition ends its episode where a learned termination gives that a probability above 1/2.
    """
    num_elites = dynamics.elites.shape[1]
    dealt = order.unflatten(1, (num_elites, -1))
    width = max(weight.shape[-1] for weight in networks.views)
    chunk = max(1, CHUNK_ELEMENTS // (width * networks.num_networks))
    next_obs, reward = torch.empty_like(obs), torch.empty_like(obs[..., 0])
    ends = torch.zeros_like(reward, dtype=torch.bool)
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
        if prediction.termination_logit is not None:
            ends.scatter_(1, rows, prediction.termination_logit.flatten(1, 2) > 0.0)
    return next_obs, reward, ends
