"""Texts in the form in which Weights & Biases takes them."""

from __future__ import annotations

import hashlib
import re


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its full stop, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def slug(text: str) -> str:
    """``text`` with letters, digits, dots, underscores and single dashes only, as W&B's ids and artifacts want it."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")


def digest(text: str, length: int) -> str:
    """``length`` hexadecimal digits that depend on all of ``text``."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:length]


def sweep_digest(sweep_id: str) -> str:
    """What the ids of all runs of a sweep have in common."""
    return digest(f"sweep {sweep_id}", 6)


def sweep_tag(sweep_id: str) -> str:
    """The tag of all runs of a sweep, and of no other sweep's."""
    return f"id-{sweep_digest(sweep_id)}"
