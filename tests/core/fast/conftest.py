"""The compiled library for the tests of what is in it."""

import pytest

from vagram_ray.core.fast.build import load_library


@pytest.fixture(scope="session")
def native_library():
    library = load_library()
    if library.handle is None:
        pytest.skip(f"no compiled library: {library.reason}")
    return library.handle
