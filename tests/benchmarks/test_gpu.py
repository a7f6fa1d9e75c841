"""The GPU's benchmark, on a CPU with recordings that do what a GPU's do."""

import json

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_report import Report
from benchmarks.sac_update import make_sac, random_batch
from tests.core.tape_recorder import TapeRecorder
from vagram_ray.core import execution, sac_losses
from vagram_ray.core.fast.build import find_compiler
from vagram_ray.core.networks import constant_weights

pytestmark = pytest.mark.ci

WAYS = ["eager", "recorded", "recorded, high", "recorded, compiled"]


@pytest.fixture
def tape(monkeypatch):
    """A CPU that is taken for a GPU."""
    tape = TapeRecorder()
    monkeypatch.setattr(gpu, "CudaRecorder", lambda device: tape)
    monkeypatch.setattr(execution, "make_recorder", lambda way, device: tape if way == "cuda_graphs" else None)
    for name, value in {"is_cuda": True, "name": "a GPU"}.items():
        monkeypatch.setattr(gpu.Device, name, value)
    monkeypatch.setattr(gpu.Device, "wait", lambda self: None)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)  # it has a test of its own
    return tape


def test_every_row_is_measured_what_matters_most_first(tape, tmp_path, capsys):
    path = tmp_path / "gpu.json"
    status = gpu.main(["--device", "cpu", "--tiny", "--json", str(path)])
    content, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert (status, content["failures"]) == (0, [])
    titles = [line for line in printed.splitlines() if line and not line.startswith(" ")]
    assert [title.split(",")[0] for title in titles] == [
        "a GPU", "SAC updates of one seed", "A minibatch of model fitting", "SAC updates of cohorts",
        "Memory of a cohort", "What the device can do", "Fit epochs of growing buffers", "Whole environment steps",
    ]  # fmt: skip
    assert [row["way"] for row in content["updates"]] == WAYS
    assert [row["way"] for row in content["minibatches"]] == WAYS
    assert [(row["seeds"], row["way"]) for row in content["cohorts"]] == [
        (seeds, way) for seeds in (1, 2) for way in WAYS[:2]
    ]
    assert all(row["MB"] > 0 for row in content["memory"])
    assert 0.8 < content["memory"][0]["estimated/measured"] < 1.5
    assert [row["what"] for row in content["ceilings"]] == ["product, highest", "product, high", "copy"]
    assert [(row["way"], row["transitions"]) for row in content["fits"]] == [
        (way, size) for way in WAYS[:2] for size in (100, 200)
    ]
    assert all(row["hours_for_300000"] > 0 for row in content["whole"])
    assert tape.replays > tape.recordings > 0


def report(path, minutes=9.0):
    return Report(str(path), minutes, "a GPU", after_row=lambda: None)


def test_a_row_that_fails_is_told_and_the_rest_goes_on(tmp_path, capsys):
    def broken():
        raise RuntimeError("out of memory\nmore")

    made = report(tmp_path / "gpu.json")
    rows = made.add("part", "Title", [lambda: [{"ms": 1.0}], broken, lambda: [{"ms": 2.0}]])
    assert [row["ms"] for row in rows] == [1.0, 2.0]
    assert made.failures == ["part, row 2: RuntimeError: out of memory\nmore"]
    assert "row 2 failed: RuntimeError: out of memory" in capsys.readouterr().out
    assert json.loads((tmp_path / "gpu.json").read_text())["failures"] == made.failures


def test_when_the_time_is_over_no_row_begins_and_that_is_said(tmp_path, capsys):
    made = report(tmp_path / "gpu.json", minutes=0.0)
    assert made.add("part", "Title", [lambda: [{"ms": 1.0}]] * 3) == []
    assert "the last 3 of 3 are left out: 0 minutes are over" in capsys.readouterr().out


def test_an_interruption_leaves_what_was_measured(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "minibatch_row", interrupted)
    path = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--tiny", "--json", str(path)]) == 130
    assert [row["way"] for row in json.loads(path.read_text())["updates"]] == ["eager"]
    assert "Interrupted: what stands above was measured." in capsys.readouterr().out


def gradients_of_both_losses(width=16, batch=8):
    sac, (transitions, noise) = make_sac(1, width, batch), random_batch(1, batch)
    next_noise, actor_noise = noise.chunk(2, dim=-1)
    loss, value = sac_losses.critic_loss(sac, transitions, next_noise, 0.99)
    found = [loss, value, *torch.autograd.grad(loss.sum(), sac.critic.network.views)]
    with constant_weights(sac.critic.network):
        loss, entropy = sac_losses.actor_loss(sac, transitions.obs, actor_noise)
        return [*found, loss, entropy, *torch.autograd.grad(loss.sum(), sac.actor.network.views)]


@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor",
            marks=[pytest.mark.slow, pytest.mark.skipif(not find_compiler(), reason="needs a C++ compiler")],
        ),
    ],
)
def test_compiled_losses_and_their_gradients_are_the_eager_ones(monkeypatch, backend):
    monkeypatch.setattr(gpu, "COMPILER", backend)
    expected = gradients_of_both_losses()
    with gpu.compiled_losses():
        torch.testing.assert_close(gradients_of_both_losses(), expected, rtol=1e-4, atol=1e-6)
    torch.compiler.reset()


@pytest.mark.gpu
def test_the_compiled_update_inside_a_recorded_graph_is_the_eager_one_on_a_gpu():
    flats = []
    for way in ("eager", "recorded, compiled"):
        device = gpu.Device("cuda", rounds=1, tiny=True)
        settings = device.settings(model_loss="none", **gpu.WAYS[way])
        agent = gpu.make_agent(settings, 1, 1000, gpu.OBS_DIM, "cuda")
        with gpu.preparation(way):
            for _ in range(5):
                agent._improve_policy(gpu.EpochMetrics(1))
        flats.append(agent.sac.critic.network.flat.detach())
    torch.testing.assert_close(*flats, rtol=1e-3, atol=1e-4)


def test_hours_are_the_steps_and_fits_that_grow():
    whole = {"way": "eager", "step_ms": 7.0, "fit_ms": 1.0, "fit_epochs": 10.0}
    fits = [
        {"way": "eager", "transitions": size, "epoch_ms": size / 100, "prepare_ms": 70.0} for size in (10_000, 300_000)
    ]
    # a fit epoch costs 0.01 ms per transition: 1,500 ms on average over the run's 1,200 fits of 10 epochs
    assert gpu.projected_hours(whole, fits) == pytest.approx((300_000 * 6.0 + 1200 * (70 + 10 * 1500.0)) / 3.6e6)
    assert gpu.projected_hours(whole, fits[:1]) is None


def test_a_machine_without_a_gpu_is_told_so(capsys):
    if gpu.torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "PyTorch finds no GPU here; --device cpu measures the CPU." in capsys.readouterr().err
