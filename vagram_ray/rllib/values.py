"""The values of an ``MBPOConfig`` without its setters and checks: what the parts of the algorithm are built from."""

from __future__ import annotations

from typing import Any, Literal

from ray.rllib.algorithms.algorithm_config import DEPRECATED_VALUE, AlgorithmConfig

from vagram_ray.core.initialization import NETWORKS
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.envs import EnvironmentSpec
from vagram_ray.envs.naming import environment_name
from vagram_ray.rllib.environments import find_creator


class MBPOValues(AlgorithmConfig):
    """Every setting of ``MBPOConfig`` with its default. Users take ``MBPOConfig``, which documents them."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        defaults = MBPOSettings()
        for name in MBPOSettings.field_names():
            setattr(self, name, getattr(defaults, name))
        self.seeds: tuple[int, ...] = (0,)
        self.num_distractors = 0
        self.distractor_process = "paper"
        self.distractor_scale = "deviation"
        self.distractor_reset = "component"
        self.extensions: tuple[str, ...] = ()
        self.evaluation_interval = 1  # type: ignore[assignment]
        self.evaluation_duration = 10
        self.checkpoint_every: int | Literal["auto"] | None = None
        self.checkpoints_kept: int | str = 2
        self.checkpoint_last_epoch: int | None = None
        self.checkpoint_folder: str | None = None
        self.initial_checkpoint: str | None = None
        self.initial_parts: tuple[str, ...] = NETWORKS
        self.env_step_time_limit_s: float | Literal["auto"] | None = "auto"

    @classmethod
    def known_keys(cls) -> frozenset[str]:
        """Names of all settings, as a dict for Tune or ``setattr`` takes them."""
        config = cls()
        public = (key for key, value in vars(config).items() if not key.startswith("_") and value != DEPRECATED_VALUE)
        return frozenset((*public, *MBPOSettings.field_names()))

    def to_settings(self) -> MBPOSettings:
        """The hyperparameters as the core takes them.

        Raises:
            SettingsError: If one has a value that cannot work.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in MBPOSettings.field_names()}
        if isinstance(values["explore"], bool):
            values["explore"] = "sample" if values["explore"] else "mean"
        return MBPOSettings(**values)

    def environment_spec(self) -> EnvironmentSpec:
        """The environment as ``vagram_ray.envs`` takes it.

        Raises:
            ValueError: If none is set, or one without a name; a class path whose class is not there.
        """
        if self.env is None:
            raise ValueError(
                "env=None is not usable: give an environment, for example .environment('Hopper-v4') or your own class."
            )
        return EnvironmentSpec(
            environment_name(self.env),
            self.num_distractors,
            self.distractor_process,
            dict(self.env_config),
            self.distractor_scale,
            self.distractor_reset,
            kwargs_name="env_config",
            creator=find_creator(self.env),
        )
