"""Optional at a sweep's end: its figures, a film of every cell's policy and the last checkpoints, in its own W&B run.

Figures and films are made by the commands that a user would type (``vagram_ray.report``, ``vagram_ray.play``), each in
a process of its own with a time limit: drawing without a screen can end a process, and a sweep's must not be the one.
Whatever does not work costs a sentence. The results are on disk by then. All of it runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from vagram_ray.records import SweepResults
from vagram_ray.sweep.processes import import_path
from vagram_ray.sweep.wandb.cursor import Cursor
from vagram_ray.sweep.wandb.mode import CHECKPOINT, FIGURES, VIDEO
from vagram_ray.sweep.wandb.runs import logged_name, open_run, place_of, run_tags, slug, sweep_identity
from vagram_ray.sweep.wandb.summaries import sweep_summary, write_summary
from vagram_ray.text import first_line, plural, short_path

REPORT_FOLDER, VIDEO_FOLDER = "report", "videos"
"""Below the sweep's folder, where they stay: offline, W&B reads them when the run is synced."""
COMMAND_LIMIT_S = 900.0
UPLOAD_LIMIT_S = 3600.0
_NAME_LIMIT = 100

Say = Callable[[str], None]
"""Told what is being done, and what fails."""


@dataclass
class Files:
    """What goes to W&B of one kind: an artifact, and media of the run."""

    artifact_type: str
    paths: dict[str, Path] = field(default_factory=dict)
    """Files and folders by their names in the artifact."""
    media: dict[str, Any] = field(default_factory=dict)
    """wandb's images and videos by key."""


def hand_over_artifacts(folder: Path, project: str, kinds: Sequence[str], console: Console) -> None:
    """Have a sweep's artifacts made and logged, and show what the process tells of it. Ctrl-C ends that process too.

    Args:
        folder: Of a finished sweep.
        project: Where it was logged.
        kinds: Some of ``mode.ARTIFACTS``.
        console: Where it is shown.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "vagram_ray.sweep.wandb.artifacts", str(folder), project, *kinds],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
        env=os.environ | {"PYTHONPATH": import_path()},
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            console.print(f"W&B: {line.rstrip()}", soft_wrap=True, markup=False)
    if process.returncode != 0:
        console.print("W&B: the artifacts are not all logged; the results are complete.", soft_wrap=True)


def main() -> None:
    """Log the artifacts of the folder, project and kinds that the arguments name. Exit status 1 where that failed."""
    folder, project, *kinds = sys.argv[1:]
    logged = log_artifacts(Path(folder), project, kinds, lambda text: print(text, flush=True))
    os._exit(0 if logged else 1)  # what wandb does at the interpreter's exit may take for ever


def log_artifacts(folder: Path, project: str, kinds: Sequence[str], say: Say) -> bool:
    """Make the files and hand them to the sweep's own run. Returns whether that worked, and raises nothing."""
    import wandb

    try:
        results = SweepResults.load(folder)
        sweep_name = logged_name(results.info, folder)
        identity = sweep_identity(results.info, sweep_name)
        own = Cursor(folder, place_of(project)).get(identity.run_id)
        if own.exit_code is None:
            say("no artifacts are logged, because the sweep's own run could not be written.")
            return False
        files = {kind: MAKERS[kind](results, say) for kind in kinds}
        if made := [kind for kind in kinds if files[kind].paths]:
            say(f"handing over {', '.join(made)} (Ctrl-C leaves the rest) ...")
            live = open_run(
                identity, folder, project, run_tags(results.info, sweep_name),
                online=own.online, finish_limit_s=UPLOAD_LIMIT_S,
            )  # fmt: skip
            for kind in made:
                _log(live, slug(f"{sweep_name}-{kind}")[-_NAME_LIMIT:], files[kind])
            write_summary(live, sweep_summary(results))  # `wandb sync` keeps that of the last offline piece alone
            where = live.url or short_path(Path(live.sync_dir))
            live.finish(exit_code=0)
            wandb.teardown()  # returns when all is written
            say(f"{', '.join(made)} in the run {where}")
        return True
    except BaseException as error:  # wandb also raises SystemExit
        say(f"the artifacts are not logged ({first_line(error)}).")
        return False


