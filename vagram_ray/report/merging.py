"""Several sources become one comparison: names that are unique, axes that all cells share, seeds joined where one may.

Cells of two sources with equal axes are one cell with all their seeds when their seeds are disjoint and both say that
they were run in the same way (for sweeps: equal configurations, epochs and return metrics, for CSV files: the same
experiment name). Otherwise they stay apart, as lines of the same panel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vagram_ray.commands import InputError
from vagram_ray.records import SweepFolder
from vagram_ray.records.folder import SWEEP_FILE
from vagram_ray.report.curves import METHOD_AXES, NOT_GIVEN, TASK_AXES, CellCurves, Comparison, varying_axes
from vagram_ray.report.importers import read_long_csv
from vagram_ray.report.mbrl_lib import find_runs, read_mbrl_lib
from vagram_ray.report.sources import NOT_APPLICABLE, UNKNOWN, Source
from vagram_ray.report.sweep_source import read_sweep
from vagram_ray.text import canonical, format_value


def load_comparison(sources: Sequence[str | Path]) -> Comparison:
    """Read sweeps' folders, long-format CSV files and mbrl-lib's result folders into one comparison.

    A sweep may be running, interrupted or damaged in part: what it lacks is named in ``missing``.

    Raises:
        InputError: A source is not there or cannot be read, or the sources do not fit together.
    """
    return merge_sources([read_source(Path(source)) for source in sources])


def read_source(path: Path) -> list[Source]:
    """The experiments in a sweep's folder, a CSV file, or a folder of mbrl-lib's results.

    Raises:
        InputError: There is nothing of that kind, or it cannot be read.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {str(path)!r}: name a sweep's folder or a CSV file.")
    if path.is_file():
        if path.name == SWEEP_FILE:
            return [read_sweep(path.parent)]
        if path.suffix.lower() != ".csv":
            raise InputError(f"{str(path)!r} is not a source of results: a file has to be a .csv in the long format.")
        return read_long_csv(path)
    if SweepFolder(path).is_there:
        return [read_sweep(path)]
    if find_runs(path):
        return [read_mbrl_lib(path)]
    raise InputError(_nothing_in(path))


def _nothing_in(folder: Path) -> str:
    inside = sorted(file.parent.name for file in folder.glob(f"*/{SWEEP_FILE}"))
    if inside:
        shown = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
        return f"{str(folder)!r} is not a sweep but holds sweeps: name those that you want, of {shown}."
    return (
        f"{str(folder)!r} holds no results that can be read: neither a sweep ({SWEEP_FILE}) nor runs of mbrl-lib "
        "(results.csv beside .hydra); a CSV file in the long format is named itself."
    )


def merge_sources(groups: Sequence[Sequence[Source]]) -> Comparison:
    """One comparison of all sources, given as the experiments of each file or folder in turn.

    Raises:
        InputError: There is no source, or their return metrics differ.
    """
    sources = _once_each([source for group in groups for source in group])
    if not sources:
        raise InputError("There is nothing to report: name at least one sweep's folder or CSV file.")
    metrics = {source.return_metric: source.facts.name for source in reversed(sources)}
    if len(metrics) > 1:
        (one, first), (other, second), *_ = sorted(metrics.items())
        raise InputError(
            f"The returns of {first!r} ({one}) and {second!r} ({other}) are not the same metric: report them apart."
        )
    sources = _with_distinct_names(sources)
    cells = _with_distinct_labels(_join_seeds(_with_shared_axes(sources)))
    if not cells:
        raise InputError(f"There are no cells in {str(sources[0].facts.source)!r}: nothing has been planned there.")
    return Comparison(
        cells=tuple(cells),
        experiments=tuple(source.facts for source in sources),
        return_metric=sources[0].return_metric,
        varying_axes=varying_axes(cells),
    )


def _once_each(sources: Sequence[Source]) -> list[Source]:
    """Without sources that were named twice."""
    by_place = {(source.facts.source.resolve(), source.facts.name): source for source in reversed(sources)}
    return list(reversed(by_place.values()))


def _with_distinct_names(sources: Sequence[Source]) -> list[Source]:
    """Folders and files of one name are told apart by the folder above. An experiment that is named itself is one."""
    taken = Counter(source.facts.name for source in sources if not source.named)
    taken.update({source.facts.name for source in sources if source.named})
    renamed, used = [], Counter[str]()
    for source in sources:
        name = source.facts.name
        if taken[name] > 1 and not source.named:
            name = f"{source.facts.source.resolve().parent.name}/{name}"
            used[name] += 1
            name = name if used[name] == 1 else f"{name} ({used[name]})"
        renamed.append(_renamed(source, name))
    return renamed


