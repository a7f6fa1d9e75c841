"""The env runner: owner of a cohort's environments, and the one who evaluates policies in them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
import torch
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable

from vagram_ray.core.evaluation import EpisodeStatistics, evaluate
from vagram_ray.envs import SeedVectorEnv
from vagram_ray.envs.step_watchdog import StepWatchdog
from vagram_ray.rllib.results import episode_metrics
from vagram_ray.rllib.rl_module import MBPORLModule
from vagram_ray.rllib.values import MBPOValues

if TYPE_CHECKING:
    import gymnasium as gym

ENVIRONMENTS = "environments"
"""Name of the checkpoint entry that holds what outlasts a reset of the environments."""


class MBPOEnvRunner(EnvRunner, Checkpointable):
    """Holds one training and one evaluation environment per seed, in the trial's own process (and its env workers).

    The learner's agent steps ``env`` itself, because the method takes a gradient update after each step.
    ``sample`` plays evaluation episodes in ``evaluation_env``, whose random generators are separate, so that
    evaluating changes nothing in training.
    """

    config: MBPOValues
    env: SeedVectorEnv  # type: ignore[assignment]  # RLlib's class declares no type but None
    evaluation_env: SeedVectorEnv
    module: MBPORLModule

    def __init__(self, *, config: MBPOValues, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self._statistics: EpisodeStatistics | None = None
        classes: Any = self.config.callbacks_class
        self._callbacks = [own() for own in (classes if isinstance(classes, list | tuple) else [classes])]
        self._watchdog: StepWatchdog | None = None
        self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """(Re)create the environments from ``config``."""
        self.stop()
        evaluation_config = cast("MBPOValues", self.config.get_evaluation_config_object())
        seeds = self.config.seeds
        spec = self.config.environment_spec()
        self.env = SeedVectorEnv(spec, seeds)
        for note in spec.notes():
            warnings.warn(note, RuntimeWarning, stacklevel=2)
        self.evaluation_env = SeedVectorEnv(evaluation_config.environment_spec(), seeds, evaluation=True)
        if self.evaluation_env.observation_space.shape != self.env.observation_space.shape:
            raise ValueError(
                f"evaluation_config: its env_config gives observations of shape "
                f"{self.evaluation_env.observation_space.shape}, training has {self.env.observation_space.shape}; "
                "leave out what changes the observations."
            )
        for envs, config in ((self.env, self.config), (self.evaluation_env, evaluation_config)):
            self._tell_of(envs, config)

    def _tell_of(self, envs: SeedVectorEnv, config: MBPOValues) -> None:
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": envs,
                "env_context": EnvContext(config.env_config, worker_index=0, num_workers=0),
            },
        )

    def make_module(self) -> None:
        """(Re)create this runner's own module from ``config``."""
        spec = self.config.get_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = cast(MBPORLModule, spec.build())
        self._shares_module = False

    def limit_steps(self, limit_s: float, output: IO[str], before_end: Callable[[], None] | None = None) -> None:
        """End this process, with a traceback in ``output``, when a step or reset takes longer than ``limit_s``."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self._watchdog = StepWatchdog(limit_s, output, before_end)
        self.env.guard = self.evaluation_env.guard = self._watchdog.guard

    def share_module(self, module: MBPORLModule) -> None:
        """Act with the learner's own module from now on: there are no weights to copy."""
        self.module = module
        self._shares_module = True

    def sample(self, *, num_episodes: int = 1, **kwargs: Any) -> EpisodeStatistics:
        """Play exactly ``num_episodes`` whole evaluation episodes for every seed, with the deterministic policy.

        Returns:
            Returns and lengths, each (S, num_episodes).
        """
        self._statistics = evaluate(self._act, self.evaluation_env, num_episodes)
        return self._statistics

    def _act(self, obs: np.ndarray) -> np.ndarray:
        outputs = self.module.forward_inference({Columns.OBS: torch.from_numpy(obs).unsqueeze(1)})
        # A failed seed's policy is NaN. Its environment still has to be given a number.
        return torch.nan_to_num(outputs[Columns.ACTIONS]).squeeze(1).cpu().numpy()

    def get_metrics(self) -> dict[str, float]:
        """RLlib's episode metrics of the last ``sample``, over all seeds, empty before it."""
        return {} if self._statistics is None else episode_metrics(self._statistics.returns, self._statistics.lengths)

    def get_spaces(self) -> dict[str, tuple[gym.Space, gym.Space]]:
        """Spaces of one environment. Actions are in [-1, 1]."""
        spaces = (self.env.observation_space, self.env.action_space)
        return {INPUT_ENV_SPACES: spaces, DEFAULT_MODULE_ID: spaces}

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """States of the environments (exact after the next reset, which starts every epoch)."""
        state: dict[str, Any] = {}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state(**kwargs)
        if self._check_component(ENVIRONMENTS, components, not_components):
            state[ENVIRONMENTS] = {"training": self.env.get_state(), "evaluation": self.evaluation_env.get_state()}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. Weights are taken however old they are."""
        if COMPONENT_RL_MODULE in state and not self._shares_module:
            weights = state[COMPONENT_RL_MODULE]
            self.module.set_state(weights.get(DEFAULT_MODULE_ID, weights))
        if ENVIRONMENTS in state:
            self.env.set_state(state[ENVIRONMENTS]["training"])
            self.evaluation_env.set_state(state[ENVIRONMENTS]["evaluation"])

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """How to build this runner again."""
        return (), {"config": self.config}

    def assert_healthy(self) -> None:
        """Check that environments and module exist."""
        assert hasattr(self, "evaluation_env") and hasattr(self, "module")

    def stop(self) -> None:
        """Close the environments."""
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        for env in (self.env, getattr(self, "evaluation_env", None)):
            if env is not None:
                env.close()
