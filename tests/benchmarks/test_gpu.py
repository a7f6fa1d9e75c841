"""The GPU's benchmark, on a CPU with recordings that do what a GPU's do."""

import json

import pytest

from benchmarks import gpu
from tests.core.tape_recorder import TapeRecorder
from vagram_ray.core import execution


def test_both_ways_of_execution_are_measured_and_the_hours_projected(tmp_path, monkeypatch, capsys):
    tape = TapeRecorder()
    monkeypatch.setattr(gpu, "CudaRecorder", lambda device: tape)
    monkeypatch.setattr(execution, "make_recorder", lambda way, device: tape if way == "cuda_graphs" else None)
    monkeypatch.setattr(gpu, "ceilings", lambda device: {"flop_per_s": 1e11, "bytes_per_s": 1e10})
    for name, value in {"is_cuda": True, "name": "a GPU"}.items():
        monkeypatch.setattr(gpu.Device, name, value)
    monkeypatch.setattr(gpu.Device, "wait", lambda self: None)
    monkeypatch.setattr(gpu.Device, "choices", lambda self: ("eager", "cuda_graphs"))
    path = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--tiny", "--seeds", "1", "2", "--json", str(path)])
    content = json.loads(path.read_text())
    assert [(row["seeds"], row["side"]) for row in content["updates"]] == [
        (seeds, side) for seeds in (1, 2) for side in ("execution=eager", "execution=cuda_graphs", "products alone")
    ]
    assert all(0 < row["share_of_ceiling"] < 1 for row in content["updates"])
    assert {row["side"] for row in content["fits"]} == {"execution=eager", "execution=cuda_graphs"}
    assert [row["execution"] for row in content["whole"]] == ["eager", "cuda_graphs"]
    assert tape.replays > tape.recordings > 0
    assert "updates_per_s" in capsys.readouterr().out


def test_hours_are_the_steps_and_fits_that_grow():
    whole = {"execution": "eager", "median_ms_per_env_step": 7.0, "of_it_model_fit": 1.0, "median_fit_epochs": 10.0}
    side = "execution=eager"
    fits = [
        {"side": side, "transitions": size, "median_ms_per_epoch": size / 100, "median_ms_to_prepare": 70.0}
        for size in (10_000, 300_000)
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
