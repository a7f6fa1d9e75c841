"""The test that a library has to pass where it is loaded."""

import ctypes

import pytest
import torch

from vagram_ray.core.fast import selftest
from vagram_ray.core.fast.values import NativeValues

ENTRIES = {
    "network_values": ["values of networks"],
    "sac_updates": ["SAC's updates"],
    "model_train": ["fits of 'mse'", "fits of 'nll'"],
    "model_evaluate": ["fits of 'mse'", "fits of 'nll'"],
}


class Without:
    """A library one of whose functions does nothing."""

    def __init__(self, library, missing):
        self._library, self._missing = library, missing

    def __getattr__(self, name):
        return ctypes.CFUNCTYPE(None)(lambda: None) if name == self._missing else getattr(self._library, name)


def test_the_library_of_this_machine_passes(native_library):
    assert selftest.wrong_parts(native_library) == ()


@pytest.mark.parametrize("missing", ENTRIES)
def test_what_is_not_computed_is_named(native_library, missing):
    assert list(selftest.wrong_parts(Without(native_library, missing))) == ENTRIES[missing]


@pytest.mark.parametrize("factor", [1.01, torch.nan])
def test_a_wrong_number_is_found(native_library, monkeypatch, factor):
    right = NativeValues.__call__

    def wrong(self, network, inputs):
        outputs = right(self, network, inputs)
        outputs[0, -1] *= factor
        return outputs

    monkeypatch.setattr(NativeValues, "__call__", wrong)
    assert selftest.wrong_parts(native_library) == ("values of networks",)


def test_it_leaves_the_global_random_numbers_alone(native_library):
    before = torch.get_rng_state()
    selftest.wrong_parts(native_library)
    assert torch.get_rng_state().equal(before)
