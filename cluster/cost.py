"""What a sweep will cost, from a few of its epochs that were run.

Run every cell of a figure for a few epochs on the machines in question, then hand the folder of that sweep to this
command. An epoch that is still to come is taken to last as long as the last half of the measured ones did. Model fits
take longer as the data grow, so measure ten or twenty epochs, and take the result for the least that it will be.

A trial is charged for what it blocks: one with more than half of a GPU has all of it. The plan chooses the share for
the epochs that it is asked for, so give the measured sweep that of the whole length (cluster/README.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from vagram_ray.commands import SETTINGS, Command, FiniteRange, InputError, make_console
from vagram_ray.records import SweepResults, TrialRecords
from vagram_ray.records.recorded import CPU, GPU, recorded_amount

SHARE = "num_gpus_per_learner"


@dataclass(frozen=True)
class TrialCost:
    """Of one trial over its whole length."""

    cell: int
    measured_epochs: int
    epoch_s: float
    """Seconds of a late epoch, its evaluation included."""
    hours: float
    """On the GPUs (or cores) that the trial blocks, times how many these are."""


def trial_cost(trial: TrialRecords, epochs: int, share: float) -> TrialCost:
    """Cost of a trial of ``epochs`` epochs that blocks ``share`` GPUs, from the epochs that it has run.

    Raises:
        InputError: It has run none.
    """
    records = trial.records
    if not records:
        raise InputError(f"The trial {trial.name!r} has no finished epoch; wait for one, or give another sweep.")
    seconds = [_epoch_seconds(record) for record in records]
    late = seconds[len(seconds) // 2 :]
    epoch_s = sum(late) / len(late)
    measured = float(records[-1]["time_total_s"])
    total_s = measured + max(0, epochs - len(records)) * epoch_s
    return TrialCost(trial.cell, len(records), epoch_s, total_s / 3600 * share)


def _epoch_seconds(record: Mapping[str, Any]) -> float:
    time: Mapping[str, float] = record["time"]
    return float(time["epoch_s"]) + float(time.get("evaluation_s", 0.0))


def occupied(info: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """What each trial of a sweep blocks, by its name: ``"GPU"`` and how many, or ``"core"`` where none has a GPU.

    Sweeps of earlier versions say only what the most demanding trial occupies: it counts for all.
    """
    names = [trial["name"] for trial in info["trials"]]
    gpus = {name: recorded_amount(info, name, GPU) or 0.0 for name in names}
    if any(gpus.values()):
        return "GPU", {name: 1 / int(1 / share + 1e-9) if 0 < share < 1 else share for name, share in gpus.items()}
    cores = {name: recorded_amount(info, name, CPU) for name in names}
    return "core", {name: 1.0 if amount is None else amount for name, amount in cores.items()}


@click.command(cls=Command, context_settings=SETTINGS, help=__doc__)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--epochs", type=click.IntRange(min=1), required=True, metavar="N", help="Epochs of the whole sweep.")
@click.option("--price", type=FiniteRange(min=0), metavar="USD", help="Of one GPU (or core) for one hour.")
def main(folder: Path, epochs: int, price: float | None) -> None:
    """Entry point of the command line."""
    try:
        results = SweepResults.load(folder)
    except FileNotFoundError as error:
        raise InputError(str(error)) from error
    unit, shares = occupied(results.info)
    costs = [trial_cost(trial, epochs, shares[trial.name]) for trial in results.trials]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("cell")
    for title in ("trials", "epochs run", "s per epoch", f"{unit} hours", *(["USD"] if price is not None else [])):
        table.add_column(title, justify="right")
    for index, label in enumerate(results.labels):
        own = [cost for cost in costs if cost.cell == index]
        epochs_run = min(cost.measured_epochs for cost in own)
        epoch_s = sum(cost.epoch_s for cost in own) / len(own)
        table.add_row(label, str(len(own)), str(epochs_run), f"{epoch_s:.1f}", *_sums(own, price))
    table.add_row("all", str(len(costs)), "", "", *_sums(costs, price), style="bold")
    console = make_console()
    console.print(table)
    console.print(f"\n{epochs} epochs of each trial, each on {_range(shares.values(), unit)}.")
    measured = results.info.get("epochs", epochs)
    if unit == "GPU" and epochs > measured and SHARE not in results.info.get("overrides", {}):
        console.print(
            f"This share is for {measured} epochs, and {epochs} may need a larger one: the plan of the whole length "
            f"tells it (--dry-run). Measure again with --set {SHARE}=SHARE.",
            soft_wrap=True,
        )


def _range(shares: Collection[float], unit: str) -> str:
    """``1 GPU``, or ``0.25 to 0.5 GPUs`` where trials differ."""
    least, most = min(shares), max(shares)
    return f"{least:.3g} {unit}{'s' if least != 1 else ''}" if least == most else f"{least:.3g} to {most:.3g} {unit}s"


def _sums(costs: list[TrialCost], price: float | None) -> list[str]:
    hours = sum(cost.hours for cost in costs)
    return [f"{hours:,.1f}", *([] if price is None else [f"{hours * price:,.2f}"])]


if __name__ == "__main__":
    main()
