"""How much each hyperparameter of a search matters: permutation importance in a random forest, by scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from vagram_ray.report.curves import CellCurves
from vagram_ray.report.search import Search, scales
from vagram_ray.report.statistics import iqm_curve
from vagram_ray.text import plural

MIN_MEASURED = 8
"""Samples with a return; fewer tell nothing about several hyperparameters."""


@dataclass(frozen=True)
class Importance:
    """Importance of hyperparameters, as far as it can be told."""

    values: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and standard deviation of the loss of explained variance when a hyperparameter's values are shuffled."""
    explained: float = float("nan")
    """Share of the variance of left-out samples that the forest explains."""
    note: str = ""
    """How it was computed, or why it was not."""


def importance(search: Search) -> Importance:
    """The importance of each hyperparameter that varies.

    Samples that were stopped early are compared with the others at the last step that all have reached.
    """
    if find_spec("sklearn") is None:
        return Importance(
            note='The importance of hyperparameters needs scikit-learn: pip install "vagram_ray[optuna]".'
        )
    measured = [sample for sample in search.measured if all(name in sample.axes for name in search.names)]
    if len(measured) < MIN_MEASURED or not search.names:
        few = plural(len(measured), "sample")
        return Importance(note=f"{few} with a return are too few to tell what matters: {MIN_MEASURED} are needed.")
    values, where = _comparable(measured)
    own = [scale for scale in scales(search)]
    settings = np.array([[scale.linear(sample.axes[scale.name]) for scale in own] for sample in measured])
    return _in_a_forest([scale.name for scale in own], settings, values, where)


def _in_a_forest(names: list[str], settings: np.ndarray, values: np.ndarray, where: str) -> Importance:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    forest: Any = RandomForestRegressor(300, min_samples_leaf=2, oob_score=True, random_state=0)
    forest.fit(settings, values)
    found = permutation_importance(forest, settings, values, n_repeats=30, random_state=0)
    pairs = zip(found["importances_mean"], found["importances_std"], strict=True)
    both = {name: (float(mean), float(std)) for name, (mean, std) in zip(names, pairs, strict=True)}
    ordered = dict(sorted(both.items(), key=lambda item: -item[1][0]))
    explained = float(forest.oob_score_)
    trust = "" if explained > 0.3 else " As that is little, the order says hardly anything."
    note = (
        f"Loss of explained variance when a hyperparameter is shuffled, in a random forest fitted to {len(values)} "
        f"samples {where}; it explains {max(0.0, explained):.0%} of the variance of samples left out.{trust}"
    )
    return Importance(ordered, explained, note)


def _comparable(samples: list[CellCurves]) -> tuple[np.ndarray, str]:
    """A return of each sample that can be compared with the others', and at which step it is."""
    if not any(sample.stopped_by for sample in samples):
        return np.array([sample.statistics.iqm for sample in samples]), "by their final returns"
    curves = [iqm_curve(sample) for sample in samples]
    last = min(float(steps[-1]) for steps, _ in curves)
    at = [float(np.interp(last, steps, values)) for steps, values in curves]
    return np.array(at), f"by their returns at step {last:,.0f}, the last that all have reached"
