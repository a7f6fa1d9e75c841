"""``python -m vagram_ray.records.publish FOLDER TARGET``: a sweep's records in compact form, for a repository.

``TARGET`` is the folder of a sweep like any other, so that ``python -m vagram_ray.report TARGET`` reads it:
``sweep.json`` without what belongs to one machine (folders, host, process), and of every seed and epoch the environment
steps, the return and a few metrics. ``summary.md`` beside them says with which command, commit and machine and in how
many hours they were made. Checkpoints and buffers are left out, so nothing can go on from there.

A sweep that has more epochs or seeds by now is published to the same folder again and takes the place of its earlier
state. Another sweep gets a folder of its own. A report joins them.

Exit status: 0 when it is written, 2 for input that cannot work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from vagram_ray.commands import SETTINGS, Command
from vagram_ray.files import write_atomically
from vagram_ray.records.cohort import ENVIRONMENT_FAULT
from vagram_ray.records.errors import SweepError
from vagram_ray.records.fit_limit import FIT_LIMIT_METRIC
from vagram_ray.records.folder import STOPPED_BY, SUMMARY_MARKDOWN, Record, SweepFolder
from vagram_ray.records.recorded import PUBLISHED
from vagram_ray.records.results import SweepResults
from vagram_ray.records.summary import summary_markdown, verdict
from vagram_ray.text import plural, reason, short_path

METRICS = (
    "eval/episode_length",
    "train/episode_return",
    "model/fit_epochs",
    FIT_LIMIT_METRIC,
    "model/unexplained_real",
    "model/unexplained_distractors",
    "model/unexplained_reward",
    "sac/value",
)
"""What is kept beside the return of the sweep. What a seed has not measured is left out."""
_LEFT_OUT = ("storage", "wandb", "host", "pid", "system")
"""Keys of ``sweep.json`` that say where a sweep ran and not how."""
_FOLDERS = re.compile(r"(?<![\w.:/~-])~?/(?:[^\s/'\"]+/)*(?=[^\s/'\"])")
"""What leads to a file or folder of one machine."""


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="Keep this metric too; several times.")
def main(folder: Path, target: Path, metrics: tuple[str, ...]) -> None:
    """Write the records of the sweep in FOLDER, finished or not, to TARGET in compact form.

    Exit status: 0 when they are written, 2 for input that cannot work.
    """
    try:
        results = SweepResults.load(folder)
        published = publish(results, target, [*METRICS, *metrics])
    except FileNotFoundError as error:
        raise SweepError(str(error)) from error
    except OSError as error:
        raise SweepError(f"{str(target)!r} cannot be written ({reason(error)}).") from error
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    seeds_epochs = sum(len(record["seeds"]) for trial in published.trials for record in trial.records)
    click.echo(f"{short_path(target)}: {plural(seeds_epochs, 'epoch')} of a seed, {size / 1000:,.0f} kB")
    click.echo(f"{short_path(target / SUMMARY_MARKDOWN)}: {verdict(published)}")


def publish(results: SweepResults, target: Path, metrics: Sequence[str] = METRICS) -> SweepResults:
    """Write a sweep's records in compact form. Returns them read back.

    Args:
        results: The sweep, finished or not.
        target: A folder that is not there, is empty, or holds an earlier published state of the same sweep.
        metrics: Per-seed metrics to keep beside the return.

    Raises:
        SweepError: The records are damaged, or the folder holds something else or more than they do.
        OSError: The folder cannot be written.
    """
    for trial in results.trials:
        if trial.damage:
            raise SweepError(f"The sweep in {str(results.folder)!r} cannot be published: {trial.damage}.")
    _check_target(results, target)
    kept = {results.info["return_metric"], "failed", ENVIRONMENT_FAULT, *metrics}
    sweep = SweepFolder(target)
    names = {sweep.records_file(trial.name) for trial in results.trials if trial.records}
    for trial in results.trials:
        if trial.records:
            lines = (_compact(record, kept, results.info["return_metric"]) for record in trial.records)
            write_atomically(sweep.records_file(trial.name), "".join(f"{line}\n" for line in lines))
    sweep.write(published_info(results.info))
    for file in set(sweep.records_files()) - names:  # of a trial that was divided since
        file.unlink()
    published = SweepResults.load(target)
    write_atomically(target / SUMMARY_MARKDOWN, summary_markdown(published))
    return published


def published_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``sweep.json`` without folders, hosts and processes of the machine that wrote it."""
    return {**_without_places(info), PUBLISHED: True}


def without_folders(text: str) -> str:
    """A text, such as a command, whose absolute paths are names of files: what leads to them differs by machine."""
    return _FOLDERS.sub("", text)


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items() if key not in _LEFT_OUT}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    return without_folders(value) if isinstance(value, str) else value


def _compact(record: Record, kept: set[str], exact: str) -> str:
    """A line of the records. The return has all its digits, so that a report's numbers stay the same."""
    seeds = {
        seed: {name: value if name == exact else _rounded(value) for name, value in values.items() if name in kept}
        for seed, values in record["seeds"].items()
    }
    short = {key: record[key] for key in ("training_iteration", "env_steps", STOPPED_BY) if key in record}
    return json.dumps(
        {**short, "time_total_s": round(record["time_total_s"], 1), "seeds": seeds}, separators=(",", ":")
    )


def _rounded(value: float) -> float:
    """Five significant digits, without a point where there is nothing behind it and the number may be an integer."""
    rounded = float(f"{value:.5g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 2**53 else rounded


def _check_target(results: SweepResults, target: Path) -> None:
    """Refuse to overwrite what is not a published earlier state of the same sweep.

    Raises:
        SweepError: One sentence with the way out.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not SweepFolder(target).is_there:
        raise SweepError(f"{str(target)!r} is there already and holds no sweep; give a folder that is not there.")
    before = SweepResults.load(target)
    if not before.info.get(PUBLISHED):
        raise SweepError(
            f"{str(target)!r} holds a sweep itself and no published copy; name the sweep's folder first, then another "
            "one for the copy."
        )
    if "sweep_id" not in results.info or before.info.get("sweep_id") != results.info["sweep_id"]:
        raise SweepError(
            f"{str(target)!r} holds another sweep than {str(results.folder)!r}; give another folder: "
            "python -m vagram_ray.report joins the seeds of several folders."
        )
    if lacking := _epochs_of_seeds(before) - _epochs_of_seeds(results):
        raise SweepError(
            f"{str(results.folder)!r} lacks {plural(len(lacking), 'epoch')} of a seed that {str(target)!r} holds; "
            "give another folder, or remove that one first."
        )


def _epochs_of_seeds(results: SweepResults) -> set[tuple[str, str, int]]:
    """Cell, seed and epoch of everything that has been recorded."""
    labels = results.labels
    return {
        (labels[trial.cell], seed, record["training_iteration"])
        for trial in results.trials
        for record in trial.records
        for seed in record["seeds"]
    }


if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.records.publish")
