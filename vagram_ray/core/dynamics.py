"""The dynamics model: an ensemble of networks per seed that predicts the state's change and the reward.

After PETS (Chua et al., 2018) and MBPO (Janner et al., 2019): SiLU networks on normalised inputs, optionally
with a learned-bounds log-variance beside the mean. The members that validate best are the elites. What the
networks' outputs mean is an option (docs/losses.md, "Targets"). Predictions are in the environment's units always.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vagram_ray.core.model_losses import Prediction
from vagram_ray.core.networks import StackedMLP, truncated_normal_init
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.seed_selection import copy_of_seeds
from vagram_ray.core.settings import MBPOSettings

MAX_LOG_VARIANCE, MIN_LOG_VARIANCE = 0.5, -10.0
"""Initial bounds of the log-variance (PETS)."""
NORMALIZER_EPSILON = 1e-6
"""Inputs and targets with deviations below this count as constant and are not scaled."""
PLAIN_TARGETS = {
    "prediction_target": "delta",
    "normalize_dynamics_targets": False,
    "normalize_reward_targets": False,
    "termination": "function",
}
"""The settings that say what the networks' outputs mean, as they are by default."""
_PER_SEED = ("input_mean", "input_std", "elites")
_TARGET_STATISTICS = ("output_mean", "output_std")


