"""Optional at a sweep's end: its figures, a film of every cell's policy and the last checkpoints, in its own W&B run.

Figures and films are made by the commands that a user would type (``vagram_ray.report``, ``vagram_ray.play``), each in
a process of its own with a time limit: drawing without a screen can end a process, and a sweep's must not be the one.
Whatever does not work costs a sentence. The results are on disk by then. All of it runs in the process of ``child``.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vagram_ray.records import SweepResults, TrialRecords
from vagram_ray.sweep.wandb.cursor import Cursor
from vagram_ray.sweep.wandb.identity import digest, run_tags, slug, sweep_identity
from vagram_ray.sweep.wandb.mode import CHECKPOINT, FIGURES, VIDEO
from vagram_ray.sweep.wandb.target import Target
from vagram_ray.text import first_line, plural, short_path

REPORT_FOLDER, VIDEO_FOLDER = "report", "videos"
"""Below the sweep's folder, where they stay: offline, W&B reads them when the run is synced."""
COMMAND_LIMIT_S = 900.0
UPLOAD_LIMIT_S = 3600.0
_NAME_LIMIT = 120


@dataclass
class Files:
    """What goes to W&B."""

    figures: list[Path] = field(default_factory=list)
    """PNG files. The PDFs of the same names go along."""
    videos: dict[str, Path] = field(default_factory=dict)
    """mp4 files by cell and seed."""
    checkpoints: dict[str, tuple[Path, dict[str, Any]]] = field(default_factory=dict)
    """Folder and metadata by trial."""

    def __bool__(self) -> bool:
        return bool(self.figures or self.videos or self.checkpoints)

    def __str__(self) -> str:
        counts = {"figure": len(self.figures), "video": len(self.videos), "checkpoint": len(self.checkpoints)}
        return ", ".join(plural(count, what) for what, count in counts.items() if count)


def log_artifacts(target: Target, kinds: Sequence[str], say: Callable[..., None]) -> None:
    """Make the files and hand them to the sweep's own run. Raises nothing.

    Args:
        target: Where the finished sweep was logged.
        kinds: Some of ``mode.ARTIFACTS``.
        say: Told what is being done, and what fails (``style="yellow"``).
    """
    try:
        results = SweepResults.load(target.folder)
        own = Cursor(target.folder, target.place).get(sweep_identity(results.info, target.sweep_name).run_id)
        if own.exit_code is None:
            say("no artifacts are logged, because the sweep's own run could not be written.", "yellow")
            return
        files = collect(results, kinds, say)
        if files:
            say(f"handing over {files} (Ctrl-C leaves the rest) ...")
            where = _hand_over(results, files, target, online=own.online)
            say(f"{files} in the run {where}")
    except BaseException as error:  # wandb also raises SystemExit
        say(f"the artifacts are not logged ({first_line(error)}); the results are complete.", "yellow")


def collect(results: SweepResults, kinds: Sequence[str], say: Callable[..., None]) -> Files:
    """Make or find the files of the kinds that are asked for. ``say`` is told what is being done and what fails."""
    files = Files()
    if FIGURES in kinds:
        say("drawing the figures ...")
        folder = results.folder / REPORT_FOLDER
        problem = _run("vagram_ray.report", str(results.folder), "--output", str(folder))
        files.figures = [] if problem else sorted(folder.glob("*.png"))
        if problem:
            say(f"no figures ({problem})", "yellow")
    if VIDEO in kinds:
        files.videos = _film(results, say)
    if CHECKPOINT in kinds:
        files.checkpoints = _last_checkpoints(results)
        if missing := len(results.trials) - len(files.checkpoints):
            say(f"{plural(missing, 'trial')} left no whole checkpoint in {short_path(results.folder)}", "yellow")
    return files


