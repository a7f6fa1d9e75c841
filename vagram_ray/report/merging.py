"""Several sources become one comparison: names that are unique, axes that all cells share, seeds joined where one may.

Cells of two sources with equal axes are one cell with all their seeds when their seeds are disjoint and both say that
they were run in the same way (for sweeps: equal configurations, epochs and return metrics, for CSV files: the same
experiment name). Otherwise they stay apart, as lines of the same panel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vagram_ray.commands import InputError
from vagram_ray.records import SweepFolder
from vagram_ray.records.folder import SWEEP_FILE
from vagram_ray.report.curves import (
    METHOD_AXES,
    NOT_APPLICABLE,
    NOT_GIVEN,
    TASK_AXES,
    CellCurves,
    Comparison,
    varying_axes,
)
from vagram_ray.report.importers import read_long_csv
from vagram_ray.report.mbrl_lib import find_runs, read_mbrl_lib
from vagram_ray.report.sweep_source import read_sweep
from vagram_ray.report.tune_source import is_tune_experiment, read_tune
from vagram_ray.text import canonical, format_value

UNKNOWN: Any = object()
"""Value of an axis that a source neither varies nor records."""


def load_comparison(sources: Sequence[str | Path]) -> Comparison:
    """Read sweeps' folders, CSV files, and folders of mbrl-lib's results and of Tune's trials into one comparison.

    A sweep may be running, interrupted or damaged in part: what it lacks is named in ``missing``.

    Raises:
        InputError: A source is not there or cannot be read, or the sources do not fit together.
    """
    return merge([comparison for source in sources for comparison in read_source(Path(source))])


def read_source(path: Path) -> list[Comparison]:
    """The experiments in a sweep's folder, a CSV file, or a folder of mbrl-lib's results or of Tune's trials.

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
    if is_tune_experiment(path):
        return [read_tune(path)]
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


def merge(sources: Sequence[Comparison]) -> Comparison:
    """One comparison of all sources, of which each holds one experiment.

    Raises:
        InputError: There is no source, or their return metrics differ.
    """
    sources = _once_each(sources)
    if not sources:
        raise InputError("There is nothing to report: name at least one sweep's folder or CSV file.")
    metrics = {source.return_metric: source.experiments[0].name for source in reversed(sources)}
    if len(metrics) > 1:
        (one, first), (other, second), *_ = sorted(metrics.items())
        raise InputError(
            f"The returns of {first!r} ({one}) and {second!r} ({other}) are not the same metric: report them apart."
        )
    if len(sources) > 1:
        sources = _with_distinct_names(sources)
        cells = _join_seeds(_with_shared_axes(sources))
    else:
        cells = list(sources[0].cells)
    cells = _with_distinct_labels(cells)
    if not cells:
        raise InputError(
            f"There are no cells in {str(sources[0].experiments[0].source)!r}: nothing has been planned there."
        )
    facts = tuple(facts for source in sources for facts in source.experiments)
    return Comparison(tuple(cells), facts, sources[0].return_metric, varying_axes(cells))


def _once_each(sources: Sequence[Comparison]) -> list[Comparison]:
    """Without sources that were named twice."""
    places = [(source.experiments[0].source.resolve(), source.experiments[0].name) for source in sources]
    by_place = dict(zip(reversed(places), reversed(sources), strict=True))
    return list(reversed(by_place.values()))


def _with_distinct_names(sources: Sequence[Comparison]) -> list[Comparison]:
    """Folders and files of one name are told apart by the folder above. An experiment that is named itself is one."""
    experiments = [source.experiments[0] for source in sources]
    taken = Counter(facts.name for facts in experiments if not facts.named)
    taken.update({facts.name for facts in experiments if facts.named})
    renamed, used = [], Counter[str]()
    for source, facts in zip(sources, experiments, strict=True):
        name = facts.name
        if taken[name] > 1 and not facts.named:
            name = f"{facts.source.resolve().parent.name}/{name}"
            used[name] += 1
            name = name if used[name] == 1 else f"{name} ({used[name]})"
        cells = tuple(replace(cell, experiment=name) for cell in source.cells)
        renamed.append(replace(source, experiments=(replace(facts, name=name),), cells=cells))
    return renamed


