"""``python -m vagram_ray.play.export CHECKPOINT FOLDER``: a trained agent as a small folder to keep and to share.

The folder holds one seed's actor, critics and model in safetensors, its settings as JSON, and a card (``README.md``)
with what was trained, by which command and commit, and the returns that it reaches. Buffers and optimizers are left
out. ``python -m vagram_ray.play`` and ``read_agent`` take it like a checkpoint. Reading it executes nothing.

Exit status: 0 when it is written, 2 for input that cannot work.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vagram_ray.commands import SETTINGS, Command, InputError
from vagram_ray.text import reason, short_path

if TYPE_CHECKING:
    from vagram_ray.play.checkpoint import SavedAgent
    from vagram_ray.play.episodes import Episode


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--cell", metavar="LABEL", help="With a sweep's folder: which cell, such as 'model_loss=vagram'.")
@click.option("--seed", type=click.IntRange(min=0), metavar="K", help="Which seed; the default is the first.")
@click.option(
    "--episodes", type=click.IntRange(min=2), default=20, show_default=True, metavar="N",
    help="Whole episodes to play for the return on the card.",
)  # fmt: skip
@click.option(
    "--extension",
    multiple=True,
    metavar="FILE_OR_MODULE",
    help="Import your own losses and environments; several times.",
)
def main(
    checkpoint: str, folder: Path, cell: str | None, seed: int | None, episodes: int, extension: tuple[str, ...]
) -> None:
    """Write the agent in CHECKPOINT to FOLDER without buffers and optimizers, with a card of what it is.

    CHECKPOINT is a checkpoint's folder, a trial's (its newest), or a sweep's with --cell.

    Exit status: 0 when it is written, 2 for input that cannot work.
    """
    _check_target(folder)
    from vagram_ray.play.checkpoint import policy, read_agent
    from vagram_ray.play.configuration import load_named_extensions
    from vagram_ray.play.episodes import play_episodes
    from vagram_ray.play.locate import find_checkpoint

    load_named_extensions(extension)
    agent = read_agent(find_checkpoint(checkpoint, cell, seed, click.echo), seed)
    with agent.evaluation() as envs:
        played = play_episodes(policy(agent.actor()), envs, episodes)
    origin = write_agent(agent, folder, played)
    size = sum(file.stat().st_size for file in folder.iterdir())
    click.echo(f"{short_path(folder)}: {agent.title}, {size / 1000:,.0f} kB")
    click.echo(f"{short_path(folder / 'README.md')}: return {origin['evaluation']['text']}")


def write_agent(agent: SavedAgent, folder: Path, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Write a saved agent without buffers and optimizers. Returns what is known of its origin.

    Args:
        agent: One seed of a checkpoint.
        folder: A folder that is not there, or is empty.
        episodes: At least two episodes of its deterministic policy, for the card.

    Raises:
        InputError: The folder is taken or cannot be written, or the checkpoint's numbers do not fit its configuration.
    """
    from pyarrow.fs import LocalFileSystem

    from vagram_ray.checkpoint import CheckpointFolder, write_pretrained
    from vagram_ray.play.card import card, describe_origin
    from vagram_ray.records.publish import without_folders

    _check_target(folder)
    settings = CheckpointFolder(LocalFileSystem(), str(agent.folder)).read_config()["settings"]
    if isinstance(source := settings.get("initial_checkpoint"), str):
        settings["initial_checkpoint"] = without_folders(source)
    origin = describe_origin(agent, episodes)
    state = {
        "agent": {"seeds": [agent.seed], "failed": [False], "env_steps": agent.env_steps, **inference_state(agent)},
        "origin": origin,
    }
    if agent.lasting is not None:
        state["environments"] = {"evaluation": {"lasting": [agent.lasting]}}
    config = {"algorithm": "MBPO", "seeds": [agent.seed], "settings": settings}
    target = folder.expanduser().absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_pretrained(
            CheckpointFolder(LocalFileSystem(), str(target)),
            config,
            state,
            {"README.md": card(agent, settings, origin, target.name).encode()},
        )
    except OSError as error:
        raise _not_writable(folder, error) from error
    return origin


def inference_state(agent: SavedAgent) -> dict[str, dict[str, Any]]:
    """Of a seed's state what it takes to act, to value and to predict.

    Raises:
        InputError: It does not fit the configuration.
    """
    agent.values()  # actor and critics fit
    state = {"sac": {name: agent.state["sac"][name] for name in ("actor", "critic", "target_critic", "log_alpha")}}
    if agent.settings.model_based:
        saved = agent.state["dynamics"]
        state["dynamics"] = {name: saved[name] for name in agent.dynamics().state_dict() if name in saved}
    return state


def _check_target(folder: Path) -> None:
    try:
        taken = folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir())))
    except OSError as error:
        raise _not_writable(folder, error) from error
    if taken:
        raise InputError(f"{str(folder)!r} is there already; give a folder that is not there, or remove it first.")


def _not_writable(folder: Path, error: OSError) -> InputError:
    return InputError(f"{str(folder)!r} cannot be written ({reason(error)}).")


if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.play.export")
