"""What the setting ``execution`` comes to."""

import numpy as np
import pytest
import torch

from tests.core.toy import PointEnvs, small_agent, small_settings
from vagram_ray.core import execution
from vagram_ray.core.execution import choose_execution, library_to_go_on_with
from vagram_ray.core.fast import build

CPU, LIBRARY = torch.device("cpu"), object()
LONG = {"epoch_length": 500, "utd_ratio": 5}  # 5,000 updates of two seeds


@pytest.fixture
def library(monkeypatch):
    """What has been compiled and what can be, by name."""
    there = {"load_library": LIBRARY, "load_built_library": None, "reason": "no compiler"}
    for name in ("load_library", "load_built_library"):
        monkeypatch.setattr(build, name, lambda name=name: build.NativeLibrary(there[name], there["reason"]))
    monkeypatch.setattr(execution.selftest, "wrong_parts", lambda library: ())
    execution._tell_once.cache_clear()
    return there


def test_a_short_run_does_not_compile_but_uses_what_is_there(library):
    short, long = small_settings(execution="auto"), small_settings(execution="auto", **LONG)
    assert choose_execution(short, 2, CPU) == (None, None)
    assert choose_execution(long, 2, CPU) == (LIBRARY, None)
    assert choose_execution(long, 1, CPU) == (None, None)
    library["load_built_library"] = LIBRARY
    assert choose_execution(short, 2, CPU) == (LIBRARY, None)


def test_without_a_library_auto_says_so_once_and_native_is_refused(library, caplog):
    library["load_library"] = None
    for _ in range(3):
        assert choose_execution(small_settings(execution="auto", **LONG), 2, CPU) == (None, None)
    assert [record.getMessage().count("no compiler") for record in caplog.records] == [1]
    with pytest.raises(ValueError, match=r"execution='native' is not possible: no compiler. Use execution='auto'"):
        choose_execution(small_settings(execution="native"), 2, CPU)


def test_other_devices_and_eager_have_no_library(library):
    assert choose_execution(small_settings(execution="auto", **LONG), 2, torch.device("cuda")) == (None, None)
    assert choose_execution(small_settings(execution="eager", **LONG), 2, CPU) == (None, None)
    with pytest.raises(ValueError, match=r"execution='native' computes on a CPU.*'cuda'"):
        choose_execution(small_settings(execution="native"), 2, torch.device("cuda"))


def test_a_library_that_computes_otherwise_is_not_used(library, monkeypatch, caplog):
    monkeypatch.setattr(execution.selftest, "wrong_parts", lambda library: ("SAC's updates",))
    library["load_built_library"] = LIBRARY
    for settings in (small_settings(execution="auto"), small_settings(execution="auto", **LONG)):
        assert choose_execution(settings, 2, CPU) == (None, None)
    assert [record.getMessage().count("SAC's updates otherwise than PyTorch") for record in caplog.records] == [1]
    with pytest.raises(ValueError, match="computes SAC's updates otherwise than PyTorch"):
        choose_execution(small_settings(execution="native"), 2, CPU)


@pytest.mark.skipif(not build.find_compiler(), reason="needs a C++ compiler")
def test_native_training_equals_eager_training_but_for_rounding():
    results = []
    for way in ("eager", "native"):
        agent = small_agent(execution=way, model_loss="none")
        assert (agent._native is not None) == (way == "native")
        results.append(agent.train_epoch(PointEnvs([0, 1])))
    assert results[0].keys() == results[1].keys() and "sac/critic_loss" in results[0]
    for name in results[0]:
        if not name.startswith("time/"):
            np.testing.assert_allclose(results[1][name], results[0][name], rtol=1e-2, err_msg=name)


def test_a_run_goes_on_as_it_was_executed_whatever_was_compiled_meanwhile(library):
    auto = small_settings(execution="auto")
    assert library_to_go_on_with(auto, CPU, False, LIBRARY) is None
    assert library_to_go_on_with(auto, CPU, True, None) is LIBRARY
    assert library_to_go_on_with(auto, CPU, True, LIBRARY) is LIBRARY
    assert library_to_go_on_with(small_settings(execution="eager"), CPU, True, None) is None
    assert library_to_go_on_with(small_settings(execution="native"), CPU, False, LIBRARY) is LIBRARY
