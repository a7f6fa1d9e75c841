"""Tables that appear row by row, within a time, whatever happens to a row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import timing

Row = dict[str, Any]
WIDTHS = {True: 20, False: 12}
"""Characters of a column of words, and of one of numbers, or more if its name is longer."""


class Report:
    """Prints each row as soon as it is there and writes all rows so far as JSON.

    Args:
        path: Where JSON goes; None for nowhere.
        minutes: No row begins later than so long from now.
        device: What is measured, for people.
        after_row: Called after each row.

    Attributes:
        failures: Of rows, in words.
    """

    def __init__(self, path: str | None, minutes: float, device: str, after_row: Callable[[], None]) -> None:
        self._path, self._device, self._after_row = path, device, after_row
        self._until = time.monotonic() + 60 * minutes
        self._minutes = minutes
        self._parts: dict[str, list[Row]] = {}
        self.failures: list[str] = []
        print(f"{device}, at most {minutes:g} minutes")

    def add(self, part: str, title: str, rows: Sequence[Callable[[], list[Row]]]) -> list[Row]:
        """A table.

        Args:
            part: Its name in JSON.
            title: For people.
            rows: Each measures one or more rows with equal keys.

        Returns:
            The rows that there are.
        """
        found = self._parts.setdefault(part, [])
        print(f"\n{title}", flush=True)
        for number, measure in enumerate(rows):
            if time.monotonic() > self._until:
                left = f"the last {len(rows) - number} of {len(rows)}"
                print(f"  {left} are left out: {self._minutes:g} minutes are over")
                break
            try:
                new = measure()
            except Exception as error:  # whatever it is, the other rows are worth having
                self.failures.append(f"{part}, row {number + 1}: {type(error).__name__}: {error}")
                print(f"  row {number + 1} failed: {type(error).__name__}: {str(error)[:200]}", flush=True)
                new = []
            for row in new:
                if not found:
                    print(_line(list(row), row))
                print(_line(list(row.values()), row), flush=True)
                found.append(row)
            self._write()
            self._after_row()
        return found

    def _write(self) -> None:
        if self._path is None:
            return
        timing.write_json(f"{self._path}.part", "gpu", [], device=self._device, failures=self.failures, **self._parts)
        os.replace(f"{self._path}.part", self._path)  # an interruption leaves the file of the row before


def _line(cells: Sequence[Any], row: Mapping[str, Any]) -> str:
    widths = [max(WIDTHS[isinstance(value, str)], len(name)) for name, value in row.items()]
    return "  " + "".join(f"  {_shown(cell):>{width}}" for cell, width in zip(cells, widths, strict=True))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if value < 1e4 else f"{value:,.0f}"
