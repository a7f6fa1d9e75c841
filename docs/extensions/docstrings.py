"""What the API pages change about docstrings before they are rendered as Markdown (an extension of griffe)."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Turns the habits of reStructuredText into Markdown, and the fields of dataclasses into one table each."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """``::`` before a block of code is ``:`` in Markdown, and a role such as ``:class:`` is plain code."""
        if obj.docstring is not None:
            obj.docstring.value = _to_markdown(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """List the documented fields of a dataclass under its own docstring, not under a heading each."""
        if "dataclass" not in cls.labels or cls.docstring is None:
            return
        fields = [attribute for attribute in cls.attributes.values() if _is_documented_field(attribute)]
        if fields:
            texts = {field.name: " ".join(_to_markdown(field.docstring.value).split()) for field in fields}
            lines = [f"    {name}: {text}" for name, text in texts.items()]
            section = "" if "\nAttributes:\n" in cls.docstring.value else "\n\nAttributes:"
            cls.docstring.value = "\n".join([cls.docstring.value.rstrip() + section, *lines])
            for field in fields:
                field.docstring = None

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """A default that only says "not given" is ``...``, as in type stubs."""
        for parameter in func.parameters:
            if str(parameter.default) == "_UNSET":
                parameter.default = "..."


def _to_markdown(text: str) -> str:
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    return re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", text)


def _is_documented_field(attribute: Any) -> bool:
    return attribute.docstring is not None and "property" not in attribute.labels and not attribute.is_alias
