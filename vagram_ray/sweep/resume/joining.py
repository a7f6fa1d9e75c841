"""A command's sweep, joined with what an earlier launch of it has recorded.

Recorded cells and trials keep their places, names and packs of seeds. New cells, new seeds and more epochs join.
Whatever else differs is refused: results of one folder come from one definition.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vagram_ray.records.recorded import RecordedSweep
from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan, make_trial
from vagram_ray.sweep.plan.planned_cells import PlannedCell
from vagram_ray.sweep.plan.tuning import changed_tuning
from vagram_ray.text import format_seeds

_LONGEST_VALUE = 60

Change = tuple[str, str]
"""Where (``"the cell model_loss=nll"``, empty for the whole sweep) and what (``"hidden_size: 32 -> 64"``)."""


class ChangedSweepError(Exception):
    """The command asks for something else than what was recorded. ``changes`` are lines for a person."""

    def __init__(self, changes: Sequence[str]) -> None:
        super().__init__("; ".join(changes))
        self.changes = tuple(changes)


def join_plan(plan: SweepPlan, recorded: RecordedSweep, seeds_per_trial: int | None = None) -> SweepPlan:
    """The plan of the whole sweep: what is recorded, in its order and with its names, and after it what is new.

    Args:
        plan: What the command asks for, planned as if it were new.
        recorded: What an earlier launch has recorded.
        seeds_per_trial: Size of new packs, where the command gives it.

    Raises:
        ChangedSweepError: Something recorded is no longer asked for, or in another way.
    """
    matches, cell_changes = _match_cells(plan, recorded)
    changes = [*_changes_of_the_whole(plan, recorded), *_by_place(cell_changes, len(recorded.cells))]
    if changes:
        raise ChangedSweepError(changes)
    seeds = (*recorded.seeds, *(seed for seed in plan.seeds if seed not in recorded.seeds))
    joined = replace(plan, cells=tuple(_joined_cells(plan.cells, matches, recorded)), seeds=seeds)
    trials = [make_trial(joined, joined.cells[trial.cell], trial.seeds, trial.name) for trial in recorded.trials]
    return joined.with_trials([*trials, *_new_trials(joined, recorded, seeds_per_trial)])


# -- what is the same ------------------------------------------------------------------------------------------


def _match_cells(plan: SweepPlan, recorded: RecordedSweep) -> tuple[dict[int, int], list[Change]]:
    """The recorded cell of each planned one that has the same settings, by index, and what has changed.

    Cells are the same when their settings are, whatever they are called: an axis that was a single value before gives
    its cells longer names. Recorded cells without a partner are compared with the planned cell of their name.
    """
    places: dict[str, list[int]] = {}
    for index, cell in enumerate(recorded.cells):
        places.setdefault(_identity(cell.settings), []).append(index)
    matches: dict[int, int] = {}
    for planned in plan.cells:
        if same := places.get(_identity(planned.settings)):
            matches[planned.index] = same.pop(0)
    by_label = {cell.label: cell for cell in plan.cells if cell.index not in matches}
    matched = set(matches.values())
    changes: list[Change] = []
    for index, cell in enumerate(recorded.cells):
        if index in matched:
            continue
        where = f"the cell {cell.label}"
        if cell.label in by_label:
            now = by_label[cell.label].settings
            found = list(changed_settings(cell.settings, now)) or ["its settings differ"]
            changes += [(where, change) for change in found]
        else:
            changes.append(("", f"{where} is no longer asked for"))
    return matches, changes


def _identity(settings: Mapping[str, Any]) -> str:
    """A text that is equal for cells that are the same run. A setting that is not known is as its default."""
    return json.dumps(_plain_numbers({**_defaults(), **_effective(settings)}), sort_keys=True)


def _plain_numbers(value: Any) -> Any:
    """Numbers that compare equal in one form: 1.0 and True are 1."""
    if isinstance(value, Mapping):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(item) for item in value]
    return int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value


def _effective(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what has no effect, such as the model's settings for plain SAC."""
    from vagram_ray.rllib.plain_config import settings_without_effect

    unused = settings_without_effect(settings)
    return {key: value for key, value in settings.items() if key not in unused}


