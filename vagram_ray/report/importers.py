"""Other people's results: a CSV file in the long format, one row per measurement.

Columns: ``seed``, ``env_steps``, ``value``, optionally ``experiment`` and ``metric``. Every other column is an axis of
the cells. ``docs/report.md`` describes the format, and what is refused.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vagram_ray.commands import InputError
from vagram_ray.report.curves import (
    NOT_APPLICABLE,
    RETURN_METRIC,
    CellCurves,
    Comparison,
    ExperimentFacts,
    SeedCurve,
    varying_axes,
)
from vagram_ray.text import format_seeds, format_value

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("seed", "env_steps", "value")
OPTIONAL = ("experiment", "metric")
FINAL_SHARE_OF_STEPS = 0.1
"""Share of the planned steps, at the end, over whose values a final return is the mean where there are no epochs."""
FINAL_RETURN_BY_STEPS = "mean of a seed's values in the last tenth of its cell's environment steps"


def read_long_csv(path: Path) -> list[Comparison]:
    """The experiments of a CSV file in the long format.

    Raises:
        InputError: The file is not in that format. The sentence names the line and the way out.
    """
    table = _Table.read(path)
    metric = _return_metric(table)
    rows = table.frame.groupby("experiment", sort=False).indices
    return [_experiment(table, str(name), metric, positions) for name, positions in rows.items()]


@dataclass(frozen=True)
class _Table:
    """The checked rows: columns experiment, metric, seed (int), env_steps (int), value (float), and texts of axes."""

    path: Path
    axes: tuple[str, ...]
    named: frozenset[str]
    """Experiments that the file names itself."""
    frame: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> _Table:
        import pandas as pd

        columns, rows, lines = _read_rows(path)
        lacking = [name for name in NEEDED if name not in columns]
        if lacking:
            raise InputError(
                f"{str(path)!r} is the table of a sweep, not of the long format: name the sweep's folder instead."
                if _is_sweep_table(columns)
                else f"{str(path)!r} has no column {lacking[0]!r}: the long format has one row per measurement "
                "(docs/report.md)."
            )
        frame = pd.DataFrame(rows, columns=columns, index=lines, dtype=object)
        measured = frame["value"].str.strip() != ""
        for name, default in (("experiment", path.stem), ("metric", RETURN_METRIC)):
            texts = frame[name].str.strip() if name in columns else pd.Series("", index=frame.index)
            frame[name] = texts.where(texts != "", default)
        for name in ("seed", "env_steps"):
            frame[name] = _whole_numbers(path, name, frame[name])
        frame["value"] = _floats(path, frame["value"], measured)
        frame["measured"] = measured
        if not measured.any():
            raise InputError(f"{str(path)!r} holds no value: the column 'value' is empty in every row.")
        axes = tuple(name for name in columns if name not in NEEDED + OPTIONAL)
        for axis in axes:  # pandas writes the integers of a column with gaps as 64.0
            frame[axis] = frame[axis].str.strip().str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)
        _check_duplicates(path, frame[measured], axes)
        named = frozenset(frame["experiment"]) if "experiment" in columns else frozenset()
        return cls(path, axes, named, frame.reset_index(drop=True))


def _read_rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Names of the columns, the rows, and the line at which each ends."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not text in UTF-8 ({error.reason}): save it as CSV UTF-8.") from error
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    reader = csv.reader(io.StringIO(text))
    try:
        columns = [name.strip() for name in next(reader, [])]
        rows, lines = list[list[str]](), list[int]()
        for row in reader:
            if not row:
                continue
            if len(row) != len(columns):
                raise InputError(
                    f"Line {reader.line_num} of {str(path)!r} has {len(row)} fields where the first line names "
                    f"{len(columns)} columns: give every row all of them, empty where there is nothing."
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{str(path)!r} is not a CSV file (line {reader.line_num}: {error}).") from error
    if len(columns) == 1 and ";" in columns[0]:
        raise InputError(f"{str(path)!r} is separated by semicolons: save it with commas.")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise InputError(f"{str(path)!r} has the column {twice[0]!r} twice: name each column once.")
    if not rows:
        raise InputError(f"{str(path)!r} has no rows: the long format has one row per measurement (docs/report.md).")
    return columns, rows, lines


def _is_sweep_table(columns: Sequence[str]) -> bool:
    return "training_iteration" in columns and "cell" in columns


def _whole_numbers(path: Path, name: str, texts: pd.Series) -> np.ndarray:
    import pandas as pd

    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(numbers) | (numbers < 0) | (numbers != np.floor(numbers)) | (np.abs(numbers) > 2**53)
    _refuse(path, name, texts, bad, "a whole number from 0 on")
    return numbers.astype(np.int64)


def _floats(path: Path, texts: pd.Series, wanted: pd.Series) -> np.ndarray:
    import pandas as pd

    stripped = texts.str.strip()
    numbers = pd.to_numeric(stripped, errors="coerce").to_numpy(dtype=np.float64)
    named = stripped.str.lower().isin(["nan", "inf", "-inf", "+inf", "infinity", "-infinity"]).to_numpy()
    bad = np.isnan(numbers) & ~named & wanted.to_numpy()
    _refuse(path, "value", texts, bad, "a number, 'nan' for a seed that broke down, or empty for what was not measured")
    return numbers


def _refuse(path: Path, name: str, texts: pd.Series, bad: np.ndarray, wanted: str) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        raise InputError(
            f"{name} is {texts.iloc[first]!r} in line {texts.index[first]} of {str(path)!r}: it has to be {wanted}."
        )


def _check_duplicates(path: Path, frame: pd.DataFrame, axes: Sequence[str]) -> None:
    keys = ["experiment", *axes, "metric", "seed", "env_steps"]
    duplicated = frame.duplicated(keys).to_numpy()
    if not duplicated.any():
        return
    second = int(np.argmax(duplicated))
    row = frame.iloc[second]
    same = (frame[keys] == row[keys]).all(axis=1).to_numpy()
    lines = frame.index[same][:2]
    raise InputError(
        f"Lines {lines[0]} and {lines[1]} of {str(path)!r} both give {row['metric']} of seed "
        f"{row['seed']} at env step {row['env_steps']}: keep one, or add a column that tells the runs apart."
    )


def _return_metric(table: _Table) -> str:
    metrics = list(dict.fromkeys(table.frame["metric"][table.frame["measured"]]))
    if RETURN_METRIC in metrics or not metrics:
        return RETURN_METRIC
    if len(metrics) == 1:
        return str(metrics[0])
    shown = ", ".join(metrics[:5]) + (", ..." if len(metrics) > 5 else "")
    raise InputError(
        f"{str(table.path)!r} has the metrics {shown} and none of them is {RETURN_METRIC!r}: give the return that name."
    )


def _experiment(table: _Table, name: str, metric: str, positions: np.ndarray) -> Comparison:
    frame = table.frame.iloc[positions]
    cells = read_cells(frame, table.axes, name, metric)
    details = {
        "File": table.path.name,
        "Cells": str(len(cells)),
        "Seeds": format_seeds(sorted({seed for cell in cells for seed in cell.seeds})),
        "Values": f"{frame['measured'].sum():,}",
        "Final return": FINAL_RETURN_BY_STEPS,
    }
    named = name in table.named
    facts = ExperimentFacts(name, table.path, "CSV file in the long format", details, named=named)
    settings = dict.fromkeys(table.axes, NOT_APPLICABLE)  # the column is there, and empty
    cells = tuple(replace(cell, settings=settings, alike=f"csv {name}" if named else None) for cell in cells)
    return Comparison(cells, (facts,), metric, varying_axes(cells))


def read_cells(frame: pd.DataFrame, axes: Sequence[str], experiment: str, metric: str) -> tuple[CellCurves, ...]:
    """The cells of an experiment.

    Args:
        frame: A row per measurement: ``metric``, ``seed``, ``env_steps``, ``value``, a text for each axis, empty where
            it has no meaning, ``planned_env_steps`` if that is more than the most of the cell's seeds, and
            ``measured`` if some rows only name a seed.
        axes: Columns that tell the cells apart.
        experiment: Its name.
        metric: The return metric.
    """
    groups = frame.groupby(list(axes), sort=False).indices if axes else {(): np.arange(len(frame))}
    cells = []
    for key, rows in groups.items():
        texts = key if isinstance(key, tuple) else (key,)
        own = {axis: parse_value(text) for axis, text in zip(axes, texts, strict=True) if text != ""}
        cells.append(_cell(frame.iloc[rows], experiment, own, metric))
    return tuple(cells)


def _cell(frame: pd.DataFrame, experiment: str, axes: Mapping[str, Any], metric: str) -> CellCurves:
    seeds = tuple(sorted(set(frame["seed"].tolist())))
    frame = frame[frame["measured"]] if "measured" in frame else frame
    curves: dict[str, dict[int, SeedCurve]] = {}
    missing: dict[int, str] = {}
    for name, seed, steps, values in _series(frame):
        finite = np.isfinite(values)
        if name == metric and not finite.all():
            broken = int(np.argmin(finite))
            missing[seed] = f"became NaN at env step {steps[broken]:,}"
            finite[broken:] = False
        if finite.any():
            curves.setdefault(name, {})[seed] = SeedCurve.of(steps[finite], values[finite])
    returns = curves.pop(metric, {})
    for seed in seeds:
        if seed not in returns:
            missing.setdefault(seed, f"has no {metric}")
    ends = [0, frame.loc[frame["metric"] == metric, "env_steps"].max()]
    ends += [frame["planned_env_steps"].max()] if "planned_env_steps" in frame else []
    planned = int(np.nanmax(ends))
    final = _final_returns(returns, missing, planned)
    label = ", ".join(f"{axis}={format_value(value)}" for axis, value in axes.items()) or experiment
    return CellCurves(
        experiment=experiment,
        label=label,
        axes=axes,
        seeds=seeds,
        returns=returns,
        metrics=dict(sorted(curves.items())),
        final_returns=final,
        missing=dict(sorted(missing.items())),
        planned_env_steps=planned or None,
    )


def _final_returns(returns: Mapping[int, SeedCurve], missing: dict[int, str], planned: int) -> dict[int, float]:
    """Mean of each seed's values in the last tenth of the planned steps. A seed without one there is missing."""
    final: dict[int, float] = {}
    for seed, curve in returns.items():
        if seed in missing:
            continue
        last = curve.values[curve.env_steps > min((1 - FINAL_SHARE_OF_STEPS) * planned, planned - 1)]
        if len(last):
            final[seed] = float(last.mean())
        else:
            missing[seed] = f"ends at env step {curve.env_steps[-1]:,} of {planned:,}"
    return final


def _series(frame: pd.DataFrame) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Metric, seed, environment steps (T,) in order and values (T,) of every curve of a cell."""
    codes, metrics = frame["metric"].factorize()
    seeds, steps, values = (frame[name].to_numpy() for name in ("seed", "env_steps", "value"))
    order = np.lexsort((steps, seeds, codes))
    codes, seeds, steps, values = codes[order], seeds[order], steps[order], values[order]
    starts = np.flatnonzero((np.diff(codes, prepend=-1) != 0) | (np.diff(seeds, prepend=-1) != 0))
    for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
        yield str(metrics[codes[start]]), int(seeds[start]), steps[start:end], values[start:end]


def parse_value(text: str) -> Any:
    """An axis's value: an integer or a finite number where the text is one, ``True`` and ``False``, else the text."""
    if text in ("True", "true", "False", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
