"""What ``benchmarks.glue`` makes of its sides: whether they have done the same work, what each adds, the tables."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

WHOLE_TRIAL = 13
"""Epochs of a trial at laptop scale."""

Numbers = dict[str, dict[str, float]]
"""Metrics of an epoch by seed, without those that are not finite."""


@dataclass
class Epoch:
    """One epoch as a side has seen it; seconds. Times of day are those of ``time.monotonic``."""

    began: float
    ended: float
    training_s: float
    evaluation_s: float
    numbers: Numbers
    step_s: float = 0.0
    """Of ``algo.train()``; 0 where there is none."""
    checkpoint_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU time of the process that trains (``trial``), of the sweep's driver and of Ray's and W&B's services."""

    @property
    def seconds(self) -> float:
        """From its beginning to its end."""
        return self.ended - self.began

    @property
    def outside_s(self) -> float:
        """What is neither training nor evaluation."""
        return self.seconds - self.training_s - self.evaluation_s


@dataclass
class Trial:
    """One run of a side."""

    began: float
    ended: float
    epochs: list[Epoch]

    @property
    def start_s(self) -> float:
        """From the command to the first epoch."""
        return self.epochs[0].began - self.began

    @property
    def end_s(self) -> float:
        """From the last result to the end of the process."""
        return self.ended - self.epochs[-1].ended

    @property
    def steady(self) -> list[Epoch]:
        """All epochs but the first."""
        return self.epochs[1:]

    @property
    def epoch_s(self) -> float:
        """Mean of those."""
        return statistics.fmean(epoch.seconds for epoch in self.steady)


def check_equal(trials: dict[str, list[Trial]]) -> None:
    """Refuse to compare sides that have not learned the same numbers.

    Raises:
        AssertionError: They have not; the message has the first difference.
    """
    reference = trials["core"][0]
    for side, runs in trials.items():
        for run in runs:
            assert len(run.epochs) == len(reference.epochs), f"{side} has run {len(run.epochs)} epochs"
            for number, (ours, theirs) in enumerate(zip(reference.epochs, run.epochs, strict=True), start=1):
                difference = first_difference(ours.numbers, theirs.numbers)
                assert not difference, f"{side} has learned other numbers than core: epoch {number}, {difference}"


def first_difference(ours: Numbers, theirs: Numbers) -> str:
    """Where two epochs differ; empty if they are equal in every bit."""
    for seed in sorted({*ours, *theirs}):
        mine, other = ours.get(seed, {}), theirs.get(seed, {})
        for name in sorted({*mine, *other}):
            if mine.get(name) != other.get(name):
                return f"seed {seed}, {name}: {mine.get(name)} and {other.get(name)}"
    return ""


def overheads(trials: dict[str, list[Trial]], side: str) -> list[float]:
    """A side's share over ``core`` of each epoch of each round, both of the same round and the same work."""
    pairs = zip(trials["core"], trials[side], strict=True)
    return [
        theirs.seconds / ours.seconds - 1
        for core, run in pairs
        for ours, theirs in zip(core.steady, run.steady, strict=True)
    ]


def least_epochs(runs: list[Trial]) -> float:
    """Sum over the epochs of each one's least time over the rounds."""
    return sum(min(times) for times in zip(*([e.seconds for e in run.steady] for run in runs), strict=True))


def whole_trial(runs: list[Trial], epochs: int, *, with_start: bool) -> float:
    """Seconds of a trial of so many epochs, from medians; epochs that were not run are like the mean of the others."""
    median = statistics.median
    total = median([run.epochs[0].seconds for run in runs]) + (epochs - 1) * median([run.epoch_s for run in runs])
    if with_start:
        total += median([run.start_s for run in runs]) + median([run.end_s for run in runs])
    return total


