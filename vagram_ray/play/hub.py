"""Exported agents from Hugging Face: ``hf://OWNER/NAME`` in the place of a checkpoint's folder.

Only the files of an exported agent come from there. Reading them executes nothing. It takes the package
``huggingface_hub`` (``pip install 'vagram_ray[hub]'``), whose own login and cache are used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vagram_ray.commands import InputError
from vagram_ray.text import reason

SCHEME = "hf://"
CARD = "README.md"
NAME = r"[A-Za-z0-9][\w.-]*"
"""Of an owner or of a repository."""
_ADDRESS = re.compile(rf"{SCHEME}({NAME}/{NAME})(?:@([\w./-]+))?/?")


def download(address: str) -> Path:
    """The folder of ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION`` in the library's cache.

    Raises:
        InputError: The address is none, or nothing can be had from there.
    """
    from vagram_ray.checkpoint.folder import MANIFEST, PRETRAINED_FILES

    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(f"{address!r} is no address; give hf://OWNER/NAME, or hf://OWNER/NAME@REVISION.")
    names = [CARD, *PRETRAINED_FILES, MANIFEST]
    library = huggingface_hub()
    try:
        return Path(library.snapshot_download(match[1], revision=match[2], allow_patterns=names))
    except Exception as error:  # its HTTP library's errors are of many kinds
        raise InputError(f"{address!r} cannot be had ({reason(error)}).") from error


def huggingface_hub() -> Any:
    """The package.

    Raises:
        InputError: It is not installed.
    """
    try:
        import huggingface_hub as package
    except ImportError as error:
        raise InputError("hf:// needs the package huggingface_hub: pip install 'vagram_ray[hub]'.") from error
    return package
