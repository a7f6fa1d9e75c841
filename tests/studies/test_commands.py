"""The studies' commands as a user types them."""

from __future__ import annotations

import csv
import importlib
import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from vagram_ray.studies import loss_landscape, sac_run, value_error
from vagram_ray.studies.changing_values import ErrorCurve, Fit
from vagram_ray.studies.value_error_tables import write_tables

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"loss_landscape": loss_landscape, "value_error": value_error}


def run(name: str, *arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name].main.main(arguments)
    return int(ended.value.code or 0)


def is_figure(path: Path) -> bool:
    start = path.read_bytes()[:8]
    return start.startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF") and path.stat().st_size > 10_000


def test_the_loss_landscape_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "figure1"
    assert run("loss_landscape", "--scale", "smoke", "--reference", "1.5,-2", "--output", str(folder)) == 0
    names = {path.name for path in folder.iterdir()}
    figures = {f"{name}.{kind}" for name in ("loss_landscape", "loss_bound") for kind in ("png", "pdf")}
    assert names == figures | {"loss_landscape.npz", "study.json"}
    assert all(is_figure(folder / name) for name in figures)
    numbers = np.load(folder / "loss_landscape.npz")
    assert numbers["vaml"].shape == numbers["value"].shape == (41, 41)
    assert numbers["reference"].tolist() == [1.5, -2.0]
    facts = json.loads((folder / "study.json").read_text())
    assert (facts["env_steps"], facts["seed"], facts["resolution"]) == (800, 0, 41)
    assert facts["share_bounded_by_vagram"]["taylor"] == 1.0
    output = capsys.readouterr().out
    assert "not below the first-order loss on 100.0% of the plane" in output
    assert "SAC: epoch 2/2" in output


def test_the_value_error_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "figure2"
    assert run("value_error", "--scale", "smoke", "--seeds", "2,7", "--output", str(folder)) == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {"value_error.png", "value_error.pdf", "value_error.csv", "summary.csv", "study.json"}
    assert is_figure(folder / "value_error.png") and is_figure(folder / "value_error.pdf")
    rows = list(csv.DictReader((folder / "value_error.csv").open()))
    assert len(rows) == 2 * 3 * 2 * 3 * 3  # models, losses, seeds, value functions, evaluations
    assert {row["seed"] for row in rows} == {"2", "7"}
    assert {(row["value"], row["env_steps"]) for row in rows} == {("1", "600"), ("2", "800"), ("3", "1000")}
    check_summary(folder, rows)
    output = capsys.readouterr().out
    assert "1x16: vagram's mean error over every V is below itervaml's for" in output
    assert json.loads((folder / "study.json").read_text())["seeds"] == [2, 7]


def check_summary(folder: Path, rows: list[dict[str, str]]) -> None:
    """The summary's numbers, computed again from the rows."""
    summary = list(csv.DictReader((folder / "summary.csv").open()))
    assert [(row["model"], row["loss"]) for row in summary] == [
        (model, loss) for model in ("linear", "1x16") for loss in ("itervaml", "mse", "vagram")
    ]
    for row in summary:
        own = [r for r in rows if (r["model"], r["loss"]) == (row["model"], row["loss"])]
        assert {r["model_lr"] for r in own} == {row["model_lr"]}
        per_seed = {name: [] for name in ("last_value", "all_values", "after_change")}
        for seed in ("2", "7"):
            ends = [float(r["error"]) for r in own if r["seed"] == seed and r["steps_under_value"] == "40"]
            starts = [
                float(r["error"])
                for r in own
                if r["seed"] == seed and r["steps_under_value"] == "0" and r["value"] != "1"
            ]
            per_seed["last_value"].append(ends[-1])
            per_seed["all_values"].append(np.mean(ends))
            per_seed["after_change"].append(np.mean(starts))
        for name, (first, second) in per_seed.items():
            assert float(row[f"{name}_mean"]) == pytest.approx((first + second) / 2)
            assert float(row[f"{name}_se"]) == pytest.approx(abs(first - second) / 2)


