"""``python -m vagram_ray.play.push FOLDER OWNER/NAME``: an exported agent to Hugging Face, where ``hf://`` reads it.

Only the files of the agent and its card go there. It takes the package ``huggingface_hub``
(``pip install 'vagram_ray[hub]'``) and its login.

Exit status: 0 when it is there, 2 for input that cannot work.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from vagram_ray.commands import SETTINGS, Command, InputError
from vagram_ray.play.hub import CARD, NAME, SCHEME, huggingface_hub
from vagram_ray.text import reason, short_path

_REPOSITORY = re.compile(rf"{NAME}/{NAME}")


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="If the repository is made anew: only you can see it.")
@click.option("--dry-run", is_flag=True, help="Say what would be pushed, and stop.")
def main(folder: Path, repository: str, private: bool, dry_run: bool) -> None:
    """Push the exported agent in FOLDER to the Hugging Face repository OWNER/NAME, which is made if it is not there.

    Exit status: 0 when it is there, 2 for input that cannot work.
    """
    files = check_push(folder, repository)
    for name in files:
        click.echo(f"{(folder / name).stat().st_size / 1000:8,.0f} kB  {name}")
    if dry_run:
        click.echo(f"Nothing was pushed; without --dry-run {short_path(folder)} goes to {SCHEME}{repository}.")
        return
    address = push(folder, repository, private=private)
    click.echo(f"{short_path(folder)} is at {address}; python -m vagram_ray.play {SCHEME}{repository} plays it.")


def check_push(folder: Path, repository: str) -> list[str]:
    """Names of the files that would be pushed.

    Raises:
        InputError: The name is none, or the folder holds no whole exported agent.
    """
    from vagram_ray.checkpoint.folder import MANIFEST, PRETRAINED_FILES
    from vagram_ray.play.checkpoint import read_content
    from vagram_ray.play.locate import find_checkpoint, is_pretrained

    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"{repository!r} is no repository; give OWNER/NAME.")
    if find_checkpoint(folder) != folder or not is_pretrained(folder):
        raise InputError(
            f"{str(folder)!r} is no exported agent; make one with python -m vagram_ray.play.export {folder} FOLDER."
        )
    read_content(folder)  # whole, and with the checksums that were written; its loss may be an extension's
    return [name for name in (CARD, *PRETRAINED_FILES, MANIFEST) if (folder / name).is_file()]


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Push an exported agent. Returns the address of what was pushed.

    Raises:
        InputError: The folder is none, or the push fails.
    """
    files = check_push(folder, repository)
    api = huggingface_hub().HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        pushed = api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=files, commit_message=f"Add {folder.name}"
        )
    except Exception as error:  # its HTTP library's errors are of many kinds
        raise InputError(f"{str(folder)!r} was not pushed to {repository!r} ({reason(error)}).") from error
    return str(pushed)


if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.play.push")
