"""The dynamics model: an ensemble of networks per seed that predicts the state's change and the reward.

After PETS (Chua et al., 2018) and MBPO (Janner et al., 2019): SiLU networks on normalised inputs, optionally
with a learned-bounds log-variance beside the mean; the members that validate best are the elites.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vagram_ray.core.model_losses import Prediction
from vagram_ray.core.networks import StackedMLP, truncated_normal_init
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.settings import MBPOSettings

MAX_LOG_VARIANCE, MIN_LOG_VARIANCE = 0.5, -10.0
"""Initial bounds of the log-variance (PETS)."""
NORMALIZER_EPSILON = 1e-6
"""Deviations below this count as constant inputs and are not scaled."""


class DynamicsEnsemble:
    """E networks for each of S seeds: (obs, action) -> (s' - s, reward), optionally with log-variances.

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
        outputs = obs_dim + 1
        self.network = StackedMLP(
            num_seeds * settings.ensemble_size,
            (
                obs_dim + action_dim,
                *[settings.hidden_size] * settings.num_layers,
                2 * outputs if self.probabilistic else outputs,
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
        self.elites = torch.arange(settings.num_elites, device=device).repeat(num_seeds, 1)

    @torch.no_grad()
    def fit_normalizer(self, obs: Tensor, action: Tensor) -> None:
        """Take the inputs' mean and deviation from the data (S, N, D) and (S, N, A)."""
        deviation, mean = torch.std_mean(torch.cat([obs, action], dim=-1), dim=1, keepdim=True, correction=0)
        self.input_mean = mean.unsqueeze(1)
        self.input_std = torch.where(deviation < NORMALIZER_EPSILON, 1.0, deviation).unsqueeze(1)

    def predict(self, obs: Tensor, action: Tensor) -> Prediction:
        """Predictions of all members for obs (S, E, B, D) and action (S, E, B, A)."""
        return self._predict(self.network, obs, action)

    def _predict(self, network: StackedMLP, obs: Tensor, action: Tensor) -> Prediction:
        inputs = (torch.cat([obs, action], dim=-1) - self.input_mean) / self.input_std
        outputs = network(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        mean, raw_log_variance = outputs[..., : self.obs_dim + 1], outputs[..., self.obs_dim + 1 :]
        log_variance = None
        if self.probabilistic:
            # Soft bounds, so that the variance cannot run away where there is no data (PETS, appendix A.1).
            upper, lower = (bound.unflatten(0, inputs.shape[:2]) for bound in network.extras)
            log_variance = upper - F.softplus(upper - raw_log_variance)
            log_variance = lower + F.softplus(log_variance - lower)
        return Prediction(mean[..., : self.obs_dim], mean[..., self.obs_dim], log_variance)

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
        selected = DynamicsEnsemble.__new__(DynamicsEnsemble)
        for name in ("ensemble_size", "obs_dim", "action_dim", "probabilistic"):
            setattr(selected, name, getattr(self, name))
        selected.num_seeds = len(index)
        selected.network = self.network.select_networks(self._member_rows(index))
        for name in ("input_mean", "input_std", "elites"):
            setattr(selected, name, getattr(self, name)[index])
        return selected

    @torch.no_grad()
    def set_elites(self, validation_loss: Tensor) -> None:
        """Make the members with the lowest validation loss (S, E) the elites; NaN counts as worst."""
        ranked = validation_loss.nan_to_num(nan=float("inf")).argsort(dim=1, stable=True)
        self.elites = ranked[:, : self.elites.shape[1]]

    def member_rows(self) -> Tensor:
        """All parameters as (S, E, P), a view."""
        return self.network.flat.detach().view(self.num_seeds, self.ensemble_size, -1)

    def _member_rows(self, index: Tensor) -> Tensor:
        members = torch.arange(self.ensemble_size, device=index.device)
        return (index[:, None] * self.ensemble_size + members).flatten()

    def state_dict(self) -> dict[str, Any]:
        """Parameters, input normaliser and elites."""
        return {
            "flat": self.network.flat.detach(),
            "input_mean": self.input_mean,
            "input_std": self.input_std,
            "elites": self.elites,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state, in place."""
        self.network.flat.copy_(state["flat"])
        for name in ("input_mean", "input_std", "elites"):
            setattr(self, name, state[name].to(self.network.flat.device).clone())