def test_what_is_no_number_is_written_as_nan(tmp_path: Path) -> None:
    """One seed has no standard error, one value function no change, and a fit that diverged no error."""
    fit = Fit("linear", "vagram", {}, 1e-3, steps_per_value=10, evaluate_every=5)
    curve = ErrorCurve(fit, (4,), np.array([0, 0, 0]), np.array([0, 5, 10]), np.array([[2.5, np.nan, 1.5]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy warns of the mean of nothing
        write_tables([curve], [600], tmp_path)
    (row,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert [row[f"{name}_{kind}"] for name in ("last_value", "after_change") for kind in ("mean", "se")] == [
        "1.5", "nan", "nan", "nan"
    ]  # fmt: skip
    assert [row["error"] for row in csv.DictReader((tmp_path / "value_error.csv").open())] == ["2.5", "nan", "1.5"]


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("loss_landscape", ["--reference", "1"], "--reference '1' is not usable: give theta,theta_dot"),
        ("loss_landscape", ["--reference", "4,0"], "theta from -pi to pi"),
        ("loss_landscape", ["--reference", "0,nan"], "theta_dot from -8 to 8"),
        ("loss_landscape", ["--steps", "1234"], "the nearest number is 1200"),
        ("loss_landscape", ["--resolution", "3"], "--resolution"),
        ("loss_landscape", ["--seed", "-1"], "--seed"),
        ("loss_landscape", ["--scale", "huge"], "'smoke', 'laptop', 'paper'; --help lists the options."),
        ("loss_landscape", ["--output", "/dev/null/x"], "--output '/dev/null/x' cannot be written"),
        ("value_error", ["--seeds", "0"], "--seeds '0' is not usable"),
        ("value_error", ["--seeds", "1,1"], "--seeds '1,1' is not usable"),
        ("value_error", ["--model-lr", "0"], "'--model-lr': 0.0 is not in the range x>0"),
        ("value_error", ["--model-lr", "inf"], "'--model-lr': inf is not a finite number"),
        ("value_error", ["--vaml-mse-weight", "-1"], "'--vaml-mse-weight': -1.0 is not in the range x>=0"),
        ("value_error", ["--prediction-target", "reward"], "'delta', 'next_obs'"),
        ("value_error", ["--unknown"], "--unknown"),
        ("value_error", ["surplus"], "surplus"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(
    name: str, arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sac_run, "train_sac", None)  # nothing may be trained
    assert run(name, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert says in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", list(COMMANDS))
def test_existing_results_are_refused_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sac_run, "train_sac", None)
    (tmp_path / "old.csv").write_text("1")
    assert run(name, "--output", str(tmp_path)) == 2
    assert "give another --output or remove them" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(COMMANDS))
def test_an_interrupted_study_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sac_run, "train_sac", interrupted)
    assert run(name, "--output", str(tmp_path / "study")) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "Interrupted: the command did not come to its end."
    assert list(tmp_path.iterdir()) == []


def test_a_real_process_ends_with_the_status_of_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vagram_ray.studies.loss_landscape", "--output", str(tmp_path / "study")]
    process = subprocess.Popen(
        [*command, "--scale", "smoke", "--steps", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("SAC: epoch 1/")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert (process.returncode, error.strip()) == (130, "Interrupted: the command did not come to its end.")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_without_matplotlib_nothing_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(module: str) -> None:
        raise ImportError(module)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert run(name, "--output", str(tmp_path / "study")) == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def test_help_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, vagram_ray.studies.loss_landscape as one, vagram_ray.studies.value_error as two\n"
        "for study in (one, two):\n"
        "    study.main(['--help'], standalone_mode=False)\n"
        "print([name for name in ('torch', 'matplotlib', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    for option in ("--reference", "--resolution", "--steps", "--seeds", "--model-lr", "--scale", "--output"):
        assert option in done.stdout


def test_only_the_drawing_needs_matplotlib() -> None:
    modules = [path.stem for path in (ROOT / "vagram_ray" / "studies").glob("*.py") if path.stem != "drawing"]
    imports = "".join(f"import vagram_ray.studies.{module}\n" for module in modules)
    code = f"import sys\n{imports}print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.stdout.strip() == "False", done.stderr


def test_bad_input_in_a_real_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vagram_ray.studies.loss_landscape", "--reference", "9,9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: --reference '9,9'")
    assert len(done.stderr.splitlines()) == 1
