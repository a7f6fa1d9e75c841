"""``MBPO``: the method of ``vagram_ray.core`` as an RLlib algorithm, one epoch per training iteration."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from pyarrow.fs import FileSystem
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import EVALUATION_RESULTS
from ray.tune import Checkpoint
from ray.tune.result import TIME_THIS_ITER_S

from vagram_ray.checkpoint.files import resolve
from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.ray_internals import nothing_saved
from vagram_ray.rllib.checkpointing import (
    DAMAGED_CHECKPOINTS,
    TrialCheckpoints,
    config_of_checkpoint,
    config_of_content,
    place_in_tunes_folder,
    restore_algorithm,
    save_algorithm,
)
from vagram_ray.rllib.config import MBPOConfig
from vagram_ray.rllib.env_runner import MBPOEnvRunner
from vagram_ray.rllib.environments import find_creator
from vagram_ray.rllib.gpu_share import hold_to_gpu_share
from vagram_ray.rllib.initialization import initialize
from vagram_ray.rllib.learner import MBPOLearner
from vagram_ray.rllib.old_api import CALLS_WITHOUT_USE, refusing
from vagram_ray.rllib.results import ALL_SEEDS_FAILED, add_failures, epoch_results, evaluation_results, merge
from vagram_ray.rllib.trial_output import TrialOutput

logger = logging.getLogger(__name__)

TRIAL_STEP_LIMIT_S = 300.0
"""``env_step_time_limit_s="auto"`` in a Tune trial."""


class MBPO(Algorithm):
    """Model-based policy optimisation with a value-aware model loss (Janner et al., 2019; Voelcker et al., 2022).

    ``train()`` runs one epoch: ``epoch_length`` environment steps and ``utd_ratio`` times as many updates for
    every seed of the cohort. Beside RLlib's usual keys its result has:

    - ``env_steps``: environment steps per seed so far, warm-up included, the x axis of everything.
    - ``train/...``, ``model/...``, ``sac/...`` and, in iterations that evaluated, ``eval/...``: means over the
      seeds, episode returns also as interquartile mean (``eval/episode_return_iqm``).
    - ``seeds/seed_<k>/...``: the same of each seed, and ``failed`` (1 once its numbers are no longer finite:
      such a seed is left out of training and of the means, except that it counts as the cohort's worst in episode
      returns, and its neighbours go on).
    - ``environment_faults``: where an environment has returned numbers that are not finite, a sentence for each such
      seed. It counts as failed, also where that happened in evaluation, and has ``environment_fault`` (1) as well.
    - ``done``, true once every seed has failed, with the reason in ``all_seeds_failed``: a Tune trial ends then.
    - ``time/..._s``: wall time in seconds, ``perf/env_steps_per_s`` and ``perf/updates_per_s``, over all seeds.

    ``evaluate()`` plays ``evaluation_duration`` whole episodes for every seed with the deterministic policy in
    environments of their own, and changes nothing in training. Checkpoints hold the whole state of the run:
    on a CPU, training on from one equals not having stopped, bit for bit. ``get_module()`` is the policy in
    training itself, not a copy (``select_seed`` takes a copy of one seed's policy).

    PyTorch runs with one thread per CPU given to the trial.
    """

    config: MBPOConfig

    def __init__(
        self,
        config: Any = None,
        *args: Any,
        saved: Mapping[str, Any] | None = None,
        going_on: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build the algorithm.

        Args:
            config: As in RLlib.
            *args: RLlib's own.
            saved: A checkpoint's settings, which RLlib's generic loader hands over.
            going_on: Whether a checkpoint is restored next, so that nothing is taken from ``initial_checkpoint``.
            **kwargs: RLlib's own.
        """
        self._going_on = going_on or saved is not None
        self._checkpoints: TrialCheckpoints | None = None
        self._result_to_repeat: dict[str, Any] | None = None
        if saved is not None:
            config = config_of_content(self.get_default_config() if config is None else config, saved, "It")
        super().__init__(config, *args, **kwargs)

    @classmethod
    def get_default_config(cls) -> MBPOConfig:
        """A configuration with all defaults."""
        return MBPOConfig()

    def setup(self, config: Any) -> None:
        """Build environments, module and agent (called by RLlib's constructor)."""
        self._output = None
        if self._storage is not None and config.checkpoint_folder:
            self._output = TrialOutput(*self._own_folder(config), self.logdir)
        with self._output or contextlib.nullcontext():
            self._set_up(config)

    def _own_folder(self, config: MBPOConfig) -> tuple[FileSystem, str]:
        """File system and path of the trial's folder."""
        storage: Any = self._storage
        if config.checkpoint_folder is None:
            return storage.storage_filesystem, storage.trial_fs_path
        return resolve(config.checkpoint_folder)

    def _set_up(self, config: Any) -> None:
        if config.num_gpus_per_learner > 0 and not torch.cuda.is_available():
            raise ValueError(
                f"num_gpus_per_learner={config.num_gpus_per_learner!r} is not usable: PyTorch finds no GPU in this "
                "process; set it to 0 to train on the CPU."
            )
        torch.set_num_threads(max(1, int(_num_cpus(config))))
        keep_freed_memory()
        hold_to_gpu_share(config.num_gpus_per_learner)
        self._epoch_results: dict[str, Any] = {}
        super().setup(config)
        # One process, one policy: what acts is what is trained, with nothing to synchronise.
        self.env_runner.share_module(self.learner.rl_module)
        in_trial = self._storage is not None
        limit = self.config.env_step_time_limit_s
        if limit is not None and (limit != "auto" or in_trial):
            seconds = TRIAL_STEP_LIMIT_S if limit == "auto" else float(limit)
            keep_output = self._output.keep if self._output is not None else None
            self.env_runner.limit_steps(seconds, self._stderr_fp or sys.__stderr__, keep_output)
        if in_trial and self.config.checkpoint_every is not None:
            self._checkpoint_own_trial(self.config.checkpoint_every)
        if self.config.initial_checkpoint is not None and not self._going_on and self._result_to_repeat is None:
            initialize(self.learner.agent, self.config)

    def _checkpoint_own_trial(self, every: int | Literal["auto"]) -> None:
        """Write checkpoints into the trial's folder from now on, and go on from the newest that is there."""
        filesystem, path = self._own_folder(self.config)
        if self.config.checkpoint_folder is None:
            path = place_in_tunes_folder(filesystem, path)
        self._checkpoints = TrialCheckpoints(
            filesystem,
            path,
            every,
            keep=self.config.checkpoints_kept,
            last_epoch=self.config.checkpoint_last_epoch,
        )
        self._result_to_repeat = self._checkpoints.resume(self)
        if self._result_to_repeat is not None:  # Tune counts and times the repeated epoch anew
            self._iteration -= 1
            self._time_total -= self._result_to_repeat[TIME_THIS_ITER_S]

    def step(self) -> dict[str, Any]:
        """Run one iteration. Right after a resume, return the checkpointed result again."""
        repeated, self._result_to_repeat = self._result_to_repeat, None
        if repeated is not None:
            self._epoch_results = repeated
            return self._with_damage(repeated)
        if self._checkpoints is not None:
            self._checkpoints.check()
        with self._output or contextlib.nullcontext():
            started = time.time()
            result: dict[str, Any] = super().step()
            self._add_failures(result)
            if self._checkpoints is not None:
                self._checkpoints.save_if_due(self, self._iteration + 1, result, seconds=time.time() - started)
        if self._output is not None:
            self._output.keep_if_due()
        return self._with_damage(result)

    def _with_damage(self, result: dict[str, Any]) -> dict[str, Any]:
        """The first result of this process tells of damaged checkpoints that were passed over."""
        if self._checkpoints is not None and self._checkpoints.damaged:
            result[DAMAGED_CHECKPOINTS], self._checkpoints.damaged = self._checkpoints.damaged, []
        return result

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Write a checkpoint for Tune. In a sweep the trial's own, after its newest epoch, and Tune gets none."""
        if checkpoint_dir is not None or self._checkpoints is None or self.config.checkpoint_folder is None:
            return super().save(checkpoint_dir)
        self._checkpoints.save_newest(self)
        return nothing_saved()

    def cleanup(self) -> None:
        """Stop (called at the end of a trial)."""
        super().cleanup()
        if self._output is not None:
            self._output.keep()

    def save_to_path(
        self,
        path: str | Path | None = None,
        *,
        state: dict[str, Any] | None = None,
        filesystem: FileSystem | None = None,
        **kwargs: Any,
    ) -> str:
        """Write a checkpoint, completely or not at all, in a format whose reading executes nothing.

        Args:
            path: A folder on this machine or a URI. A new temporary folder by default. What stands there is replaced.
            state: Must be None: a checkpoint holds this algorithm as it is.
            filesystem: Where ``path`` is, in place of a URI.

        Returns:
            The path.

        Raises:
            OSError: It cannot be written. Nothing is left of it.
        """
        if state is not None:
            raise ValueError("state is not usable: a checkpoint holds the algorithm as it is; call set_state() first.")
        return save_algorithm(self, Path(tempfile.mkdtemp()) / "checkpoint" if path is None else path, filesystem)

    def restore_from_path(
        self,
        path: str | Path,
        *,
        component: str | None = None,
        filesystem: FileSystem | None = None,
        **kwargs: Any,
    ) -> None:
        """Go on from a checkpoint of ``save_to_path``.

        Args:
            path: Its folder or URI.
            component: With a name, RLlib's way to restore a part from a checkpoint of RLlib's own format.
            filesystem: Where ``path`` is, in place of a URI.

        Raises:
            CheckpointError: There is none, or it is damaged. Nothing has been changed.
            ValueError: It is of other seeds or another kind of model.
        """
        if component is not None:
            super().restore_from_path(path, component=component, filesystem=filesystem, **kwargs)
            return
        restore_algorithm(self, path, filesystem)
        self._result_to_repeat = None
        if self._checkpoints is not None:
            self._checkpoints.set_back(self.training_iteration)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path | Checkpoint,
        filesystem: FileSystem | None = None,
        *,
        config: MBPOConfig | None = None,
        **kwargs: Any,
    ) -> Self:
        """A new algorithm that goes on from a checkpoint, on the CPU unless ``config`` says otherwise.

        Args:
            path: The checkpoint's folder or URI, or a ``ray.tune.Checkpoint``.
            filesystem: Where ``path`` is, in place of a URI.
            config: What the checkpoint does not hold, such as resources and callbacks. The checkpoint's own settings
                are put into a copy of it.

        Raises:
            CheckpointError: There is none, or it is damaged.
            ValueError: It was trained with an extension that this process has not loaded. What a checkpoint names is
                never executed: call ``load_extensions`` first.
        """
        if isinstance(path, Checkpoint):
            place, filesystem = path.path, path.filesystem
        else:
            place = str(path)
        base = cls.get_default_config() if config is None else config.copy(copy_frozen=False)
        config = config_of_checkpoint(base, place, filesystem)
        algo = cast(Self, cast(Any, config.algo_class)(config=config, going_on=True))
        try:
            algo.restore_from_path(place, filesystem=filesystem)
        except BaseException:
            algo.stop()
            raise
        return algo

    @property
    def learner(self) -> MBPOLearner:
        """The local learner, which owns the agent."""
        return cast(Any, self.learner_group)._learner

    @staticmethod
    def _get_env_id_and_creator(env_specifier: Any, config: Any) -> tuple[Any, Any]:
        """The runner makes the environments by itself. RLlib's own would refuse functions."""
        return env_specifier, find_creator(env_specifier)

    @classmethod
    def _should_create_evaluation_env_runners(cls, eval_config: Any) -> bool:
        return False  # the one runner has evaluation environments of its own

    def training_step(self) -> None:
        """Run one epoch."""
        runner: MBPOEnvRunner = self.env_runner
        agent = self.learner.agent
        steps_before, started = agent.env_steps, time.perf_counter()
        metrics = self.learner.train_epoch(runner.env)
        agent.give_up(runner.env.faults)
        seconds = time.perf_counter() - started
        self._epoch_results = epoch_results(metrics, agent, agent.env_steps - steps_before, seconds)

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Play ``evaluation_duration`` whole episodes for every seed with the deterministic policy.

        Returns:
            ``env_runners`` with RLlib's episode metrics over all seeds that have not failed, ``eval``,
            ``seeds/seed_<k>/eval`` and ``time/evaluation_s``.
        """
        self._before_evaluate()
        self._call_back("on_evaluate_start")
        agent, started = self.learner.agent, time.perf_counter()
        statistics = self.env_runner.sample(num_episodes=self.config.evaluation_duration)
        seconds = time.perf_counter() - started
        agent.give_up(self.env_runner.evaluation_env.faults)
        results = evaluation_results(statistics, agent, seconds)
        self._call_back("on_evaluate_end", evaluation_metrics=results)
        return results

    def _add_failures(self, result: dict[str, Any]) -> None:
        """Put what environments returned wrongly into the result, and end the trial once no seed is left."""
        runner = cast(MBPOEnvRunner, self.env_runner)
        faults = [*runner.env.faults.items(), *runner.evaluation_env.faults.items()]
        add_failures(result, faults, self.learner.agent, self.config.env)
        if ALL_SEEDS_FAILED in result:
            logger.error(result[ALL_SEEDS_FAILED])

    def log_result(self, result: dict[str, Any]) -> None:
        """Hand the result to callbacks and loggers."""
        # Tune's utilisation monitor has just replaced our section of the same name.
        result["perf"] = {**result.get("perf", {}), **self._epoch_results["perf"]}
        super().log_result(result)

    def __repr__(self) -> str:
        # Ray names a trial's actor in its error messages, also when its configuration has just been refused.
        # RLlib's own version needs a configuration, and the refusal would be lost in a crash.
        return type(self).__name__ if self.config is None else super().__repr__()

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Take over weights of policies, as ``get_weights`` returns them. All else of the agent stays as it is.

        Raises:
            ValueError: They are of another module, or of networks of another shape.
        """
        if list(weights) != [DEFAULT_MODULE_ID]:
            raise ValueError(
                f"weights of {', '.join(map(repr, weights)) or 'nothing'} are not usable: MBPO has one module, give "
                f"{{{DEFAULT_MODULE_ID!r}: ...}} as get_weights() returns it."
            )
        self.learner.rl_module.take_over(weights[DEFAULT_MODULE_ID])

    def _call_back(self, name: str, **kwargs: Any) -> None:
        make_callback(
            name,
            callbacks_objects=self.callbacks,
            callbacks_functions=getattr(self.config, f"callbacks_{name}"),
            kwargs={"algorithm": self, "metrics_logger": self.metrics, **kwargs},
        )

    def _compile_iteration_results(self, *, train_results: dict, eval_results: dict) -> dict[str, Any]:
        train_results.pop(EVALUATION_RESULTS, None)  # RLlib would repeat those of the last evaluation
        evaluation = eval_results.get(EVALUATION_RESULTS, {})
        cohort = {key: evaluation.pop(key) for key in ("eval", "seeds", "time") if key in evaluation}
        results = super()._compile_iteration_results(train_results=train_results, eval_results=eval_results)
        return merge(merge(results, self._epoch_results), cohort)


for _name in CALLS_WITHOUT_USE:
    setattr(MBPO, _name, refusing(_name))


def _num_cpus(config: MBPOConfig) -> float:
    """CPUs that RLlib requests for the trial's process."""
    learner: Any = config.num_cpus_per_learner
    if learner == "auto":
        learner = 0 if config.num_gpus_per_learner else 1
    return max(float(learner), float(config.num_cpus_for_main_process))
