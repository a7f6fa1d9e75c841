"""Where a study's results go: a folder that is written completely or not at all."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vagram_ray.commands import InputError, check_output, not_writable


def check_folder(folder: Path) -> None:
    """Refuse, before any work, a folder that holds something or that cannot be made. Leaves nothing behind.

    Raises:
        InputError: One sentence with the way out.
    """
    given, folder = folder, folder.resolve()
    if os.path.ismount(folder):
        raise InputError(f"--output {str(given)!r} is where a disk is mounted: give a folder below it.")
    try:
        taken = folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        raise not_writable(folder, error) from error
    if taken:
        raise InputError(f"There are results at {str(given)!r} already: give another --output or remove them.")
    check_output(folder.parent if folder.exists() else given)  # they are written beside it, and get its name at the end


@contextmanager
def written_at_once(folder: Path) -> Iterator[Path]:
    """A folder to write into. It becomes ``folder`` when the block ends, and is gone if the block fails.

    Raises:
        InputError: It cannot be written.
    """
    folder = folder.resolve()  # a link stays, and "." has a name
    partial = folder.parent / f".{folder.name}-{uuid.uuid4().hex}.partial"
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, folder)
    except OSError as error:
        raise not_writable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_facts(path: Path, command: str, facts: Mapping[str, Any]) -> None:
    """Command, versions, time and results, as JSON."""
    import matplotlib
    import numpy as np
    import torch

    import vagram_ray

    versions = {
        "vagram_ray": vagram_ray.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "matplotlib": matplotlib.__version__,
    }
    described = {"command": command, "versions": versions, "cpu_seconds": round(time.process_time(), 1), **facts}
    path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
