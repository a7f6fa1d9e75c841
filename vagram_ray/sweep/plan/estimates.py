"""What a trial will need: memory, disk and time.

The time is a sum of measured costs (``vagram_ray.sweep.plan.probe``), each times how often its work is done. Three
things are assumed: a model fit takes ``assumed_fit_epochs`` (early stopping decides in the end), evaluation episodes
run to their time limit, and trials do not disturb each other.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep.plan.memory import disk_bytes, memory_bytes
from vagram_ray.sweep.plan.workload import Costs, Workload, real_transitions

START_SECONDS = 12.0
"""Starting a trial's process and importing RLlib in it."""
EXTRA_FIT_EPOCHS = 5
"""Assumed fit epochs of the model beyond its patience: fits begin where the last one has ended, and most improve for a
few epochs only."""


@dataclass(frozen=True)
class TrialEstimate:
    """Needs of one trial over its whole length. As it is without arguments, nothing is known."""

    memory_bytes: int = 0
    disk_bytes: int = 0
    epoch_ends: tuple[float, ...] = ()
    """Seconds at the end of each epoch, counted from the start of the first, empty where no costs are known."""

    @property
    def seconds(self) -> float:
        """Of the whole trial with its start, NaN where no costs are known."""
        return START_SECONDS + self.epoch_ends[-1] if self.epoch_ends else math.nan

    def seconds_between(self, first: int, last: int) -> float:
        """Of the epochs from number ``first`` up to ``last``, NaN where no costs are known."""
        if not self.epoch_ends:
            return math.nan
        begin, end = ((self.epoch_ends[number - 1] if number else 0.0) for number in (first, last))
        return end - begin


def estimate_trial(
    workload: Workload, num_seeds: int, epochs: int, checkpoint_every: int | None = None
) -> TrialEstimate:
    """Memory at the end of the run, kept checkpoints on disk, and wall time of one trial.

    ``checkpoint_every`` is the number of epochs between two checkpoints, None where time decides.
    """
    seconds = () if workload.costs is None else epoch_seconds(workload, workload.costs, num_seeds, epochs)
    return TrialEstimate(
        memory_bytes=memory_bytes(workload, num_seeds, epochs),
        disk_bytes=disk_bytes(workload, num_seeds, epochs, checkpoint_every),
        epoch_ends=tuple(itertools.accumulate(seconds)),
    )


def assumed_fit_epochs(settings: MBPOSettings) -> int:
    """Epochs that a model fit is taken to have."""
    epochs = settings.model_patience + EXTRA_FIT_EPOCHS
    return min(epochs, settings.model_max_epochs or epochs)


def epoch_seconds(workload: Workload, costs: Costs, num_seeds: int, epochs: int) -> tuple[float, ...]:
    """Seconds of each epoch of a cohort, the first with the warm-up."""
    settings = workload.settings
    steps = float(settings.epoch_length)
    if workload.evaluation_interval:  # averaged over the epochs between two evaluations
        steps += workload.evaluation_episodes * workload.max_episode_steps / workload.evaluation_interval
    constant = steps * costs.env_step_s + settings.epoch_length * settings.utd_ratio * costs.sac_update_s
    seconds = [constant] * epochs
    if settings.model_based:
        seconds = [constant + _model_seconds(workload, epoch, costs) for epoch in range(epochs)]
    seconds[0] += settings.num_steps_sampled_before_learning_starts * costs.env_step_s
    return tuple(num_seeds * each for each in seconds)


def _model_seconds(workload: Workload, epoch: int, costs: Costs) -> float:
    """Model fits and imagined rollouts of one epoch of a seed."""
    settings = workload.settings
    fits = math.ceil(settings.epoch_length / settings.model_train_freq)
    rows = real_transitions(settings, epoch) + settings.epoch_length / 2
    rollouts = settings.rollouts_per_step * settings.model_train_freq * settings.rollout_length_at(epoch)
    return fits * (rows * costs.fit_row_s + rollouts * costs.imagined_s)