def summary(trials: dict[str, list[Trial]], side: str) -> dict[str, float]:
    """What a side adds to ``core``: shares as numbers, all else as their names say."""
    core, runs = trials["core"], trials[side]
    shares = overheads(trials, side)
    quartiles = statistics.quantiles(shares, n=4) if len(shares) > 1 else 3 * shares
    epochs = [epoch for run in runs for epoch in run.steady]
    outside = [1e3 * epoch.outside_s for epoch in epochs]
    median = statistics.median
    cpu = {what: median(epoch.cpu_s.get(what, 0.0) for epoch in epochs) for what in ("trial", "driver", "services")}
    core_cpu = median(epoch.cpu_s["trial"] for run in core for epoch in run.steady)
    found = {
        "overhead_median": median(shares),
        "overhead_quartile_1": quartiles[0],
        "overhead_quartile_3": quartiles[2],
        "overhead_of_least": least_epochs(runs) / least_epochs(core) - 1,
        "outside_core_ms": median(outside),
        "outside_core_least_ms": min(outside),
        "outside_core_most_ms": max(outside),
        "outside_core_mean_ms": statistics.fmean(outside),
        "outside_core_share": sum(e.outside_s for e in epochs) / sum(e.seconds - e.outside_s for e in epochs),
        "around_step_ms": median(1e3 * (epoch.seconds - epoch.step_s) for epoch in epochs) if side != "core" else 0.0,
        "checkpoint_ms": statistics.fmean(1e3 * epoch.checkpoint_s for epoch in epochs),
        "training_s": median(epoch.training_s for epoch in epochs),
        "evaluation_s": median(epoch.evaluation_s for epoch in epochs),
        "start_s": median(run.start_s for run in runs),
        "first_epoch_s": median(run.epochs[0].seconds for run in runs),
        "end_s": median(run.end_s for run in runs),
        **{f"cpu_{what}_s": seconds for what, seconds in cpu.items()},
        "overhead_cpu_trial": cpu["trial"] / core_cpu - 1,
        "overhead_cpu": sum(cpu.values()) / core_cpu - 1,
    }
    for name, with_start in (("overhead_whole_trial", False), ("overhead_whole_trial_with_start", True)):
        whole = [whole_trial(each, WHOLE_TRIAL, with_start=with_start) for each in (runs, core)]
        found[name] = whole[0] / whole[1] - 1
    return found


def print_summaries(case: str, found: dict[str, dict[str, float]]) -> None:
    """What the sides add, and where their time goes."""
    print(f"\n{case}: wall time over core's, epoch by epoch; {WHOLE_TRIAL} epochs from medians")
    _print_row("side", ["median", "quartiles", "of least", f"{WHOLE_TRIAL} epochs", "with start and end"], 24)
    for side, row in found.items():
        if side != "core":
            quartiles = f"{_percent(row['overhead_quartile_1'])} to {_percent(row['overhead_quartile_3'])}"
            names = ("overhead_of_least", "overhead_whole_trial", "overhead_whole_trial_with_start")
            cells = [_percent(row["overhead_median"]), quartiles, *(_percent(row[name]) for name in names)]
            _print_row(side, cells, 24)
    print(f"\n{case}: where the time goes, seconds, medians")
    _print_row("side", ["start", "1st epoch", "training", "evaluation", "end"], 13)
    for side, row in found.items():
        columns = ("start_s", "first_epoch_s", "training_s", "evaluation_s", "end_s")
        _print_row(side, [f"{row[column]:.2f}" for column in columns], 13)
    print(f"\n{case}: milliseconds per epoch outside training and evaluation, checkpoints included")
    _print_row("side", ["median", "least to most", "mean", "share of all", "outside train()", "checkpoints"], 17)
    for side, row in found.items():
        spread = f"{row['outside_core_least_ms']:.1f} to {row['outside_core_most_ms']:.1f}"
        cells = [f"{row['outside_core_ms']:.1f}", spread, f"{row['outside_core_mean_ms']:.1f}"]
        cells += [f"{100 * row['outside_core_share']:.2f} %"]
        _print_row(side, [*cells, f"{row['around_step_ms']:.1f}", f"{row['checkpoint_ms']:.1f}"], 17)
    print(f"\n{case}: seconds of CPU time per epoch, medians")
    _print_row("side", ["trial", "driver", "Ray and W&B", "trial over core", "all over core"], 17)
    for side, row in found.items():
        cells = [f"{row[name]:.3f}" for name in ("cpu_trial_s", "cpu_driver_s", "cpu_services_s")]
        _print_row(side, [*cells, _percent(row["overhead_cpu_trial"]), _percent(row["overhead_cpu"])], 17)


def _print_row(first: str, cells: list[str], width: int) -> None:
    print(f"{first:8s}" + "".join(f"{cell:>{width}s}" for cell in cells))


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"