def _with_shared_axes(sources: Sequence[Comparison]) -> list[CellCurves]:
    """Every cell with every axis that any source varies, as far as its own source knows the value."""
    cells = [cell for source in sources for cell in source.cells]
    named = list(dict.fromkeys(axis for cell in cells for axis in cell.axes))
    order = [axis for axis in TASK_AXES if axis in named or _differs(cells, axis)]
    order += [axis for axis in named if axis not in order]
    order += [axis for axis in METHOD_AXES if axis not in order and _differs(cells, axis)]
    placed: list[CellCurves] = []
    for source in sources:
        filled = _filled(source.cells, order)
        labels = [_label(cell) for cell in filled]
        if len(set(labels)) < len(labels):  # a sweep may tell long values apart by a number
            labels = [cell.label for cell in source.cells]
        placed += [replace(cell, label=label) for cell, label in zip(filled, labels, strict=True)]
    return placed


def _filled(cells: Sequence[CellCurves], order: Sequence[str]) -> list[CellCurves]:
    """The cells of a source with all axes, or ``NOT_GIVEN`` where no cell of the source knows an axis."""
    known = [{axis: _known(cell, axis) for axis in order} for cell in cells]
    untold = (UNKNOWN, NOT_APPLICABLE)
    silent = {axis for axis in order if all(values[axis] in untold for values in known)} - set(METHOD_AXES)

    def told(values: dict[str, Any]) -> dict[str, Any]:
        given = {axis: NOT_GIVEN if value is UNKNOWN and axis in silent else value for axis, value in values.items()}
        return {axis: value for axis, value in given.items() if value not in untold}

    return [replace(cell, axes=told(values)) for cell, values in zip(cells, known, strict=True)]


def _known(cell: CellCurves, axis: str) -> Any:
    """The value of an axis that the cell has, or else of the setting: ``["env_config"]["g"]`` for ``env_config.g``."""
    for own in (cell.axes, cell.settings):
        if axis in own:
            return own[axis]
    value: Any = cell.settings
    for part in axis.split("."):
        if value is NOT_APPLICABLE:
            break
        value = value[part] if isinstance(value, Mapping) and part in value else UNKNOWN
    return value


def _differs(cells: Sequence[CellCurves], axis: str) -> bool:
    """Whether different values of a setting are known."""
    known = (_known(cell, axis) for cell in cells)
    return len({canonical({axis: value}) for value in known if value not in (UNKNOWN, NOT_APPLICABLE)}) > 1


def _label(cell: CellCurves) -> str:
    return ", ".join(f"{axis}={format_value(value)}" for axis, value in cell.axes.items()) or cell.label


def _join_seeds(cells: Sequence[CellCurves]) -> list[CellCurves]:
    """All cells, those of equal axes that were run alike and have disjoint seeds as one."""
    joined: list[CellCurves] = []
    by_setting: dict[tuple[str, str], list[int]] = {}
    for cell in cells:
        places = [] if cell.alike is None else by_setting.setdefault((canonical(cell.axes), cell.alike), [])
        match = next((place for place in places if set(joined[place].seeds).isdisjoint(cell.seeds)), None)
        if match is not None:
            joined[match] = _join(joined[match], cell)
        else:
            places.append(len(joined))
            joined.append(cell)
    return joined


_BY_SEED = ("returns", "final_returns", "missing", "early", "stopped")


def _join(first: CellCurves, second: CellCurves) -> CellCurves:
    names = first.experiment.split(" + ")
    experiment = first.experiment if second.experiment in names else f"{first.experiment} + {second.experiment}"
    metrics = dict.fromkeys([*first.metrics, *second.metrics])
    both = {name: {**getattr(first, name), **getattr(second, name)} for name in _BY_SEED}
    by_seed: dict[str, Any] = {name: dict(sorted(values.items())) for name, values in both.items()}
    return replace(
        first,
        experiment=experiment,
        seeds=tuple(sorted({*first.seeds, *second.seeds})),
        metrics={name: {**first.metrics.get(name, {}), **second.metrics.get(name, {})} for name in metrics},
        pending=first.pending | second.pending,
        stopped_by=" and ".join(dict.fromkeys(filter(None, (first.stopped_by, second.stopped_by)))),
        **by_seed,
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
