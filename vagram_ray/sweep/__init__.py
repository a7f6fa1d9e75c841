"""Ray Tune sweeps of MBPO: ``python -m vagram_ray.sweep CONFIG.py``.

A sweep file assigns ``SWEEP = Sweep(...)``. This package imports Ray only when a sweep is planned or run.
"""

from vagram_ray.sweep.spec import Scale, Sweep, SweepError

__all__ = ["Scale", "Sweep", "SweepError"]
