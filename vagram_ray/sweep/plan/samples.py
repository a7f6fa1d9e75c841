"""A searcher of Tune's in a sweep: what it suggests becomes cells, and what came out of them is told to it.

The searcher knows a sample by an id of this module, whatever becomes of its trial: one that fails and is started again
is the same sample. A sweep that goes on tells a fresh searcher what is recorded (``Searcher.add_evaluated_point``), and
nothing is ever unpickled. A searcher that takes no such points is asked again from its start: as long as it suggests
what is recorded, as one with a fixed seed does, it is told what came out. What was suggested before is not run twice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vagram_ray.sweep.plan.cells import Cell, cell_label
from vagram_ray.sweep.plan.search_space import Path, SearchSpace, axis_name, value_at
from vagram_ray.sweep.spec import SweepError, describe
from vagram_ray.text import canonical, format_value

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig

MAX_REPEATS = 100
"""Suggestions in a row that are no new cells, after which a search is at its end."""


@dataclass
class _Sample:
    """One cell, as the searcher knows it."""

    cell: Cell
    id: str = ""
    """Of the searcher's own suggestion, empty where it has not made this one in this process."""
    results: list[Mapping[str, float]] = field(default_factory=list)
    """Those with the metric, in order of epochs."""
    ended: bool = False
    told: bool = False
    """Whether the searcher knows how it ended."""

    @property
    def epoch(self) -> float:
        return self.results[-1]["training_iteration"] if self.results else 0


