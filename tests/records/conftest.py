"""Plans and results as the tests of sweeps make them."""

from __future__ import annotations

from tests.sweep.conftest import make_plan_of, make_result

__all__ = ["make_plan_of", "make_result"]