class DynamicsEnsemble:
    """E networks for each of S seeds: (obs, action) -> (s' - s, reward), optionally with log-variances.

    With learned terminations a last output is the logit of the probability that the transition ends the episode.

    Args:
        settings: Hyperparameters.
        num_seeds: S.
        obs_dim: D.
        action_dim: A.
        init_streams: Per-seed generators for the initial weights.
        device: Where the parameters live.
    """

    def __init__(
        self,
        settings: MBPOSettings,
        num_seeds: int,
        obs_dim: int,
        action_dim: int,
        init_streams: RandomStreams,
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_seeds, self.ensemble_size = num_seeds, settings.ensemble_size
        self.obs_dim, self.action_dim = obs_dim, action_dim
        self.probabilistic = settings.has_variance_head
        self.termination = settings.termination
        self.prediction_target = settings.prediction_target
        self.normalize_dynamics_targets = settings.normalize_dynamics_targets
        self.normalize_reward_targets = settings.normalize_reward_targets
        outputs = obs_dim + 1
        self.network = StackedMLP(
            num_seeds * settings.ensemble_size,
            (
                obs_dim + action_dim,
                *[settings.hidden_size] * settings.num_layers,
                (2 * outputs if self.probabilistic else outputs) + self.learns_termination,
            ),
            activation=F.silu,
            extra_sizes=(outputs, outputs) if self.probabilistic else (),
            device=device,
        )
        self.network.initialize(truncated_normal_init, init_streams.generators)
        if self.probabilistic:
            with torch.no_grad():
                self.network.extras[0].fill_(MAX_LOG_VARIANCE)
                self.network.extras[1].fill_(MIN_LOG_VARIANCE)
        self.input_mean = torch.zeros(num_seeds, 1, 1, obs_dim + action_dim, device=device)
        self.input_std = torch.ones_like(self.input_mean)
        self.output_mean = torch.zeros(num_seeds, 1, 1, outputs, device=device)
        self.output_std = torch.ones_like(self.output_mean)
        self.elites = torch.arange(settings.num_elites, device=device).repeat(num_seeds, 1)

    @torch.no_grad()
    def fit_normalizer(self, obs: Tensor, action: Tensor) -> None:
        """Take the inputs' mean and deviation from the data (S, N, D) and (S, N, A)."""
        deviation, mean = torch.std_mean(torch.cat([obs, action], dim=-1), dim=1, keepdim=True, correction=0)
        self.input_mean = mean.unsqueeze(1)
        self.input_std = torch.where(deviation < NORMALIZER_EPSILON, 1.0, deviation).unsqueeze(1)

    @property
    def learns_termination(self) -> bool:
        """Whether a last output is the logit of the probability that the transition ends its episode."""
        return self.termination == "learned"

    @property
    def normalizes_targets(self) -> bool:
        """Whether the networks' outputs are in units of their own."""
        return self.normalize_dynamics_targets or self.normalize_reward_targets

    @property
    def dynamics_unit(self) -> Tensor | None:
        """sigma_d (S, 1, 1, D): one unit of the dynamics outputs in the environment's, or None if they are the same."""
        return self.output_std[..., : self.obs_dim] if self.normalize_dynamics_targets else None

    @property
    def reward_unit(self) -> Tensor | None:
        """sigma_r (S, 1, 1): one unit of the reward output in the environment's, or None if they are the same."""
        return self.output_std[..., self.obs_dim] if self.normalize_reward_targets else None

    @torch.no_grad()
    def fit_target_normalizer(self, data: Transitions) -> None:
        """Take the normalised targets' mean and deviation from the data (S, N, ...). Do nothing if none is normalised.

        The networks stay as they are when the statistics move from one fit to the next: they map normalised inputs to
        normalised outputs, and the statistics of both move together. Re-expressing the last layer so that it makes
        the same predictions as before in the new units (PopArt, van Hasselt et al., 2016) would undo half of that.
        Fits that go on from there start with a higher held-out loss (docs/losses.md, "Targets").
        """
        if not self.normalizes_targets:
            return
        dynamics = data.next_obs if self.prediction_target == "next_obs" else data.next_obs - data.obs
        targets = torch.cat([dynamics, data.reward.unsqueeze(-1)], dim=-1)
        deviation, mean = (part.unsqueeze(1) for part in torch.std_mean(targets, dim=1, keepdim=True, correction=0))
        columns = [self.normalize_dynamics_targets] * self.obs_dim + [self.normalize_reward_targets]
        wanted = torch.tensor(columns, device=mean.device)
        self.output_mean = torch.where(wanted, mean, 0.0)
        self.output_std = torch.where(wanted & ~(deviation < NORMALIZER_EPSILON), deviation, 1.0)

    def predict(self, obs: Tensor, action: Tensor) -> Prediction:
        """Predictions of all members for obs (S, E, B, D) and action (S, E, B, A)."""
        return self._predict(self.network, obs, action)

    def _predict(self, network: StackedMLP, obs: Tensor, action: Tensor) -> Prediction:
        inputs = (torch.cat([obs, action], dim=-1) - self.input_mean) / self.input_std
        outputs = network(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        logit = None
        if self.learns_termination:
            outputs, logit = outputs[..., :-1], outputs[..., -1]
        mean, raw_log_variance = outputs[..., : self.obs_dim + 1], outputs[..., self.obs_dim + 1 :]
        log_variance = None
        if self.probabilistic:
            # Soft bounds, so that the variance cannot run away where there is no data (PETS, appendix A.1).
            upper, lower = (bound.unflatten(0, inputs.shape[:2]) for bound in network.extras)
            log_variance = upper - F.softplus(upper - raw_log_variance)
            log_variance = lower + F.softplus(log_variance - lower)
        if self.normalizes_targets:
            mean = torch.addcmul(self.output_mean, mean, self.output_std)
            log_variance = None if log_variance is None else log_variance + 2.0 * self.output_std.log()
        dynamics = mean[..., : self.obs_dim]
        delta = dynamics - obs if self.prediction_target == "next_obs" else dynamics
        return Prediction(delta, mean[..., self.obs_dim], log_variance, logit)

    def variance_bound_penalty(self) -> Tensor:
        """0.01 sum (upper - lower bound) per member, (S, E): pulls the learned bounds together (PETS).

        Bounds that have met are left alone. Where a loss pulls less than this penalty (``nll`` with many dimensions,
        ``cvaml``) they would otherwise pass each other and go on, and the variance grow without limit.
        """
        upper, lower = self.network.extras
        return 0.01 * (upper - lower).clamp_min(0.0).sum(dim=(1, 2)).view(self.num_seeds, self.ensemble_size)

    def elite_networks(self) -> StackedMLP:
        """Copies of the elite members' networks, (S * num_elites) of them."""
        seed_offset = torch.arange(self.num_seeds, device=self.elites.device)[:, None] * self.ensemble_size
        return self.network.select_networks((self.elites + seed_offset).flatten())

    def predict_with(self, elite_networks: StackedMLP, obs: Tensor, action: Tensor) -> Prediction:
        """Predictions of the elites for obs (S, num_elites, B, D) and action (S, num_elites, B, A)."""
        return self._predict(elite_networks, obs, action)

    def select_seeds(self, index: Tensor) -> DynamicsEnsemble:
        """A copy of the ensembles of the seeds at ``index`` (M,)."""
        network = self.network.select_networks(self._member_rows(index))
        return copy_of_seeds(self, index, (*_PER_SEED, *_TARGET_STATISTICS), num_seeds=len(index), network=network)

    @torch.no_grad()
    def set_elites(self, validation_loss: Tensor) -> None:
        """Make the members with the lowest validation loss (S, E) the elites. NaN counts as worst."""
        ranked = validation_loss.nan_to_num(nan=float("inf")).argsort(dim=1, stable=True)
        self.elites = ranked[:, : self.elites.shape[1]]

    def member_rows(self) -> Tensor:
        """All parameters as (S, E, P), a view."""
        return self.network.flat.detach().view(self.num_seeds, self.ensemble_size, -1)

    def _member_rows(self, index: Tensor) -> Tensor:
        members = torch.arange(self.ensemble_size, device=index.device)
        return (index[:, None] * self.ensemble_size + members).flatten()

    def state_dict(self) -> dict[str, Any]:
        """Parameters, normalisers, elites and what the outputs mean."""
        state = {"flat": self.network.flat.detach(), "targets": self._targets()}
        return state | {name: getattr(self, name) for name in self._saved_tensors()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state, in place.

        Raises:
            ValueError: If its networks were fitted to other targets: their weights would mean something else here.
        """
        saved = state.get("targets", PLAIN_TARGETS)  # states from before there was a choice have none
        for name, own in self._targets().items():
            if (before := saved.get(name, PLAIN_TARGETS[name])) != own:
                raise ValueError(
                    f"The saved dynamics model was fitted with {name}={before!r} and cannot go on with "
                    f"{name}={own!r}: its weights would mean something else. Restore it with {name}={before!r}."
                )
        self.network.flat.copy_(state["flat"])
        for name in self._saved_tensors():
            setattr(self, name, state[name].to(self.network.flat.device).clone())

    def _targets(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PLAIN_TARGETS}

    def _saved_tensors(self) -> tuple[str, ...]:
        return (*_PER_SEED, *_TARGET_STATISTICS) if self.normalizes_targets else _PER_SEED