def _renamed(source: Source, name: str) -> Source:
    if name == source.facts.name:
        return source
    cells = tuple(replace(cell, experiment=name) for cell in source.cells)
    return replace(source, facts=replace(source.facts, name=name), cells=cells)


class _Placed(NamedTuple):
    """A cell among all sources, and how it was run as far as that can be told."""

    cell: CellCurves
    setting: str | None


def _with_shared_axes(sources: Sequence[Source]) -> list[_Placed]:
    """Every cell with every axis that any source varies, as far as its own source knows the value."""
    if len(sources) == 1:
        return [_Placed(cell, None) for cell in sources[0].cells]
    named = list(dict.fromkeys(axis for source in sources for cell in source.cells for axis in cell.axes))
    order = [axis for axis in TASK_AXES if axis in named or _differs(sources, axis)]
    order += [axis for axis in named if axis not in order]
    order += [axis for axis in METHOD_AXES if axis not in order and _differs(sources, axis)]
    placed = []
    for source in sources:
        filled = _filled(source, order)
        labels = [_label(cell) for cell in filled]
        if len(set(labels)) < len(labels):  # a sweep may tell long values apart by a number
            labels = [cell.label for cell in source.cells]
        for old, new, label in zip(source.cells, filled, labels, strict=True):
            placed.append(_Placed(replace(new, label=label), source.setting(old)))
    return placed


def _filled(source: Source, order: Sequence[str]) -> list[CellCurves]:
    """The cells of a source with all axes, or ``NOT_GIVEN`` where no cell of the source knows an axis."""
    known = [
        {axis: cell.axes[axis] if axis in cell.axes else source.lookup(cell, axis) for axis in order}
        for cell in source.cells
    ]
    untold = (UNKNOWN, NOT_APPLICABLE)
    silent = {axis for axis in order if all(values[axis] in untold for values in known)} - set(METHOD_AXES)

    def told(values: dict[str, Any]) -> dict[str, Any]:
        given = {axis: NOT_GIVEN if value is UNKNOWN and axis in silent else value for axis, value in values.items()}
        return {axis: value for axis, value in given.items() if value not in untold}

    return [replace(cell, axes=told(values)) for cell, values in zip(source.cells, known, strict=True)]


def _differs(sources: Sequence[Source], axis: str) -> bool:
    """Whether two sources know different values of a setting that neither of them varies."""
    known = (source.lookup(cell, axis) for source in sources for cell in source.cells)
    return len({canonical({axis: value}) for value in known if value not in (UNKNOWN, NOT_APPLICABLE)}) > 1


def _label(cell: CellCurves) -> str:
    return ", ".join(f"{axis}={format_value(value)}" for axis, value in cell.axes.items()) or cell.label


def _join_seeds(placed: Sequence[_Placed]) -> list[CellCurves]:
    """All cells, those of equal axes and settings and with disjoint seeds as one."""
    joined: list[CellCurves] = []
    by_setting: dict[tuple[str, str], list[int]] = {}
    for cell, setting in placed:
        places = [] if setting is None else by_setting.setdefault((canonical(cell.axes), setting), [])
        match = next((place for place in places if set(joined[place].seeds).isdisjoint(cell.seeds)), None)
        if match is not None:
            joined[match] = _join(joined[match], cell)
        else:
            places.append(len(joined))
            joined.append(cell)
    return joined


def _join(first: CellCurves, second: CellCurves) -> CellCurves:
    names = first.experiment.split(" + ")
    experiment = first.experiment if second.experiment in names else f"{first.experiment} + {second.experiment}"
    metrics = dict.fromkeys([*first.metrics, *second.metrics])
    return replace(
        first,
        experiment=experiment,
        seeds=tuple(sorted({*first.seeds, *second.seeds})),
        returns=dict(sorted({**first.returns, **second.returns}.items())),
        metrics={name: {**first.metrics.get(name, {}), **second.metrics.get(name, {})} for name in metrics},
        final_returns=dict(sorted({**first.final_returns, **second.final_returns}.items())),
        missing=dict(sorted({**first.missing, **second.missing}.items())),
        pending=first.pending | second.pending,
    )


def _with_distinct_labels(cells: Sequence[CellCurves]) -> list[CellCurves]:
    """Labels that several cells share get the experiment in front."""
    shared = Counter(cell.label for cell in cells)
    named = [
        replace(cell, label=f"{cell.experiment}: {cell.label}") if shared[cell.label] > 1 else cell for cell in cells
    ]
    used: Counter[str] = Counter()
    for position, cell in enumerate(named):
        used[cell.label] += 1
        if used[cell.label] > 1:
            named[position] = replace(cell, label=f"{cell.label} ({used[cell.label]})")
    return named
