"""Numbers, words, values and places as people read them."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_LABEL_LENGTH = 40


def format_duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days < 10 else f"{days:,} d"


def format_clock(seconds: float) -> str:
    """``1:05`` or ``2:01:05``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def format_bytes(count: float) -> str:
    """``340 MiB``, ``3.6 GiB``."""
    mebibytes = count / 2**20
    if mebibytes < 1000:
        return f"{mebibytes:.0f} MiB"
    if mebibytes < 10_000:
        return f"{mebibytes / 1024:.1f} GiB"
    return f"{mebibytes / 1024:,.0f} GiB"


def format_number(value: float) -> str:
    """At least three significant digits, without exponents where returns lie, ``-`` for what is not there."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """``1 trial``, ``2 trials``. ``nouns`` is the plural where an s does not make it."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {nouns or noun + 's'}"


def did_you_mean(word: str, known: Iterable[str], most: int = 3, show: Callable[[str], str] = str) -> str:
    """``did you mean vagram or vaml_sac?``, empty where no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=most)
    return f"did you mean {' or '.join(map(show, close))}?" if close else ""


def reason(error: BaseException) -> str:
    """The message of an exception on one line, without a full stop, to stand inside a sentence."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return " ".join(text.split()).replace(". Detail:", ":").rstrip(".")


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its full stop, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def printable(text: str) -> str:
    """The text with control characters and the like escaped, as terminals and files take it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def csv_value(value: Any) -> Any:
    """A value for a CSV file: text that begins with one of ``= + - @``, which spreadsheets run, gets a quote before."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def markdown_text(text: str) -> str:
    """Any text on one line, as GitHub's Markdown shows it letter by letter."""
    text = " ".join(str(text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|*`~$]|\](?=\()|(?<!\w)_|_(?!\w))", r"\\\1", text)


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def format_seeds(seeds: Sequence[int]) -> str:
    """``0-3`` for consecutive seeds, ``3,5,9`` for others."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(str(seed) for seed in seeds)


def format_value(value: Any) -> str:
    """A short form for names and tables: ``64x64`` for layer sizes, ``0.0003``, ``g=9 length=2`` for a dictionary."""
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        integers = all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        return ("x" if integers and len(value) < 4 else "-").join(format_value(item) for item in value)
    if isinstance(value, Mapping):
        text = " ".join(f"{key}={format_value(item)}" for key, item in value.items()) or "none"
    else:
        text = getattr(value, "__name__", None) or str(value)
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"


def canonical(values: Mapping[str, Any]) -> str:
    """A text that is equal for equal settings: 64 and 64.0, and lists and the tuples that Tune has turned into them."""
    return json.dumps(_whole_numbers(values), sort_keys=True, default=_full_name)


def _whole_numbers(value: Any) -> Any:
    """Floats that are whole numbers as integers."""
    if isinstance(value, Mapping):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _full_name(value: Any) -> str:
    """Classes and functions of one name in two modules are two."""
    named = hasattr(value, "__qualname__")
    return f"{value.__module__}.{value.__qualname__}" if named else format_value(value)


def short_path(path: Path | str) -> str:
    """A path relative to the working directory where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
