"""Reading the plain values out of a pickle without running anything that it names.

RLlib keeps the configuration of a checkpoint in a pickle, beside classes and functions, some of them with their
code. Here each of those becomes an ``Inert``: no module is imported, nothing in the file is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

_PLAIN: frozenset[tuple[str, str]] = frozenset(
    {
        *(("builtins", name) for name in ("bytearray", "complex", "frozenset", "range", "set", "slice")),
        ("collections", "OrderedDict"),
        *(("numpy", name) for name in ("dtype", "ndarray")),
        *(
            (f"numpy.{core}.{module}", name)
            for core in ("core", "_core")
            for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
        ),
    }
)
"""What is built as it is: containers, numbers and arrays."""


class Inert:
    """Stands for an object that was not rebuilt; takes whatever a pickle does to objects, and does nothing."""

    name = "an object"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Another one, whatever it is called with."""
        return Inert()

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Nothing."""

    def extend(self, items: Any) -> None:
        """Nothing."""

    def add(self, item: Any) -> None:
        """Nothing."""

    def __repr__(self) -> str:
        return f"<{self.name}>"


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        return type("Inert", (Inert,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        return Inert()


def load_plain_values(path: Path) -> Any:
    """The content of a pickle file, with an ``Inert`` in place of everything but plain values.

    Raises:
        pickle.UnpicklingError: The file is no pickle.
    """
    with path.open("rb") as file:
        try:
            return _InertUnpickler(file).load()
        except (EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError) as error:
            raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error


def is_plain(value: Any) -> bool:
    """Whether no ``Inert`` is in nested containers, nor one of their keys."""
    if isinstance(value, dict):
        return all(is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return all(is_plain(item) for item in value)
    return not isinstance(value, Inert) and not (isinstance(value, type) and issubclass(value, Inert))
