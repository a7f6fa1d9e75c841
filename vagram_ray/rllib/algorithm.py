"""``MBPO``: the method of ``vagram_ray.core`` as an RLlib algorithm, one epoch per training iteration."""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    EVALUATION_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
)
from ray.tune.result import STDERR_FILE, STDOUT_FILE

from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.rllib.config import MBPOConfig
from vagram_ray.rllib.env_runner import MBPOEnvRunner, episode_metrics
from vagram_ray.rllib.learner import MBPOLearner
from vagram_ray.rllib.results import cohort_results, merge, set_nested


class MBPO(Algorithm):
    """Model-based policy optimisation with a value-aware model loss (Janner et al., 2019; Voelcker et al., 2022).

    ``train()`` runs one epoch: ``epoch_length`` environment steps and ``utd_ratio`` times as many updates for
    every seed of the cohort. Beside RLlib's usual keys its result has:

    - ``env_steps``: environment steps per seed so far, warm-up included; the x axis of everything;
    - ``train/...``, ``model/...``, ``sac/...`` and, in iterations that evaluated, ``eval/...``: means over the
      seeds, episode returns also as interquartile mean (``eval/episode_return_iqm``);
    - ``seeds/seed_<k>/...``: the same of each seed, and ``failed`` (1 once its numbers are no longer finite;
      such a seed is left out of the means and of training, its neighbours go on);
    - ``time/..._s``: wall time in seconds; ``perf/env_steps_per_s`` and ``perf/updates_per_s``, over all seeds.

    ``evaluate()`` plays ``evaluation_duration`` whole episodes for every seed with the deterministic policy in
    environments of their own, and changes nothing in training. Checkpoints hold the whole state of the run:
    on a CPU, training on from one equals not having stopped, bit for bit. ``get_module()`` is the policy in
    training itself, not a copy (``select_seed`` takes a copy of one seed's policy).

    PyTorch runs with one thread per CPU given to the trial.
    """

    config: MBPOConfig

    @classmethod
    def get_default_config(cls) -> MBPOConfig:
        """A configuration with all defaults."""
        return MBPOConfig()

    def setup(self, config: Any) -> None:
        """Build environments, module and agent (called by RLlib's constructor)."""
        if config.num_gpus_per_learner > 0 and not torch.cuda.is_available():
            raise ValueError(
                f"num_gpus_per_learner={config.num_gpus_per_learner!r} is not usable: PyTorch finds no GPU in this "
                "process; set it to 0 to train on the CPU."
            )
        torch.set_num_threads(max(1, int(_num_cpus(config))))
        keep_freed_memory()
        self._epoch_results: dict[str, Any] = {}
        super().setup(config)
        # One process, one policy: what acts is what is trained, with nothing to synchronise.
        self.env_runner.share_module(self.learner.rl_module)

    @property
    def learner(self) -> MBPOLearner:
        """The local learner, which owns the agent."""
        return cast(Any, self.learner_group)._learner

    @classmethod
    def _should_create_evaluation_env_runners(cls, eval_config: Any) -> bool:
        return False  # the one runner has evaluation environments of its own

    def training_step(self) -> None:
        """Run one epoch."""
        runner: MBPOEnvRunner = self.env_runner
        agent = self.learner.agent
        steps_before, started = agent.env_steps, time.perf_counter()
        metrics = self.learner.train_epoch(runner.env)
        seconds = time.perf_counter() - started
        results = cohort_results(metrics, agent.seeds, agent.failed)
        num_seeds, settings = len(agent.seeds), agent.settings
        env_steps = (agent.env_steps - steps_before) * num_seeds
        updates = settings.epoch_length * settings.utd_ratio * num_seeds
        results["env_steps"] = agent.env_steps
        set_nested(results, "time/epoch_s", seconds)
        set_nested(results, "perf/env_steps_per_s", env_steps / seconds)
        set_nested(results, "perf/updates_per_s", updates / seconds)
        total = agent.env_steps * num_seeds
        results[NUM_ENV_STEPS_SAMPLED_LIFETIME] = total
        results[ENV_RUNNER_RESULTS] = {
            EPISODE_RETURN_MEAN: results["train"]["episode_return"],
            EPISODE_LEN_MEAN: results["train"]["episode_length"],
            NUM_EPISODES: int(metrics["train/num_episodes"].sum()),
            NUM_ENV_STEPS_SAMPLED: env_steps,
            NUM_ENV_STEPS_SAMPLED_LIFETIME: total,
        }
        self._epoch_results = results

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
        metrics = {
            "eval/episode_return": np.where(agent.failed, np.nan, statistics.returns.mean(axis=1)),
            "eval/episode_length": np.where(agent.failed, np.nan, statistics.lengths.mean(axis=1)),
        }
        results = cohort_results(metrics, agent.seeds, agent.failed)
        results[ENV_RUNNER_RESULTS] = episode_metrics(
            statistics.returns[~agent.failed], statistics.lengths[~agent.failed]
        )
        set_nested(results, "time/evaluation_s", seconds)
        self._call_back("on_evaluate_end", evaluation_metrics=results)
        return results

    def log_result(self, result: dict[str, Any]) -> None:
        """Hand the result to callbacks and loggers."""
        # Tune's utilisation monitor has just replaced our section of the same name.
        result["perf"] = {**result.get("perf", {}), **self._epoch_results["perf"]}
        super().log_result(result)

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """How a checkpoint builds this object again: without the log files of the trial that wrote it.

        Tune puts them into the configuration of a trial; whoever loads its checkpoint keeps their own output.
        """
        (config,), kwargs = super().get_ctor_args_and_kwargs()
        return ({key: value for key, value in config.items() if key not in (STDOUT_FILE, STDERR_FILE)},), kwargs

    def __repr__(self) -> str:
        # Ray names a trial's actor in its error messages, also when its configuration has just been refused;
        # RLlib's own version needs a configuration, and the refusal would be lost in a crash.
        return type(self).__name__ if self.config is None else super().__repr__()

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


def _num_cpus(config: MBPOConfig) -> float:
    """CPUs that RLlib requests for the trial's process."""
    learner: Any = config.num_cpus_per_learner
    if learner == "auto":
        learner = 0 if config.num_gpus_per_learner else 1
    return max(float(learner), float(config.num_cpus_for_main_process))
