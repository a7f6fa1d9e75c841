"""Shared by all tests: one small local Ray for those that need it, and a sweep that others are compared with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.faults.harness import Undisturbed

# Before anything imports Ray: no statistics are sent, and result folders stay out of the home directory.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray's workers let everything else on a busy machine go first; tests wait for them.
os.environ.setdefault("RAY_worker_niceness", "0")
# Tables are as wide as where nobody says how wide; some terminals, and pytest-xdist, say it to every process.
os.environ.pop("COLUMNS", None)
pytest.register_assert_rewrite("tests.faults.harness")
# A busy machine is no failure: tests never assert on time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def library_is_compiled() -> None:
    """Before the first test: runs that a test compares are executed alike, whichever test would compile it."""
    from vagram_ray.core.fast.build import load_library

    load_library()


@pytest.fixture(scope="session")
def ray_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A local Ray with two CPUs and 100 MB of object store."""
    import ray
    from ray.tune.trainable import trainable

    patch = pytest.MonkeyPatch()
    patch.setattr(trainable, "DEFAULT_STORAGE_PATH", str(tmp_path_factory.mktemp("ray_results")))
    ray.init("local", num_cpus=2, object_store_memory=100 * 1024**2, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()
    patch.undo()


@pytest.fixture(scope="session")
def short_undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The sweep that nothing happens to, with short epochs, for tests that are part of every run."""
    from tests.faults.harness import SHORT_EPOCH_LENGTH, run_undisturbed

    return run_undisturbed(tmp_path_factory.mktemp("undisturbed"), SHORT_EPOCH_LENGTH)
