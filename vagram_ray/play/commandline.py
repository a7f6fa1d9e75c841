"""The command line of ``python -m vagram_ray.play``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from vagram_ray.commands import SETTINGS, Command, InputError, check_output, make_console, not_writable
from vagram_ray.text import short_path

if TYPE_CHECKING:
    from vagram_ray.play.checkpoint import SavedAgent
    from vagram_ray.play.episodes import Episode
    from vagram_ray.play.video import Film


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    checkpoints: tuple[str, ...]
    cell: str | None
    seed: int | None
    episodes: int
    video: Path | None
    model: bool
    horizon: int
    output: Path | None
    extension: tuple[str, ...]


_COUNT = click.IntRange(min=1)


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True)
@click.option("--cell", metavar="LABEL", help="With a sweep's folder: which cell, such as 'model_loss=vagram'.")
@click.option(
    "--seed", type=click.IntRange(min=0), metavar="K", help="Which seed of the cohort; the default is the first."
)
@click.option("--episodes", type=_COUNT, default=10, show_default=True, metavar="N", help="Whole episodes to play.")
@click.option(
    "--video", type=click.Path(path_type=Path), metavar="FILE.mp4",
    help="Film the first episode, or several short ones, with a contact sheet FILE.png beside it.",
)  # fmt: skip
@click.option("--model", is_flag=True, help="Play the learned model beside the real environment.")
@click.option("--horizon", type=_COUNT, default=25, show_default=True, metavar="H", help="Steps ahead for --model.")
@click.option(
    "--output", "--out", "output", type=click.Path(path_type=Path), metavar="DIR",
    help="Folder for the files of --model; the default is play/ in the trial's folder, beside the checkpoint.",
)  # fmt: skip
@click.option(
    "--extension", multiple=True, metavar="FILE_OR_MODULE",
    help="Import your own losses and environments, which a checkpoint alone never does; may be given several times.",
)  # fmt: skip
def main(**options: Any) -> None:
    """Play the policy in CHECKPOINT: a checkpoint's folder, a trial's (its newest), or a sweep's with --cell.

    Several are compared in one table: mean return and its interval, in the same episodes.

    Agents that python -m vagram_ray.play.export has written are played too, also from hf://OWNER/NAME.

    Exit status: 0 when everything was shown, 2 for input that cannot be shown, 130 after Ctrl-C.
    """
    show(Request(**options), make_console())
    sys.exit(0)


def show(request: Request, console: Console) -> None:
    """Do what was asked and print it.

    Raises:
        InputError: One sentence on what cannot be shown.
    """
    from vagram_ray.play.locate import find_checkpoint, output_folder

    def tell(note: str) -> None:
        console.print(f"Note: {note}", style="yellow", soft_wrap=True)

    if len(request.checkpoints) > 1:
        _compare(request, tell, console)
        return
    folder = find_checkpoint(request.checkpoints[0], request.cell, request.seed, tell)
    if request.video is not None:
        from vagram_ray.play.rendering import draw_without_screen
        from vagram_ray.play.video import check_video_file

        check_video_file(request.video)
        draw_without_screen()
    output = request.output or output_folder(folder)
    if request.model:
        check_output(output)

    from vagram_ray.play.checkpoint import read_agent
    from vagram_ray.play.configuration import load_named_extensions

    load_named_extensions(request.extension)
    agent = read_agent(folder, request.seed)
    if request.model:
        agent.check_model()
    episodes = _play(agent, request, console)
    if request.model:
        _show_model(agent, episodes, request.horizon, output, console)


def _compare(request: Request, tell: Callable[[str], None], console: Console) -> None:
    if request.video is not None or request.model:
        option = "--model" if request.model else "--video"
        raise InputError(f"{option} goes with one checkpoint, and {len(request.checkpoints)} are given.")
    from vagram_ray.play.checkpoint import read_agent
    from vagram_ray.play.comparison import comparison_table, differing_environments, play_alike
    from vagram_ray.play.configuration import load_named_extensions
    from vagram_ray.play.locate import find_checkpoint

    folders = [find_checkpoint(given, request.cell, request.seed, tell) for given in request.checkpoints]
    load_named_extensions(request.extension)
    agents = [read_agent(folder, request.seed) for folder in folders]
    if note := differing_environments(agents):
        tell(note)
    console.print(comparison_table(play_alike(agents, request.episodes)))


def _play(agent: SavedAgent, request: Request, console: Console) -> list[Episode]:
    from vagram_ray.play.checkpoint import policy
    from vagram_ray.play.episodes import episode_table, play_episodes
    from vagram_ray.play.video import Film, filmed

    act = policy(agent.actor())
    film = None if request.video is None else Film(request.video)
    own = agent.environment, agent.seed
    with agent.evaluation() if film is None else filmed(*own, film, agent.lasting) as envs:
        episodes = play_episodes(act, envs, request.episodes)
    console.print(f"{short_path(agent.folder)}: {agent.title}", soft_wrap=True)
    console.print()
    console.print(episode_table(episodes, "Deterministic policy"))
    if film is not None:
        _show_film(film, agent.title, console)
    return episodes


def _show_film(film: Film, title: str, console: Console) -> None:
    from vagram_ray.play.video import write_contact_sheet

    sheet = film.path.with_suffix(".png")
    write_contact_sheet(film, title, sheet)
    console.print()
    filmed = "Episode 1" if film.episodes == 1 else f"Episodes 1-{film.episodes}"
    console.print(f"{filmed}: {short_path(film.path)} ({film.frames} frames, {film.fps:.3g} a second)", soft_wrap=True)
    console.print(f"{'Episode 1:':<{len(filmed) + 1}} {short_path(sheet)}", soft_wrap=True)


def _show_model(agent: SavedAgent, episodes: list[Episode], horizon: int, output: Path, console: Console) -> None:
    from vagram_ray.play.dimensions import dimension_names
    from vagram_ray.play.model_figure import reading, save_model_view
    from vagram_ray.play.model_table import model_table
    from vagram_ray.play.model_view import view_model

    count = agent.environment.num_distractors
    names = dimension_names(agent.environment.env_id, agent.dimensions[0], count)
    view = view_model(agent.dynamics(), agent.values(), episodes, names, count, horizon=horizon)
    picture, numbers = (output / f"{agent.stem}-model.{suffix}" for suffix in ("png", "csv"))
    try:
        output.mkdir(parents=True, exist_ok=True)
        numbers.write_text(view.csv_text(), encoding="utf-8")
        save_model_view(view, agent.title, picture)
    except OSError as error:
        raise not_writable(output, error) from error
    console.print()
    console.print(model_table(view))
    console.print()
    console.print(reading(view))
    console.print(f"Model: {short_path(picture)}", soft_wrap=True)
    console.print(f"       {short_path(numbers)}", soft_wrap=True)
