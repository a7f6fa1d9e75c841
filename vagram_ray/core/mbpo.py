"""The agent: Algorithm 1 of Voelcker et al. (ICLR 2022), which is MBPO with a value-aware model loss.

    collect a real transition -> every ``model_train_freq`` steps: fit the model, imagine transitions
                              -> ``utd_ratio`` SAC updates on real and imagined transitions

One call of ``train_epoch`` is one epoch. It starts with a reset of the environments, so that the state at the
end of an epoch (``state_dict`` here, the environments' generators beside it) is the whole state of the run.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vagram_ray.core.actor_critic import SquashedGaussianActor
from vagram_ray.core.dimension_metrics import prediction_metrics, value_gradient_metrics
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.environments import SeedEnvironments, TerminationFn
from vagram_ray.core.execution import Library, choose_execution, library_to_go_on_with, precision_of_products
from vagram_ray.core.graphs import RepeatedWork
from vagram_ray.core.metrics import EpochMetrics, MetricSums
from vagram_ray.core.model_fitting import ModelFit
from vagram_ray.core.model_rollouts import imagine, make_truncation
from vagram_ray.core.networks import StackedAdam
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import ImaginedBuffer, ReplayBuffer, TransitionLayout
from vagram_ray.core.sac import SAC
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates

PURPOSES = ("init", "warmup", "explore", "sac", "fit", "rollout")
"""Purposes of the agent's random numbers. Each has its own stream per seed."""


