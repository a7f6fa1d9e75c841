"""``MBPOConfig``: MBPO with a value-aware model loss, configured as RLlib users configure algorithms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.typing import EnvType
from ray.util.debug import log_once

from vagram_ray.core.initialization import NETWORKS
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.rllib import validation
from vagram_ray.rllib.checkpointing import check_checkpointing, check_time_limit
from vagram_ray.rllib.env_runner import MBPOEnvRunner
from vagram_ray.rllib.extensions import load_extensions
from vagram_ray.rllib.initialization import check_initialization, find_source
from vagram_ray.rllib.learner import MBPOLearner
from vagram_ray.rllib.rl_module import MBPORLModule
from vagram_ray.rllib.values import MBPOValues

_UNSET: Any = object()


class MBPOConfig(MBPOValues):
    """Configuration of ``MBPO``.

    Every hyperparameter of ``MBPOSettings`` is a setting here, with the same name, default and check. Any of them may
    be a Tune search space until the config is validated::

        config = (
            MBPOConfig()
            .environment("Hopper-v4", num_distractors=tune.grid_search([5, 10, 15]))
            .training(model_loss=tune.grid_search(["vagram", "nll"]), seeds=(0, 1, 2, 3))
            .evaluation(evaluation_interval=5, evaluation_duration=10)
            .learners(num_gpus_per_learner=0.5)
        )
        tune.Tuner("MBPO", param_space=config).fit()       # or, without search spaces:
        algo = config.build_algo()

    One training iteration is one epoch of ``epoch_length`` environment steps for every seed of the cohort.

    Attributes:
        seeds: The cohort, trained together in one process; a single number is a cohort of one.
        num_distractors: Distractor dimensions appended to the observation.
        distractor_process: ``"paper"`` (eq. 18), ``"published"`` (the published code's) or ``"drift"``.
        distractor_scale: What the paper's N(0, 10) gives, a ``"deviation"`` or a ``"variance"``.
        distractor_reset: What eq. 18 resets, each ``"component"`` or the whole ``"vector"``.
        extensions: Modules or Python files with losses, termination functions or environments of your own,
            imported in every process first.
        evaluation_interval: Epochs between evaluations (default 1); None evaluates on ``algo.evaluate()`` only.
        evaluation_duration: Episodes per evaluation and *per seed* (default 10).
        explore: ``"sample"`` or ``"mean"`` as in ``MBPOSettings``; RLlib's True and False mean the same.
        checkpoint_every: In a Tune trial, let the trial checkpoint itself and go on by itself (``checkpointing``).
        initial_checkpoint: What networks start from, and ``initial_parts`` which of them (``initialize_from``).
        env_step_time_limit_s: Seconds after which a hanging environment ends the process (``environment``).
    """

    def __init__(self, algo_class: type | None = None) -> None:
        from vagram_ray.rllib.algorithm import MBPO  # the algorithm's default config is this class

        super().__init__(algo_class=algo_class or MBPO)
        self.env_runner_cls = MBPOEnvRunner  # type: ignore[assignment]

    # -- fluent setters --------------------------------------------------------------------------------------

    def environment(
        self,
        env: str | EnvType | None = _UNSET,
        *,
        num_distractors: int = _UNSET,
        distractor_process: str = _UNSET,
        distractor_scale: str = _UNSET,
        distractor_reset: str = _UNSET,
        env_step_time_limit_s: float | Literal["auto"] | None = _UNSET,
        **kwargs: Any,
    ) -> MBPOConfig:
        """Set the environment.

        Args:
            env: A Gymnasium id, such as ``"Hopper-v4"``, a name of ``ray.tune.register_env``, a class or a function
                that makes an environment, or a class path (a flat Box of observations, a bounded Box of actions).
            num_distractors: Distractor dimensions appended to the observation, at least 0.
            distractor_process: ``"paper"`` (eq. 18), ``"published"`` (the published code's) or ``"drift"``
                (eq. 18 without its limit); ``vagram_ray.envs.DistractorObservation`` has the equations.
            distractor_scale: Of ``"paper"``: whether N(0, 10) and N(0, 0.1) give a ``"deviation"`` or a ``"variance"``.
            distractor_reset: Of ``"paper"``: whether each ``"component"`` is reset by itself or the whole ``"vector"``.
            env_step_time_limit_s: A step or reset that takes longer ends this process with a traceback, and Tune
                starts the trial again; ``"auto"`` is 300 s in a Tune trial and no limit elsewhere, None is no limit.
            **kwargs: RLlib's own, of which ``env_config`` holds keyword arguments for ``gymnasium.make``; classes,
                functions and registered creators are called with it as an ``EnvContext``.

        Raises:
            ValueError: If a name is no setting; the message gives the closest ones.
        """
        own = {
            "num_distractors": num_distractors,
            "distractor_process": distractor_process,
            "distractor_scale": distractor_scale,
            "distractor_reset": distractor_reset,
            "env_step_time_limit_s": env_step_time_limit_s,
        }
        _refuse_unknown(kwargs, AlgorithmConfig.environment, set(own))
        if env is not _UNSET:
            kwargs["env"] = env
        if "env_config" in kwargs and any(map(validation.is_search_space, (self.env_config, kwargs["env_config"]))):
            self.env_config = kwargs.pop("env_config")  # RLlib would merge the one into the other
        super().environment(**kwargs)
        self._set_given(own)
        return self

    def checkpointing(  # type: ignore[override]  # RLlib's own are taken by name
        self,
        *,
        checkpoint_every: int | Literal["auto"] | None = _UNSET,
        checkpoints_kept: int | str = _UNSET,
        checkpoint_last_epoch: int | None = _UNSET,
        checkpoint_folder: str | None = _UNSET,
        **kwargs: Any,
    ) -> MBPOConfig:
        """Set how a Tune trial checkpoints itself; without Tune, and with ``None``, it does not.

        Such a trial writes its checkpoints into its own folder in the storage, and when its process starts it goes on
        from the newest whole one there; leave Tune's own ``CheckpointConfig`` as it is then.

        Args:
            checkpoint_every: Epochs between checkpoints; ``"auto"`` is at most every minute and at most 2 % of the
                wall time; None leaves checkpoints to Tune.
            checkpoints_kept: How many of the newest, ``"all"``, or ``"every 10 epochs"``, which are written whatever
                ``checkpoint_every`` says and kept beside the newest two.
            checkpoint_last_epoch: An epoch that is saved in any case, the trial's last one.
            checkpoint_folder: Path or URI of the trial's folder, for checkpoints and what its process prints; by
                default its folder in Tune's storage.
            **kwargs: RLlib's own.

        Raises:
            ValueError: If a name is no setting; the message gives the closest ones.
        """
        own = {
            "checkpoint_every": checkpoint_every,
            "checkpoints_kept": checkpoints_kept,
            "checkpoint_last_epoch": checkpoint_last_epoch,
            "checkpoint_folder": checkpoint_folder,
        }
        _refuse_unknown(kwargs, AlgorithmConfig.checkpointing, set(own))
        super().checkpointing(**kwargs)
        self._set_given(own)
        return self

    def _set_given(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if value is not _UNSET:
                setattr(self, name, value)

    def training(
        self,
        *,
        seeds: int | Sequence[int] = _UNSET,
        extensions: str | Sequence[str] = _UNSET,
        **settings: Any,
    ) -> MBPOConfig:
        """Set hyperparameters.

        Args:
            seeds: The cohort's seeds, distinct and at least 0.
            extensions: ``"package.module"`` or ``"path/to/file.py"``, one or several.
            **settings: Any field of ``MBPOSettings``.

        Raises:
            ValueError: If a name is no setting; the message gives the closest ones.
        """
        own = set(MBPOSettings.field_names())
        _refuse_unknown(settings, AlgorithmConfig.training, own | {"seeds", "extensions"})
        super().training(**{name: value for name, value in settings.items() if name not in own})
        for name in own & set(settings):
            setattr(self, name, settings[name])
        if seeds is not _UNSET:
            self.seeds = seeds  # type: ignore[assignment]  # may be a search space; validate() makes it a tuple
        if extensions is not _UNSET:
            self.extensions = (extensions,) if isinstance(extensions, str) else extensions  # type: ignore[assignment]
        return self

    def initialize_from(self, path: Any, parts: Sequence[str] = NETWORKS) -> MBPOConfig:
        """Start from what a finished run has learned, with the settings of this configuration.

        A seed starts from the same seed of that run, or from the others in turn where it is not there or has failed.
        Optimisers, temperature, random numbers and counters start as ever, and so do the first random steps
        (``num_steps_sampled_before_learning_starts=0`` leaves them out). A run that goes on from a checkpoint of its
        own does not start again.

        Args:
            path: A checkpoint's folder or URI, a ``ray.tune.Checkpoint``, or a trial's folder, whose newest whole
                checkpoint is taken now. None starts from nothing.
            parts: Some of ``"actor"``, ``"critics"`` (with their targets), ``"model"``, ``"normalizer"`` (of the
                observations that actor and critics see) and ``"buffer"`` (the real transitions); all but the last by
                default.

        Raises:
            CheckpointError: There is no checkpoint.
        """
        self.initial_checkpoint = None if path is None else find_source(path)
        self.initial_parts = tuple(parts)
        return self

    # -- what the parts are built from -----------------------------------------------------------------------

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The policy's module."""
        return RLModuleSpec(module_class=MBPORLModule)

    def get_default_learner_class(self) -> type[MBPOLearner]:
        """The learner that owns the agent."""
        return MBPOLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        names = ("seeds", "actor_hidden_sizes", "normalize_features", "normalize_observations")
        return super()._model_config_auto_includes | {name: getattr(self, name) for name in names}

    # -- checks ----------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Check everything that can be checked before training; imports the extensions.

        Raises:
            ValueError: One sentence that names the value and the way out.
        """
        validation.check_keys(self)
        validation.check_resolved(self)
        seeds = validation.checked_seeds(self.seeds)
        if seeds != self.seeds:  # a frozen config, already checked, must not be written to
            self.seeds = seeds
        load_extensions(self.extensions)
        if not self.in_evaluation:  # RLlib derives the evaluation config and changes some of these itself
            validation.check_fixed_settings(self)
            validation.check_evaluation(self)
            check_checkpointing(self.checkpoint_every, self.checkpoints_kept, self.checkpoint_last_epoch)
            check_time_limit(self.env_step_time_limit_s)
            check_initialization(self)
        settings = self.to_settings()
        validation.check_execution(settings.execution, self.num_gpus_per_learner)
        # RLlib announces the new API stack to users of older configs; there is no older MBPOConfig.
        log_once(f"{cast(type, self.algo_class).__name__}_on_new_api_stack")
        super().validate()
        spec = self.environment_spec()
        spec.validate()
        if settings.needs_termination_function:
            spec.termination()


def _refuse_unknown(names: Iterable[str], method: Callable[..., Any], own: set[str]) -> None:
    known = own | set(inspect.signature(method).parameters) - {"self"}
    unknown = set(names) - known
    if unknown:
        raise ValueError(validation.unknown_key_message(unknown, known))
