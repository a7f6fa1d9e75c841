"""``python -m vagram_ray.report`` as a whole."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.report.synthetic import write_sweep
from vagram_ray.report import commandline
from vagram_ray.report.commandline import default_output, main
from vagram_ray.report.figure_files import Figure


def returns(seed: int, mean: float) -> dict[int, list[float | None]]:
    values = mean + np.random.default_rng(seed).normal(size=(6, 10))
    return {number: row.tolist() for number, row in enumerate(values)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "a-sweep", {"vagram": returns(0, 5.0), "nll": returns(1, 0.0)}, command="the command")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Figures are tested elsewhere and take seconds; collects the metrics that were asked for."""
    asked: list[Sequence[str]] = []

    def draw(comparison: object, folder: Path, metrics: Sequence[str] = (), pairs: object = None) -> list[Figure]:
        asked.append(metrics)
        return []

    monkeypatch.setattr("vagram_ray.report.figures.draw_figures", draw)
    return asked


def test_the_whole_command_in_a_process_of_its_own(folder: Path) -> None:
    script = (
        "import sys; sys.argv[0] = 'report'\n"
        "from vagram_ray.report.commandline import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    heavy = {'ray', 'wandb', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "    sys.exit(f'imported {heavy}' if heavy else end.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "vagram is better than nll at the end by" in done.stdout.replace("\n", " ")
    files = {path.name for path in (folder / "report").iterdir()}
    assert {"report.html", "learning_curves_mean.png", "learning_curves_mean.pdf", "final_returns.csv"} <= files
    assert not [name for name in files if name.endswith(".tmp")]
    assert "the command" in (folder / "report" / "report.html").read_text()


@pytest.mark.usefixtures("no_drawing")
def test_output_goes_where_it_is_wanted(folder: Path, tmp_path: Path) -> None:
    assert default_output([folder]) == folder / "report"
    assert default_output([folder, tmp_path / "other"]) == tmp_path / "report"
    assert default_output([tmp_path / "results.csv"]) == tmp_path / "report"
    result = run(folder, "--output", tmp_path / "here" / "there")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "here" / "there" / "report.html").is_file()
    assert not (folder / "report").exists()


@pytest.mark.usefixtures("no_drawing")
def test_several_sweeps_become_one_report(folder: Path, tmp_path: Path) -> None:
    other = write_sweep(tmp_path / "another", {"mse": returns(2, 0.0)})
    result = run(folder, other)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<h1>a-sweep + another</h1>" in page and "model_loss=mse" in page


def test_metrics_are_passed_on(folder: Path, no_drawing: list[Sequence[str]]) -> None:
    assert run(folder, "--metric", "model/train_loss").exit_code == 0
    assert no_drawing == [("model/train_loss",)]


@pytest.mark.usefixtures("no_drawing")
def test_the_workspace_is_built_on_demand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    module = types.ModuleType("vagram_ray.report.wandb_workspace")

    def build_workspace(comparison: Any, target: str, console: Any) -> str:
        built.append((len(comparison.cells), target))
        return "https://somewhere/a-workspace"

    module.build_workspace = build_workspace  # type: ignore[attr-defined]
    module.check_ready = module.check_logged = built.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    result = run(folder, "--wandb", "me/project")
    ready, logged, made = built
    assert (result.exit_code, ready, len(logged.cells), made) == (0, "me/project", 2, (2, "me/project"))
    assert "https://somewhere/a-workspace" in result.output


@pytest.mark.parametrize(
    ("target", "gone", "words"),
    [
        ("me", "", "--wandb 'me' is not usable: give ENTITY/PROJECT"),
        ("me/p", "wandb_workspaces", "--wandb needs the package wandb-workspaces"),
        ("me/p", "", "--wandb cannot reach W&B"),
    ],
)
def test_the_workspace_is_refused_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, gone: str, words: str
) -> None:
    def work(*arguments: object) -> None:
        raise AssertionError("the results were read, or the sweep was watched")

    monkeypatch.setattr(commandline, "load_comparison", work)
    monkeypatch.setattr(commandline, "_watch", work)
    monkeypatch.setattr("vagram_ray.sweep.wandb.mode.key_problem", lambda: "there is no key.")
    if gone:
        for name in [name for name in sys.modules if name.startswith(gone)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, gone, None)
    result = run(folder, "--watch", "--wandb", target)
    assert (result.exit_code, words in result.output) == (2, True), result.output
    assert result.output.count("\n") == 1
    assert not (folder / "report").exists()


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize("named", [".", "sweep.json"])
def test_watching_ends_with_a_report(folder: Path, named: str) -> None:
    result = run(folder / named, "--watch")
    assert result.exit_code == 0, result.output
    assert (folder / "report" / "report.html").is_file()
    assert result.output.index("The sweep ended after 60 s.") < result.output.index("report.html")


def test_leaving_a_watch_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commandline, "_watch", interrupt)
    result = run(folder, "--watch")
    assert result.exit_code == 130
    assert result.output == "Interrupted; what is watched goes on.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing argument"),
        (["{folder}", "--colour"], "No such option"),
        (["{folder}/nowhere"], "nowhere"),
        (["{folder}", "{folder}", "--watch"], "--watch shows one sweep, and 2 were named"),
        (["{folder}/records", "--watch"], "is not the folder of a sweep"),
        (["{folder}", "--metric", "model/loss"], "'model/loss' is in none of the results; there are model/train_loss"),
        (["{folder}", "--output", "{folder}/sweep.json"], "cannot be written"),
    ],
)
def test_what_cannot_work_is_one_sentence(folder: Path, arguments: list[str], words: str) -> None:
    result = run(*(argument.format(folder=folder) for argument in arguments))
    assert result.exit_code == 2
    assert words in result.output
    assert result.output.startswith("Error: ") and result.output.count("\n") == 1
    assert not (folder / "report").exists()