class MBPOAgent:
    """A cohort of MBPO agents, one per seed, trained together.

    Args:
        settings: Hyperparameters, the same for every seed.
        seeds: The cohort's seeds. Each alone determines its agent's random numbers.
        obs_dim: D.
        action_dim: A.
        termination: Tells which imagined transitions end an episode. None without a model, or where it learns that.
        device: Where networks and buffers live.
        actor: Use this module's parameters in place (RLlib's module) instead of creating an actor.
        num_real_dims: Leading dimensions of an observation that are no distractors, for metrics alone, D by default.

    Attributes:
        clock: Gives the seconds that phases are timed with, wall time by default.
    """

    def __init__(
        self,
        settings: MBPOSettings,
        *,
        seeds: Sequence[int],
        obs_dim: int,
        action_dim: int,
        termination: TerminationFn | None,
        device: torch.device | str = "cpu",
        actor: SquashedGaussianActor | None = None,
        num_real_dims: int | None = None,
    ) -> None:
        if settings.needs_termination_function and termination is None:
            raise ValueError(
                f"model_loss={settings.model_loss!r} imagines transitions and needs a termination function; "
                "pass one, or use termination='learned' or model_loss='none'."
            )
        self.settings, self.seeds, self.device = settings, tuple(seeds), torch.device(device)
        self.termination = termination if settings.needs_termination_function else None
        self.clock: Callable[[], float] = time.perf_counter
        self.num_real_dims = obs_dim if num_real_dims is None else num_real_dims
        self.env_steps = self.epoch = 0
        self.failed = np.zeros(len(self.seeds), dtype=bool)
        execution = choose_execution(settings, len(self.seeds), self.device)
        self._recorder = execution.recorder
        self._repeat = RepeatedWork(self._recorder)
        self._streams = {purpose: RandomStreams(self.seeds, purpose, device) for purpose in PURPOSES}
        num_seeds = len(self.seeds)
        layout = TransitionLayout(obs_dim, action_dim)
        self.sac = SAC(settings, num_seeds, obs_dim, action_dim, self._streams["init"], device, actor)
        self.replay = ReplayBuffer(num_seeds, settings.replay_capacity, layout, device)
        if settings.model_based:
            self.dynamics = DynamicsEnsemble(settings, num_seeds, obs_dim, action_dim, self._streams["init"], device)
            self.model_optimizer = StackedAdam(
                self.dynamics.network.flat, num_seeds, settings.model_lr, settings.model_weight_decay
            )
            self.imagined = ImaginedBuffer(num_seeds, self._imagined_capacity(), layout, device)
        self._has_imagined = False
        self.keeps_scale = False
        """Whether the observations' scale is never fitted: it was taken over without the transitions it is of."""
        self._use_library(execution.library)

    @property
    def actor(self) -> SquashedGaussianActor:
        """The policy's module."""
        return self.sac.actor

    def act(self, obs: np.ndarray, deterministic: bool) -> np.ndarray:
        """Actions (S, A) in [-1, 1] for observations (S, D): the policy's mean, or a sample for exploration."""
        with torch.no_grad():
            batch = torch.as_tensor(obs, dtype=torch.float32, device=self.device).unsqueeze(1)
            if deterministic:
                action = self.actor.mean_action(batch)
            else:
                noise = self._streams["explore"].normal(1, self.actor.action_dim)
                action, _ = self.actor.sample(batch, noise)
        return self._zero_actions_of_failed_seeds(action.squeeze(1).cpu().numpy())

    def train_epoch(self, envs: SeedEnvironments) -> dict[str, np.ndarray]:
        """Train for one epoch of ``epoch_length`` environment steps per seed (the first: after the warm-up).

        Args:
            envs: One environment per seed, reset here.

        Returns:
            Metrics by name, each (S,), or NaN where a seed has nothing to report.
        """
        metrics = EpochMetrics(len(self.seeds), self.clock)
        with precision_of_products(self.settings.matmul_precision, self.device):
            self._learn(envs, metrics)
        self._report_schedules(metrics)
        self.epoch += 1
        result = metrics.result()
        self._freeze_failed_seeds()
        return result

    # -- the parts of Algorithm 1, in its order ------------------------------------------------------------

    def _learn(self, envs: SeedEnvironments, metrics: EpochMetrics) -> None:
        """Algorithm 1 for an epoch."""
        settings = self.settings
        if self.env_steps == 0 and settings.num_steps_sampled_before_learning_starts > 0:
            self._warm_up(envs)
        if settings.model_based:
            self.imagined.resize(self._imagined_capacity())
        obs = envs.reset()
        for step in range(settings.epoch_length):
            with metrics.timed("env"):
                obs = self._collect(envs, obs, self.act(obs, deterministic=settings.explore == "mean"), metrics)
            if step % settings.model_train_freq == 0:
                self._refresh_model(metrics)
            with metrics.timed("sac"):
                self._improve_policy(metrics)

    def _warm_up(self, envs: SeedEnvironments) -> None:
        """Fill the buffer with uniformly random actions."""
        obs = envs.reset()
        for _ in range(self.settings.num_steps_sampled_before_learning_starts):
            action = self._streams["warmup"].uniform(self.actor.action_dim, low=-1.0, high=1.0)
            obs = self._collect(envs, obs, action.cpu().numpy(), None)

    def _collect(
        self, envs: SeedEnvironments, obs: np.ndarray, action: np.ndarray, metrics: EpochMetrics | None
    ) -> np.ndarray:
        """Take one real step with every seed and store it. Returns what to act on next (S, D)."""
        step = envs.step(action)
        self.replay.add(obs, action, step.reward, step.next_obs, step.terminated)
        self.env_steps += 1
        if metrics is not None:
            metrics.add_step(step.reward, step.terminated | step.truncated)
        return step.obs

    def _refresh_model(self, metrics: EpochMetrics) -> None:
        """Fit the model to all real transitions and refill the imagined buffer."""
        settings = self.settings
        data = self.replay.layout.split(self.replay.rows)
        if len(self.replay) < 2:
            return
        if not self.keeps_scale:
            self.actor.scale.fit(data.obs)
        if not settings.model_based:
            return
        with metrics.timed("model_fit"):
            values = ValueEstimates.of_settings(self.sac, settings)
            streams, faster = self._streams["fit"], (self._recorder, self._library)
            fit = ModelFit(self.dynamics, self.model_optimizer, data, values, settings, streams, *faster)
            metrics.add("model", fit.run())
            metrics.add("model", value_gradient_metrics(values, data.next_obs, self.num_real_dims, data.terminated))
            metrics.add("model", prediction_metrics(self.dynamics, data, fit.split.validation, self.num_real_dims))
        with metrics.timed("rollout"):
            rollouts = imagine(
                self.dynamics,
                self.actor,
                self.termination,
                self.replay,
                self.imagined,
                num_rollouts=settings.rollouts_per_step * settings.model_train_freq,
                rollout_length=settings.rollout_length_at(self.epoch),
                streams=self._streams["rollout"],
                truncation=make_truncation(settings, values, data),
            )
            metrics.add("model", rollouts)
        self._has_imagined = True

    def _improve_policy(self, metrics: EpochMetrics) -> None:
        """``utd_ratio`` SAC updates. All their batches and noise are drawn at once."""
        settings = self.settings
        batches = self._sample_batches(settings.utd_ratio)
        batch_size = settings.train_batch_size_per_learner
        noise = self._streams["sac"].normal(settings.utd_ratio, batch_size, 2 * self.actor.action_dim)
        first = self.sac.num_updates
        updates = functools.partial(self._updates, first)
        if self._native is None:
            metrics.add("sac", self._repeat(self.sac.phase, updates, batches, noise))
        else:
            metrics.add("sac", self._native.updates(first, batches, noise))
        self.sac.num_updates = first + settings.utd_ratio  # updates that are replayed do not count themselves

    def _updates(self, first: int, batches: Tensor, noise: Tensor) -> MetricSums:
        """SAC updates on batches (S, count, B, width) with noise (S, count, B, 2 A), from number ``first`` on."""
        self.sac.num_updates = first
        sums = MetricSums()
        for batch, its_noise in zip(batches.unbind(dim=1), noise.unbind(dim=1), strict=True):
            sums.add(self.sac.update(self.replay.layout.split(batch), its_noise))
        return sums

    def _sample_batches(self, count: int) -> Tensor:
        """``count`` batches (S, count, B, width), each with the scheduled share of real transitions."""
        size, streams = self.settings.train_batch_size_per_learner, self._streams["sac"]
        num_real = self._num_real_per_batch()
        real = self.replay.gather(self.replay.sample_index(streams, count, num_real))
        if num_real == size:
            return real
        imagined = self.imagined.gather(self.imagined.sample_index(streams, count, size - num_real))
        return torch.cat([real, imagined], dim=2)

    # -- schedules, capacity, failures ---------------------------------------------------------------------

    def _num_real_per_batch(self) -> int:
        if not self._has_imagined:
            return self.settings.train_batch_size_per_learner
        return round(self.settings.real_ratio_at(self.epoch) * self.settings.train_batch_size_per_learner)

    def _imagined_capacity(self) -> int:
        settings = self.settings
        fits_per_epoch = -(-settings.epoch_length // settings.model_train_freq)
        rollouts = settings.rollouts_per_step * settings.model_train_freq * fits_per_epoch
        return rollouts * settings.rollout_length_at(self.epoch) * settings.imagined_epochs_retained

    def _report_schedules(self, metrics: EpochMetrics) -> None:
        metrics.set("train/epoch", self.epoch + 1)
        metrics.set("sac/num_updates", self.sac.num_updates)
        metrics.set("sac/real_ratio", self._num_real_per_batch() / self.settings.train_batch_size_per_learner)
        if self.settings.model_based:
            metrics.set("model/rollout_length", self.settings.rollout_length_at(self.epoch))
            metrics.set("model/imagined_transitions", self.imagined.sizes.cpu().numpy())

    def _zero_actions_of_failed_seeds(self, action: np.ndarray) -> np.ndarray:
        """The actions, with zeros for seeds that have failed: no simulator is fed NaN."""
        return np.where(np.isfinite(action), action, 0.0).astype(np.float32)

    def _freeze_failed_seeds(self) -> None:
        """Find seeds whose numbers are no longer finite, report them in ``failed`` and stop updating them."""
        watched = [
            self.actor.flat,
            self.sac.critic.network.flat,
            self.sac.target_critic.network.flat,
            self.sac.log_alpha,
        ]
        if self.settings.model_based:
            watched += [self.dynamics.network.flat, self.model_optimizer.exp_avg_sq]
        sound = torch.ones(len(self.seeds), dtype=torch.bool, device=self.device)
        for tensor in watched:
            sound &= tensor.detach().reshape(len(self.seeds), -1).isfinite().all(dim=1)
        self.give_up(np.flatnonzero(~sound.cpu().numpy()).tolist())

    def give_up(self, positions: Iterable[int]) -> None:
        """Count the seeds at these positions of the cohort as failed, as those whose numbers became NaN."""
        for position in positions:
            if not self.failed[position]:
                self._freeze(position)

    def _freeze(self, seed: int) -> None:
        self.failed[seed] = True
        self.sac.freeze(seed)
        self._repeat.forget()
        if self.settings.model_based:
            self.model_optimizer.freeze(seed)

    def _use_library(self, library: Library | None) -> None:
        """From now on the compiled library computes what it knows, or PyTorch alone does."""
        self._library = library
        self._native = None if library is None else library.sac(self.sac)
        networks = [self.actor.network, self.sac.critic.network, self.sac.target_critic.network]
        for network in networks + ([self.dynamics.network] if self.settings.model_based else []):
            network.evaluator = None if library is None else library.values

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(self, with_transitions: bool = True) -> dict[str, Any]:
        """Everything the run depends on, in tensors and plain values.

        Tensors are the agent's own memory, not copies: save or clone before training on. Without ``with_transitions``
        the rows of the real buffer are left out, as they are kept elsewhere (``replay.arrivals`` gives them).
        """
        state: dict[str, Any] = {
            "seeds": list(self.seeds),
            "env_steps": self.env_steps,
            "epoch": self.epoch,
            "failed": self.failed.tolist(),
            "has_imagined": self._has_imagined,
            "keeps_scale": self.keeps_scale,
            "native": self._library is not None,
            "sac": self.sac.state_dict(),
            "replay": self.replay.state_dict(with_transitions),
            "streams": {purpose: streams.state_dict() for purpose, streams in self._streams.items()},
        }
        if self.settings.model_based:
            state["dynamics"] = self.dynamics.state_dict()
            state["model_optimizer"] = self.model_optimizer.state_dict()
            state["imagined"] = self.imagined.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: If the state was saved by a cohort of other seeds, or with another choice of model or of what
                the model predicts. Nothing has been changed then.
        """
        if tuple(state["seeds"]) != self.seeds:
            raise ValueError(f"The saved state is of seeds {tuple(state['seeds'])}, this cohort has {self.seeds}.")
        if ("dynamics" in state) != self.settings.model_based:
            raise ValueError(
                f"The saved state is {'with' if 'dynamics' in state else 'without'} a dynamics model, "
                f"but model_loss={self.settings.model_loss!r}."
            )
        if self.settings.model_based:  # before all else, as it may refuse
            self.dynamics.load_state_dict(state["dynamics"])
        self.env_steps, self.epoch = int(state["env_steps"]), int(state["epoch"])
        self._has_imagined = bool(state["has_imagined"])
        self.keeps_scale = bool(state.get("keeps_scale", False))  # earlier versions did not write it
        if "native" in state:  # the same numbers need the same execution
            self._use_library(library_to_go_on_with(self.settings, self.device, state["native"], self._library))
        self.sac.load_state_dict(state["sac"])
        self.replay.load_state_dict(state["replay"])
        for purpose, streams in self._streams.items():
            streams.load_state_dict(state["streams"][purpose])
        if self.settings.model_based:
            self.model_optimizer.load_state_dict(state["model_optimizer"])
            self.imagined.load_state_dict(state["imagined"])
        self.failed[:] = False
        self._repeat.forget()
        for seed in np.flatnonzero(state["failed"]):
            self._freeze(int(seed))
