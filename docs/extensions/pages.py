"""What the site changes about the pages beyond Markdown (hooks of MkDocs). The pages read well without it, too."""

from __future__ import annotations

import re
from typing import Any

INDEX = re.compile(r"((?<!\w)[^\W\d_]{1,5}\u0302?'?|(?<=[)']))_([a-z]{1,2}(?![a-z_])|(?<=Σ_)[a-z]+)")
POWER = re.compile(r"(?<=\S)\^(\d)(?!\w)")
MARKUP = re.compile(
    r"(<(code|pre|script|style|svg)\b.*?</\2>|<(?:span|div) class=\"arithmatex\">.*?</(?:span|div)>|<[^>]*>)",
    flags=re.DOTALL,
)


def on_page_content(html: str, **kwargs: Any) -> str:
    """Show equations such as ``Σ_d w_d e_d^2`` with subscripts, and pipes in the code of tables without a backslash.

    Git forges need the backslash before a pipe in a table and leave it out; Python's Markdown shows it.
    """
    html = re.sub(r"<td.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)
    parts = MARKUP.split(html)  # text, markup, name of its tag, text, markup, ...
    for index in range(0, len(parts), 3):
        parts[index] = POWER.sub(r"<sup>\1</sup>", INDEX.sub(r"\1<sub>\2</sub>", parts[index]))
    return "".join(part for index, part in enumerate(parts) if index % 3 != 2)