class Samples:
    """What a searcher chooses of a configuration with search spaces.

    Args:
        searcher: Of Tune. It is used up: another launch has another one.
        config: With ``tune.uniform`` and the like: what is searched.
        metric: Which number of a result it is told.
        mode: ``"max"`` or ``"min"``.
        num_samples: So many cells.

    Raises:
        SweepError: The searcher cannot search this.
    """

    def __init__(self, searcher: Any, config: MBPOConfig, metric: str, mode: str, num_samples: int) -> None:
        self.name = _check_searcher(searcher)
        self.num_samples = num_samples
        self.exhausted = False
        """Whether nothing more will be suggested."""
        self.note = ""
        """A sentence on why less than ``num_samples`` are suggested, or what was passed over, empty without one."""
        self._searcher, self._metric = searcher, metric
        self.space = SearchSpace(config.to_dict())
        self._texts: dict[Path, dict[str, Any]] = {}
        self._samples: list[_Sample] = []
        self._asked = 0
        self._set_up(metric, mode)

    def _set_up(self, metric: str, mode: str) -> None:
        logging.getLogger("optuna").setLevel(logging.WARNING)  # a line for each study, between those of the plan
        for grid in self.space.choices:
            raise SweepError(
                f"search_alg={self.name} cannot be combined with the axis {axis_name(grid)}, all of whose values are "
                "run: use tune.choice([...]) for it, or leave search_alg away."
            )
        if not self.space.domains:
            raise SweepError(
                f"search_alg={self.name} has nothing to search in the sweep's configuration: put tune.uniform(...) "
                "or the like into it."
            )
        names = ", ".join(self.space.axes)
        try:
            accepted = self._searcher.set_search_properties(metric, mode, self._what_it_sees())
        except Exception as error:  # each searcher has its own way to say which spaces it does not know
            raise SweepError(f"search_alg={self.name} cannot search {names}: {describe(error)}") from error
        if not accepted:
            raise SweepError(
                f"search_alg={self.name} has a space of its own, and the sweep's configuration has another ({names}): "
                "leave the searcher's away."
            )

    def _what_it_sees(self) -> dict[str, Any]:
        """The space for the searcher. Of choices that are no numbers or words their texts: not all take more."""
        from ray.tune.search.sample import Categorical

        seen: dict[str, Any] = {}
        for path, domain in self.space.domains.items():
            if isinstance(domain, Categorical) and not all(map(_is_simple, domain.categories)):
                self._texts[path] = _distinct_texts(domain.categories)
                domain = Categorical(list(self._texts[path]))
            inner = seen
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
            inner[path[-1]] = domain
        return seen

    def examples(self, number: int = 20) -> Iterator[Cell]:
        """Cells somewhere in the search space, to measure what one needs. The searcher is not asked."""
        generator = np.random.default_rng(0)
        for _ in range(number):
            drawn = {path: domain.sample(random_state=generator) for path, domain in self.space.domains.items()}
            yield self._cell({path: _plain(value) for path, value in drawn.items()}, ())

    # -- suggesting ----------------------------------------------------------------------------------------------

    def suggest(self, cells: Sequence[Cell]) -> Cell | None:
        """The next cell, with the index after those of ``cells``, or None while, or once, there is none.

        Raises:
            SweepError: The searcher fails.
        """
        for _ in range(MAX_REPEATS):
            if self.exhausted or len(cells) >= self.num_samples:
                self.exhausted = True
                return None
            number = str(self._asked)
            try:
                point = self._searcher.suggest(number)
            except Exception as error:  # it runs what its author wrote
                self.exhausted = True
                raise SweepError(f"search_alg={self.name} cannot suggest anything: {describe(error)}") from error
            if point is None:  # not now
                return None
            if point == self._searcher.FINISHED:
                self.exhausted = True
                return None
            self._asked += 1
            cell = self._cell({path: self._meant(path, point) for path in self.space.domains}, cells)
            known = next((s for s in self._samples if canonical(s.cell.values) == canonical(cell.values)), None)
            if known is None:
                self._samples.append(_Sample(cell, id=number))
                return cell
            self._repeated(known, number)
        self.exhausted = True
        self.note = f"{self.name} suggests nothing new any more: {len(cells)} of {self.num_samples} samples were made."
        return None

    def _repeated(self, sample: _Sample, number: str) -> None:
        """The searcher suggests what there is: it hears what came out if it does not know, else that this is nothing.

        Only a searcher that took no points of an earlier launch does not know.
        """
        if sample.id or sample.told:
            self._searcher.on_trial_complete(number, error=True)
            return
        sample.id = number
        for result in sample.results:
            self._searcher.on_trial_result(number, dict(result))
        if sample.ended:
            self._complete(sample)

    def refused(self, cell: Cell) -> None:
        """A suggestion cannot work: the searcher hears that it failed, and it does not count."""
        sample = self._samples.pop()
        assert sample.cell is cell
        self._searcher.on_trial_complete(sample.id, error=True)

    # -- telling -------------------------------------------------------------------------------------------------

    def reported(self, cell: int, result: Mapping[str, Any]) -> None:
        """A cell's trial has finished an epoch. ``result`` is flat. An epoch that is done again is passed over."""
        sample = self._samples[cell]
        value = result.get(self._metric)
        if value is None or not math.isfinite(value) or result["training_iteration"] <= sample.epoch:
            return
        sample.results.append({**_numbers(result), self._metric: float(value)})
        if sample.id:
            self._searcher.on_trial_result(sample.id, dict(sample.results[-1]))

    def ended(self, cell: int, *, failed: bool = False) -> None:
        """A cell's trial has come to its end, or has failed for good: so have all of its seeds."""
        sample = self._samples[cell]
        if sample.ended:
            return
        sample.ended = True
        if failed:
            sample.results.clear()
        if sample.id:
            self._complete(sample)
        else:
            self._add_point(sample)

    def known(self, cell: Cell, results: Sequence[Mapping[str, float]], *, ended: bool) -> None:
        """A cell of an earlier launch: the results of its epochs (``cohort_result``), and whether it is at its end.

        One that has failed is at its end without any.
        """
        sample = _Sample(cell, results=[result for result in results if self._metric in result], ended=ended)
        self._samples.append(sample)
        if ended:
            self._add_point(sample)

    def _complete(self, sample: _Sample) -> None:
        sample.told = True
        if sample.results:
            self._searcher.on_trial_complete(sample.id, result=dict(sample.results[-1]))
        else:
            self._searcher.on_trial_complete(sample.id, error=True)

    def _add_point(self, sample: _Sample) -> None:
        """Tell the searcher of a sample that it has not suggested itself, if it takes that."""
        if not sample.results:
            return
        point = {"/".join(map(str, path)): self._seen(path, sample.cell) for path in self.space.domains}
        try:
            self._searcher.add_evaluated_point(point, sample.results[-1][self._metric])
            sample.told = True
        except NotImplementedError:
            pass
        except Exception as error:  # outside of a space that has become smaller, say
            self.note = f"{self.name} does not take a sample of an earlier launch into account ({describe(error)})"

    # -- cells ---------------------------------------------------------------------------------------------------

    def restore(self, axes: Mapping[str, Any], before: Sequence[Cell]) -> Cell:
        """The cell after those before it, from the values of its axes as ``sweep.json`` has them."""
        domains = self.space.domains
        return self._cell({path: _of_domain(domains[path], axes[axis_name(path)]) for path in domains}, before)

    def _cell(self, chosen: Mapping[Path, Any], before: Sequence[Cell]) -> Cell:
        axes = {axis_name(path): value for path, value in chosen.items()}
        return Cell(len(before), cell_label(axes, before), axes, self.space.values(chosen))

    def _seen(self, path: Path, cell: Cell) -> Any:
        """A cell's value as the searcher sees it."""
        value = value_at(cell.values, path)
        texts = self._texts.get(path, {})
        return next((text for text, own in texts.items() if canonical({"": own}) == canonical({"": value})), value)

    def _meant(self, path: Path, point: Mapping[str, Any]) -> Any:
        """The value that a searcher's stands for."""
        value, texts = _plain(value_at(point, path)), self._texts.get(path, {})
        return texts.get(value, value) if isinstance(value, str) else value


def _check_searcher(searcher: Any) -> str:
    from ray.tune.search import Searcher

    if not isinstance(searcher, Searcher):
        raise SweepError(
            f"search_alg={searcher!r} is not usable: give a Searcher of Tune, such as OptunaSearch() from "
            "ray.tune.search.optuna; without one a sweep draws num_samples samples itself, from search_seed."
        )
    return type(getattr(searcher, "searcher", searcher)).__name__  # of a ConcurrencyLimiter


def _numbers(result: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in result.items() if isinstance(value, (int, float))}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _is_simple(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _distinct_texts(values: Sequence[Any]) -> dict[str, Any]:
    """Values by what they are called in short, with their number where others have that name."""
    texts: dict[str, Any] = {}
    for number, value in enumerate(values, start=1):
        text = format_value(value)
        texts[text if text not in texts else f"{text} ({number})"] = value
    return texts


def _of_domain(domain: Any, value: Any) -> Any:
    """The value of a domain that JSON has kept: of a choice the very object."""
    for category in getattr(domain, "categories", ()):
        if canonical({"": category}) == canonical({"": value}):
            return category
    return value