def _film(results: SweepResults, say: Callable[..., None]) -> dict[str, Path]:
    """One film for each cell, of the seed whose final return is nearest to the interquartile mean."""
    videos: dict[str, Path] = {}
    names = _distinct_names(results.labels)
    for cell in results.cells:
        if not cell.final_returns:
            say(f"no video of {cell.label}: no seed came to its end", "yellow")
            continue
        seed = min(cell.final_returns, key=lambda seed: abs(cell.final_returns[seed] - cell.statistics.iqm))
        path = results.folder / VIDEO_FOLDER / f"{names[cell.label]}-seed{seed}.mp4"
        path.parent.mkdir(exist_ok=True)
        say(f"filming {cell.label}, seed {seed} ...")
        options = ["--cell", cell.label, "--seed", str(seed), "--episodes", "1", "--video", str(path)]
        problem = _run("vagram_ray.play", str(results.folder), *options)
        if problem:
            say(f"no video of {cell.label} ({problem})", "yellow")
        else:
            videos[f"{cell.label}, seed {seed}"] = path
    return videos


def _last_checkpoints(results: SweepResults) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The newest checkpoint of each trial of which nothing is missing.

    The segments of the real buffer lie beside it, not in it: what is logged is what a policy or a model needs.
    """
    from pyarrow.fs import LocalFileSystem

    from vagram_ray.checkpoint import newest_whole  # imports PyTorch

    found = {}
    for trial in results.trials:
        checkpoint = newest_whole(LocalFileSystem(), str((results.folder / trial.name).resolve()))
        if checkpoint is not None:
            path = Path(checkpoint.path)
            found[trial.name] = (path, _describe(results, trial, int(path.name.rpartition("_")[2])))
    return found


def _describe(results: SweepResults, trial: TrialRecords, epoch: int) -> dict[str, Any]:
    env_steps = max((row["env_steps"] for row in trial.records if row["training_iteration"] <= epoch), default=0)
    cell = results.labels[trial.cell]
    return {"cell": cell, "seeds": list(trial.seeds), "training_iteration": epoch, "env_steps": env_steps}


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


def _hand_over(results: SweepResults, files: Files, target: Target, *, online: bool) -> str:
    """Continue the sweep's own run with the files. Returns its address, or its folder where it is offline."""
    import wandb

    identity, tags = sweep_identity(results.info, target.sweep_name), run_tags(results.info, target.sweep_name)
    live = target.open(identity, tags, online=online, finish_limit_s=UPLOAD_LIMIT_S)
    _log_files(live, files, target.sweep_name)
    where = live.url or short_path(Path(live.sync_dir))
    live.finish(exit_code=0)
    wandb.teardown()  # returns when all is written
    return str(where)


def _log_files(live: Any, files: Files, sweep_name: str) -> None:
    """Log the files as media and artifacts of an open run."""
    import wandb

    names = _distinct_names([f"{sweep_name}-{what}" for what in ("figures", *_stems(files), *files.checkpoints)])
    media: dict[str, Any] = {f"figures/{png.stem}": wandb.Image(str(png)) for png in files.figures}
    media |= {
        f"videos/{title}": wandb.Video(str(path), caption=title, format="mp4") for title, path in files.videos.items()
    }
    if media:
        live.log(media)
    if files.figures:
        figures = wandb.Artifact(names[f"{sweep_name}-figures"], "figures")
        for png in files.figures:
            for path in (png, png.with_suffix(".pdf")):
                if path.is_file():
                    figures.add_file(str(path), policy="immutable", skip_cache=True)
        live.log_artifact(figures)
    for title, path in files.videos.items():
        video = wandb.Artifact(names[f"{sweep_name}-{path.stem}"], "video", metadata={"title": title})
        video.add_file(str(path), policy="immutable", skip_cache=True)
        live.log_artifact(video)
    for trial_name, (path, metadata) in files.checkpoints.items():
        model = wandb.Artifact(names[f"{sweep_name}-{trial_name}"], "model", metadata=metadata)
        model.add_dir(str(path), policy="immutable", skip_cache=True)  # no copy: checkpoints hold replay buffers
        live.log_artifact(model)


def _stems(files: Files) -> list[str]:
    return [path.stem for path in files.videos.values()]


def _distinct_names(texts: Sequence[str]) -> dict[str, str]:
    """A name for each text as files and W&B take them. Texts whose names would be the same get a digest each."""
    names = {text: slug(text)[:_NAME_LIMIT] for text in texts}
    taken = Counter(names.values())
    return {text: f"{name}-{digest(text, 6)}" if taken[name] > 1 else name for text, name in names.items()}
