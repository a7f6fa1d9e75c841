"""Reports: from results on disk to tables, figures and the answer in words.

``load_comparison`` reads sweeps, long-format CSV files and mbrl-lib's results into one :class:`Comparison`. The other
modules compute from it. Importing this package imports neither Ray nor PyTorch nor W&B: looking takes seconds.
"""

from vagram_ray.commands import InputError
from vagram_ray.report.curves import (
    CellCurves,
    Comparison,
    ExperimentFacts,
    Panel,
    SeedCurve,
)
from vagram_ray.report.merging import load_comparison

__all__ = [
    "CellCurves",
    "Comparison",
    "ExperimentFacts",
    "InputError",
    "Panel",
    "SeedCurve",
    "load_comparison",
]