@functools.cache
def _defaults() -> dict[str, Any]:
    from vagram_ray.rllib import MBPOConfig
    from vagram_ray.rllib.plain_config import plain_settings

    return plain_settings(MBPOConfig())


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """``hidden_size: 32 -> 64`` for every setting that differs. Nested settings show only what differs inside."""
    from vagram_ray.rllib.plain_config import differences

    for name, (before, after) in differences(_effective(old), _effective(new)).items():
        yield from _change(name, before, after)


def _change(name: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            if key not in before or key not in after or before[key] != after[key]:
                yield from _change(f"{name}.{key}", before.get(key, "nothing"), after.get(key, "nothing"))
        return
    yield f"{name}: {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _changes_of_the_whole(plan: SweepPlan, recorded: RecordedSweep) -> Iterator[str]:
    if dropped := [seed for seed in recorded.seeds if seed not in plan.seeds]:
        before, now = format_seeds(recorded.seeds), format_seeds(plan.seeds)
        noun = "seeds" if len(dropped) > 1 else "seed"
        yield f"seeds: {before} -> {now} ({noun} {format_seeds(dropped)} no longer asked for)"
    if plan.epochs < recorded.epochs:
        yield f"epochs: {recorded.epochs} -> {plan.epochs}"
    if plan.return_metric != recorded.return_metric:
        yield f"what is a return: {recorded.return_metric} -> {plan.return_metric}"
    yield from changed_tuning(recorded.tuning, {} if plan.tuning is None else plan.tuning.identity)
    if plan.tuning is not None and (joined := [seed for seed in plan.seeds if seed not in recorded.seeds]):
        yield (
            f"seeds: {format_seeds(recorded.seeds)} -> {format_seeds(plan.seeds)} (a trial of a search has all seeds "
            f"from its start, so {format_seeds(joined)} cannot join)"
        )


def _by_place(changes: Sequence[Change], num_cells: int) -> Iterator[str]:
    """Lines for a person: a setting that has changed alike in all cells that are still asked for is told once."""
    places: dict[str, list[str]] = {}
    for where, what in changes:
        if where:
            places.setdefault(what, []).append(where)
    asked_for = num_cells - sum(not where for where, _ in changes)
    for what, found in places.items():
        if len(found) == asked_for:
            yield what
        else:
            yield from (f"{place}: {what}" for place in found)
    yield from (what for where, what in changes if not where)


# -- the whole ---------------------------------------------------------------------------------------------------


def _joined_cells(
    planned: Sequence[PlannedCell], matches: Mapping[int, int], recorded: RecordedSweep
) -> list[PlannedCell]:
    """The planned cells in the sweep's own order, numbered and labelled as there.

    A setting that has no effect in a cell stays as it was recorded.
    """
    by_place = {place: planned[index] for index, place in matches.items()}
    cells = []
    for place, old in enumerate(recorded.cells):
        axes = {**by_place[place].axes, **old.axes}
        cells.append(replace(by_place[place], index=place, label=old.label, axes=axes, settings=old.settings))
    taken = {cell.label for cell in cells}
    for cell in planned:
        if cell.index not in matches:
            label = cell.label if cell.label not in taken else f"{cell.label}, cell={len(cells)}"
            taken.add(label)
            cells.append(replace(cell, index=len(cells), label=label))
    return cells


def _new_trials(plan: SweepPlan, recorded: RecordedSweep, seeds_per_trial: int | None) -> Iterator[TrialPlan]:
    """Packs of the seeds that no recorded trial trains: cells that lack the same seeds are packed together."""
    trained: dict[int, set[int]] = {cell.index: set() for cell in plan.cells}
    for trial in recorded.trials:
        trained[trial.cell].update(trial.seeds)
    lacking = {index: tuple(seed for seed in plan.seeds if seed not in seeds) for index, seeds in trained.items()}
    alike = Counter(lacking.values())
    for cell in plan.cells:
        if seeds := lacking[cell.index]:
            packs = plan.packs(cell, seeds, alike[seeds], seeds_per_trial)
            yield from (make_trial(plan, cell, pack) for pack in packs)
