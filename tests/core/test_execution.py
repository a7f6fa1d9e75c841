"""What the setting ``execution`` comes to."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.core.toy import PointEnvs, small_agent, small_settings
from vagram_ray.core import execution
from vagram_ray.core.execution import choose_execution, library_to_go_on_with, precision_of_products
from vagram_ray.core.fast import build

TF32_ALLOWED = {"ieee": False, "tf32": True}
ROOT = Path(__file__).parents[2]
CPU, LIBRARY = torch.device("cpu"), object()
LONG = {"epoch_length": 500, "utd_ratio": 5}  # 5,000 updates of two seeds


@pytest.fixture
def library(monkeypatch):
    """What has been compiled, what can be, and why not."""
    there = {"built": None, "possible": LIBRARY, "reason": "no compiler"}

    def find(may_compile):
        return there["possible" if may_compile else "built"], there["reason"]

    monkeypatch.setattr(execution, "_find_library", find)
    execution._tell_once.cache_clear()
    return there


def test_a_short_run_does_not_compile_but_uses_what_is_there(library):
    short, long = small_settings(execution="auto"), small_settings(execution="auto", **LONG)
    assert choose_execution(short, 2, CPU) == (None, None)
    assert choose_execution(long, 2, CPU) == (LIBRARY, None)
    assert choose_execution(long, 1, CPU) == (None, None)
    library["built"] = LIBRARY
    assert choose_execution(short, 2, CPU) == (LIBRARY, None)


def test_without_a_library_auto_says_so_once_and_native_is_refused(library, caplog):
    library["possible"] = None
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


@pytest.fixture
def wrong_library(monkeypatch):
    """The library fails its test."""
    from vagram_ray.core.fast import library

    monkeypatch.setattr(library.selftest, "wrong_parts", lambda handle: ("SAC's updates",))
    for found in (library.find_library, execution._tell_once):
        found.cache_clear()
    yield
    library.find_library.cache_clear()


@pytest.mark.skipif(not build.find_compiler(), reason="needs a C++ compiler")
def test_a_library_that_computes_otherwise_is_not_used(wrong_library, caplog):
    for settings in (small_settings(execution="auto"), small_settings(execution="auto", **LONG)):
        assert choose_execution(settings, 2, CPU) == (None, None)
    assert [record.getMessage().count("SAC's updates otherwise than PyTorch") for record in caplog.records] == [1]
    with pytest.raises(ValueError, match="computes SAC's updates otherwise than PyTorch"):
        choose_execution(small_settings(execution="native"), 2, CPU)


WITHOUT_FAST = """
import sys
sys.modules["vagram_ray.core.fast"] = None
from tests.core.toy import PointEnvs, small_agent
agent = small_agent(execution="auto", epoch_length=250, model_train_freq=250, utd_ratio=10, model_max_epochs=1)
agent.train_epoch(PointEnvs([0, 1]))
small_agent(execution="native")
"""


@pytest.mark.ci
def test_the_method_runs_without_what_exists_for_speed_alone():
    finished = subprocess.run([sys.executable, "-c", WITHOUT_FAST], cwd=ROOT, capture_output=True, text=True)
    assert finished.stderr.count("no compiled library: vagram_ray.core.fast is not installed") == 1
    assert "ValueError: execution='native' is not possible: vagram_ray.core.fast is not installed" in finished.stderr


def test_training_imports_nothing_that_takes_as_long_as_pytorch():
    code = (
        "import sys; from tests.core.toy import PointEnvs, small_agent; "
        "small_agent(execution='auto').train_epoch(PointEnvs([0, 1])); "
        "print({'sympy', 'torch._dynamo', 'pandas', 'ray'} & set(sys.modules))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.stdout.strip() == "set()", finished.stderr


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


# -- the precision of products -----------------------------------------------------------------------------------


def all_precisions():
    """Every state of PyTorch's that says how products are computed."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    return [getattr(backend, "fp32_precision", None) for backend in backends] + [torch.get_float32_matmul_precision()]


@pytest.mark.parametrize("before", ["ieee", "tf32"])
@pytest.mark.parametrize("precision, expected", [("highest", "ieee"), ("high", "tf32")])
def test_the_precision_is_set_for_products_on_a_gpu_and_put_back(monkeypatch, before, precision, expected):
    backend = torch.backends.cuda.matmul
    name, values = ("fp32_precision", {}) if hasattr(backend, "fp32_precision") else ("allow_tf32", TF32_ALLOWED)
    original = getattr(backend, name)
    try:
        setattr(backend, name, values.get(before, before))
        with pytest.raises(ZeroDivisionError), precision_of_products(precision, torch.device("cuda", 0)):
            assert getattr(backend, name) == values.get(expected, expected)
            1 / 0  # noqa: B018
        assert getattr(backend, name) == values.get(before, before)
    finally:
        setattr(backend, name, original)


def test_a_pytorch_without_names_for_precisions_has_a_switch(monkeypatch):
    class Backend:
        allow_tf32 = False

    backend = Backend()
    monkeypatch.setattr(torch.backends.cuda, "matmul", backend)
    with precision_of_products("high", torch.device("cuda")):
        assert backend.allow_tf32 is True
    assert backend.allow_tf32 is False


def test_on_a_cpu_the_precision_changes_no_number_and_no_state():
    results, before = [], all_precisions()
    for precision in ("highest", "high"):
        agent, states = small_agent(matmul_precision=precision), []
        agent.clock = lambda states=states: states.append(all_precisions()) or 0.0
        results.append(agent.train_epoch(PointEnvs([0, 1])))
        assert len(states) > 4 and all(state == before for state in states)
    assert all_precisions() == before
    for name, values in results[0].items():
        np.testing.assert_array_equal(values, results[1][name], err_msg=name)


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["eager", "cuda_graphs"])
def test_high_precision_takes_effect_on_the_gpu_and_is_close(way):
    """TF32 keeps 10 bits of a factor: updates differ from float32's, by little."""
    flats, before = [], all_precisions()
    for precision in ("highest", "high"):
        agent = small_agent(execution=way, matmul_precision=precision, model_loss="none", device="cuda")
        agent.train_epoch(PointEnvs([0, 1]))
        flats.append(agent.sac.critic.network.flat.detach())
    assert all_precisions() == before
    assert not flats[0].equal(flats[1])
    torch.testing.assert_close(flats[0], flats[1], rtol=0.1, atol=1e-2)