def _figures(results: SweepResults, say: Say) -> Files:
    """The report's images, and its PDFs."""
    import wandb

    say("drawing the figures ...")
    folder, files = results.folder / REPORT_FOLDER, Files("figures")
    if problem := _run("vagram_ray.report", str(results.folder), "--output", str(folder)):
        say(f"no figures ({problem})")
        return files
    for image in sorted(folder.glob("*.png")):
        pair = [path for path in (image, image.with_suffix(".pdf")) if path.is_file()]
        files.paths |= {path.name: path for path in pair}
        files.media[f"figures/{image.stem}"] = wandb.Image(str(image))
    return files


def _videos(results: SweepResults, say: Say) -> Files:
    """One film for each cell, of the seed whose final return is nearest to the interquartile mean."""
    import wandb

    files = Files("video")
    for index, cell in enumerate(results.cells):
        if not cell.final_returns:
            say(f"no video of {cell.label}: no seed came to its end")
            continue
        seed = min(cell.final_returns, key=lambda seed: abs(cell.final_returns[seed] - cell.statistics.iqm))
        path = results.folder / VIDEO_FOLDER / f"{index}-{slug(cell.label)[:_NAME_LIMIT]}-seed{seed}.mp4"
        path.parent.mkdir(exist_ok=True)
        say(f"filming {cell.label}, seed {seed} ...")
        options = ["--cell", cell.label, "--seed", str(seed), "--episodes", "1", "--video", str(path)]
        if problem := _run("vagram_ray.play", str(results.folder), *options):
            say(f"no video of {cell.label} ({problem})")
            continue
        title = f"{cell.label}, seed {seed}"
        files.paths[path.name] = path
        files.media[f"videos/{title}"] = wandb.Video(str(path), caption=title, format="mp4")
    return files


def _last_checkpoints(results: SweepResults, say: Say) -> Files:
    """The newest checkpoint of each trial of which nothing is missing.

    The segments of the real buffer lie beside it, not in it: what is logged is what a policy or a model needs.
    """
    from pyarrow.fs import LocalFileSystem

    from vagram_ray.checkpoint import newest_whole  # imports PyTorch

    files = Files("model")
    for trial in results.trials:
        checkpoint = newest_whole(LocalFileSystem(), str((results.folder / trial.name).resolve()))
        if checkpoint is not None:
            path = Path(checkpoint.path)
            files.paths[f"{trial.name}/{path.name}"] = path
    if missing := len(results.trials) - len(files.paths):
        say(f"{plural(missing, 'trial')} left no whole checkpoint in {short_path(results.folder)}")
    return files


MAKERS: dict[str, Callable[[SweepResults, Say], Files]] = {
    FIGURES: _figures, VIDEO: _videos, CHECKPOINT: _last_checkpoints
}  # fmt: skip


def _run(module: str, *arguments: str) -> str:
    """Run one of our commands. Returns why it failed, in its own words, or an empty text."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=COMMAND_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{module}: {first_line(error)[:300]}"
    if ended.returncode == 0:
        return ""
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    return f"{module}: {lines[-1].removeprefix('Error: ').rstrip('.') if lines else f'exit status {ended.returncode}'}"


def _log(live: Any, name: str, files: Files) -> None:
    """Log files of one kind in an open run. wandb reads them where they are: checkpoints are large."""
    import wandb

    if files.media:
        live.log(files.media)
    artifact = wandb.Artifact(name, files.artifact_type)
    for own_name, path in files.paths.items():
        add = artifact.add_dir if path.is_dir() else artifact.add_file
        add(str(path), name=own_name, policy="immutable", skip_cache=True)
    live.log_artifact(artifact)


if __name__ == "__main__":
    main()
