"""Which checkpoint is meant: a checkpoint's folder, the newest one of a trial, or of a cell of a sweep."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from vagram_ray.play.errors import PlayError
from vagram_ray.sweep.results import SWEEP_FILE, SweepResults

_CHECKPOINT_NAME = re.compile(r"checkpoint_(\d+)")
_RLLIB_FILE = "rllib_checkpoint.json"


def find_checkpoint(given: str | Path, cell: str | None = None, seed: int | None = None) -> Path:
    """The checkpoint's folder.

    Args:
        given: A checkpoint, a trial's folder (its newest checkpoint is taken) or a sweep's folder.
        cell: With a sweep of several cells, the label of one.
        seed: With a sweep, the seed, which decides the trial where a cell has several.

    Raises:
        PlayError: One sentence that names the value and the way out.
    """
    if "://" in str(given):
        raise PlayError(f"{str(given)!r} is not on this machine; copy the checkpoint's folder here and give its path.")
    folder = Path(given).expanduser()
    if not folder.exists():
        raise PlayError(f"There is nothing at {str(given)!r}; give the folder of a checkpoint, a trial or a sweep.")
    if not folder.is_dir():
        raise PlayError(f"{str(given)!r} is a file; give the folder of a checkpoint, a trial or a sweep.")
    if (folder / SWEEP_FILE).is_file():
        return _newest(_trial_of_sweep(folder, cell, seed))
    if cell is not None:
        raise PlayError(f"--cell {cell!r} goes with a sweep, and {str(given)!r} is not the folder of one.")
    from vagram_ray.play.checkpoint import is_checkpoint

    if is_checkpoint(folder):
        return folder
    if (folder / _RLLIB_FILE).is_file():
        raise PlayError(f"{str(given)!r} is a checkpoint of RLlib, but not a whole one of MBPO; give another.")
    if _numbered(folder) or (folder / "params.json").is_file():
        return _newest(folder)
    raise PlayError(f"{str(given)!r} holds no checkpoint{_sweeps_inside(folder)}")


def _newest(trial: Path) -> Path:
    from vagram_ray.play.checkpoint import is_checkpoint

    if not trial.is_dir():
        raise PlayError(f"There is no trial's folder at {str(trial)!r}; did the trial start, and on this machine?")
    numbered = _numbered(trial)
    if not numbered:
        raise PlayError(f"The trial {str(trial)!r} holds no checkpoint yet; wait for its first one.")
    for folder in reversed(numbered):  # one that is being written is passed over
        if is_checkpoint(folder):
            return folder
    raise PlayError(f"{str(numbered[-1])!r} is not a whole checkpoint of MBPO; give another.")


def _numbered(trial: Path) -> list[Path]:
    """Folders ``checkpoint_000000``, ... as Tune names them, oldest first."""
    found = [(match, child) for child in trial.iterdir() if (match := _CHECKPOINT_NAME.fullmatch(child.name))]
    return [child for _, child in sorted((int(match[1]), child) for match, child in found)]


def _trial_of_sweep(folder: Path, label: str | None, seed: int | None) -> Path:
    try:
        results = SweepResults.load(folder)
        index = _cell_index(folder, results.labels, label)
        trials = results.cell_trials(index)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlayError(f"{str(folder / SWEEP_FILE)!r} cannot be read ({type(error).__name__}: {error}).") from error
    for trial in trials:
        if seed is None or seed in trial.seeds:
            return folder / trial.name
    seeds = sorted(own for trial in trials for own in trial.seeds)
    raise PlayError(f"--seed {seed} is not in {results.labels[index]!r}; its seeds are {', '.join(map(str, seeds))}.")


def _cell_index(folder: Path, labels: list[str], label: str | None) -> int:
    if label is None:
        if len(labels) == 1:
            return 0
        raise PlayError(
            f"{str(folder)!r} is a sweep of {len(labels)} cells; choose one with --cell {_choices(labels)}."
        )
    wanted = _compact(label)
    for index, own in enumerate(labels):
        if _compact(own) == wanted:
            return index
    containing = [index for index, own in enumerate(labels) if set(wanted.split(",")) <= set(_compact(own).split(","))]
    if len(containing) == 1:
        return containing[0]
    if containing:
        raise PlayError(f"--cell {label!r} is in {len(containing)} cells: {_choices(labels[i] for i in containing)}.")
    close = difflib.get_close_matches(label, labels, n=3, cutoff=0.5) or labels
    raise PlayError(f"--cell {label!r} is no cell of {str(folder)!r}; there is {_choices(close)}.")


def _compact(label: str) -> str:
    return label.replace(" ", "")


def _choices(labels: Iterable[str]) -> str:
    return " or ".join(f"{label!r}" for label in labels)


def _sweeps_inside(folder: Path) -> str:
    inside = sorted(child.name for child in folder.iterdir() if (child / SWEEP_FILE).is_file())
    if inside:
        return f", but sweeps: give {_choices(str(folder / name) for name in inside[:5])}."
    return "; give the folder of a checkpoint, a trial or a sweep."
