"""Which checkpoint is meant: a checkpoint's folder, the newest one of a trial, or of a cell of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vagram_ray.commands import InputError
from vagram_ray.files import below
from vagram_ray.records import SweepError, SweepFolder

if TYPE_CHECKING:
    from vagram_ray.checkpoint import CheckpointFolder


def find_checkpoint(
    given: str | Path, cell: str | None = None, seed: int | None = None, tell: Callable[[str], None] | None = None
) -> Path:
    """The checkpoint's folder.

    Args:
        given: A checkpoint, a trial's folder (its newest whole checkpoint is taken) or a sweep's folder, an exported
            agent, or the address of one on Hugging Face (``hf://OWNER/NAME``).
        cell: With a sweep of several cells, the label of one.
        seed: With a sweep, the seed, which decides the trial where a cell has several.
        tell: Is told of newer checkpoints that are passed over because they are damaged.

    Raises:
        InputError: One sentence that names the value and the way out.
    """
    if str(given).startswith("hf://"):
        from vagram_ray.play.hub import download

        given = download(str(given))
    if "://" in str(given):
        raise InputError(f"{str(given)!r} is not on this machine; copy the checkpoint's folder here and give its path.")
    folder = Path(given).expanduser()
    if not folder.exists():
        raise InputError(f"There is nothing at {str(given)!r}; give the folder of a checkpoint, a trial or a sweep.")
    if not folder.is_dir():
        raise InputError(f"{str(given)!r} is a file; give the folder of a checkpoint, a trial or a sweep.")
    if SweepFolder(folder).is_there:
        return _newest(_trial_of_sweep(folder, cell, seed), tell)
    if cell is not None:
        raise InputError(f"--cell {cell!r} goes with a sweep, and {str(given)!r} is not the folder of one.")
    if _is_checkpoint(folder):
        return folder
    from vagram_ray.checkpoint.files import resolve
    from vagram_ray.checkpoint.history import OWN_FOLDER, numbered_checkpoints

    if numbered_checkpoints(*resolve(folder)) or (folder / OWN_FOLDER).is_dir():
        return _newest(folder, tell)
    raise InputError(f"{str(given)!r} holds no checkpoint; give the folder of a checkpoint, a trial or a sweep.")


def is_pretrained(folder: Path) -> bool:
    """Whether this is an exported agent (``vagram_ray.play.export``) and no checkpoint of a run."""
    from pyarrow.fs import LocalFileSystem

    from vagram_ray.checkpoint import CheckpointError, CheckpointFolder

    try:
        return CheckpointFolder(LocalFileSystem(), str(folder)).manifest().pretrained
    except (CheckpointError, OSError):
        return False


def output_folder(folder: Path) -> Path:
    """Where what is drawn of a checkpoint goes: ``play`` beside it, or here for an exported agent, which is shared."""
    return Path("play") if is_pretrained(folder) else folder.absolute().parent / "play"


def _is_checkpoint(folder: Path) -> bool:
    """Whether this is meant to be one, whole or not: what is wrong with it is said when it is read."""
    from vagram_ray.checkpoint.folder import AGENT_TENSORS, CONFIG, MANIFEST, STATE

    return any((folder / name).exists() for name in (MANIFEST, AGENT_TENSORS, CONFIG, STATE))


def _newest(trial: Path, tell: Callable[[str], None] | None) -> Path:
    if not trial.is_dir():
        raise InputError(f"There is no trial's folder at {str(trial)!r}; did the trial start, and on this machine?")
    from pyarrow.fs import LocalFileSystem

    from vagram_ray.checkpoint.files import STORAGE_ERRORS
    from vagram_ray.checkpoint.history import OWN_FOLDER, numbered_checkpoints

    if (trial / OWN_FOLDER).is_dir():
        trial = trial / OWN_FOLDER
    problems: list[str] = []
    try:
        numbered = numbered_checkpoints(LocalFileSystem(), str(trial))
        for _, own in reversed(numbered):
            if not (problem := _problem(own)):
                break
            problems.append(problem)
    except STORAGE_ERRORS as error:
        raise InputError(f"The trial {str(trial)!r} cannot be read ({error}).") from error
    if not numbered:
        raise InputError(f"The trial {str(trial)!r} holds no checkpoint yet; wait for its first one.")
    if len(problems) == len(numbered):
        other = f" The trial {str(trial)!r} holds no other that is whole." if len(numbered) > 1 else ""
        raise InputError(f"{problems[0]}{other}")
    if tell is not None:
        for problem in problems:
            tell(f"{problem} It is passed over.")
    return Path(own.path)


def _problem(folder: CheckpointFolder) -> str:
    """Why a checkpoint cannot be played, empty where it can, or where it is another version's, which reading it says.

    Its files are read, except the buffers': a file that is as long as it should be may still be damaged.
    """
    from vagram_ray.checkpoint import CheckpointError, read_checkpoint
    from vagram_ray.checkpoint.errors import ForeignCheckpointError
    from vagram_ray.checkpoint.files import STORAGE_ERRORS

    try:
        read_checkpoint(folder, with_buffers=False)
    except ForeignCheckpointError:
        return ""
    except CheckpointError as error:
        return str(error)
    except STORAGE_ERRORS as error:
        return f"The checkpoint {folder.path!r} cannot be read ({error})."
    if folder.is_whole():
        return ""
    return f"The checkpoint {folder.path!r} is damaged: a buffer's file is missing or cut short."


def _trial_of_sweep(folder: Path, label: str | None, seed: int | None) -> Path:
    try:
        info = SweepFolder(folder).read("be played")
    except SweepError as error:
        raise InputError(error.message) from error
    labels = [cell["label"] for cell in info["cells"]]
    index = _cell_index(folder, labels, label)
    own_trials = [trial for trial in info["trials"] if trial["cell"] == index]
    for trial in own_trials:
        if seed is None or seed in trial["seeds"]:
            return _trial_folder(folder, trial["name"], info.get("storage"))
    known = sorted(own for trial in own_trials for own in trial["seeds"])
    raise InputError(f"--seed {seed} is not in {labels[index]!r}; its seeds are {', '.join(map(str, known))}.")


def _trial_folder(folder: Path, name: str, storage: str | None) -> Path:
    """A trial's folder, which lies beside ``sweep.json`` or in another storage."""
    trial = folder / name
    if storage and not list(trial.glob("checkpoint_*")):  # the driver's folder may hold an error.txt
        place = below(storage, name)  # the storage is the sweep's own folder there
        raise InputError(f"The trial's checkpoints are not on this machine; copy {place!r} here and give its path.")
    return trial


def _cell_index(folder: Path, labels: list[str], given: str | None) -> int:
    """The cell of this label, or the one that has all its pieces, which commas divide."""
    wanted, texts = _compact(given or ""), list(map(_compact, labels))
    found = [index for index, text in enumerate(texts) if text == wanted]
    found = found or [i for i, text in enumerate(texts) if all(piece in text for piece in wanted.split(","))]
    if len(found) == 1:
        return found[0]
    fitting = f", of which {len(found) or 'none'} fit{'s' * (not found)} --cell {given!r}" if given else ""
    shown = " or ".join(repr(labels[index]) for index in found or range(len(labels)))
    raise InputError(f"{str(folder)!r} is a sweep of {len(labels)} cells{fitting}; choose one with --cell {shown}.")


def _compact(label: str) -> str:
    return label.replace(" ", "").lower()
