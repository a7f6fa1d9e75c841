"""Sweeps become curves: by hand-written folders, in every state of health, alone and merged."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.synthetic import RETURN, cell_of, comparison_of, write_sweep
from vagram_ray.records.results import SweepResults
from vagram_ray.report import InputError, load_comparison
from vagram_ray.report.comparisons import compare_pairs
from vagram_ray.report.curves import SeedCurve
from vagram_ray.report.statistics import iqm_curve

TWO = {"vagram": {0: [1.0, 2.0, 3.0], 1: [4.0, 5.0, 6.0]}, "nll": {0: [0.0, 0.0, 1.0], 1: [0.0, 0.0, 2.0]}}


def test_importing_the_package_brings_neither_ray_nor_wandb_nor_torch() -> None:
    modules = "comparisons, curves, importers, mbrl_lib, merging, statistics, sweep_source, tables, verdict"
    code = "import sys, vagram_ray.report\nprint(' '.join(sys.modules))\n"
    code += f"from vagram_ray.report import {modules}\nprint(' '.join(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    package, everything = (set(line.split()) for line in output.splitlines())
    assert "vagram_ray.report.curves" in package
    assert not {"ray", "wandb", "torch", "pandas", "scipy", "matplotlib"} & package
    assert "vagram_ray.report.verdict" in everything
    assert not {"ray", "wandb", "torch", "pandas", "matplotlib"} & everything


def test_a_curve_is_sorted_and_has_each_step_once() -> None:
    curve = SeedCurve.of([300, 100, 200, 100], [3.0, 1.0, 2.0, 9.0])
    assert curve.env_steps.tolist() == [100, 200, 300]
    assert curve.values.tolist() == [9.0, 2.0, 3.0]  # what was measured last counts
    assert curve.env_steps.dtype == np.int64


# -- one sweep ---------------------------------------------------------------------------------------------------


def test_what_is_measured_of_a_whole_trial_counts_once(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "mine", TWO)
    path = folder / "records" / "model_loss=vagram,seeds=0-1.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for epoch, record in enumerate(records, start=1):
        record.update(time={"epoch_s": 2.0 * epoch}, perf={"updates_per_s": 5.0})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    vagram, nll = load_comparison([folder]).cells
    assert {name: list(by_seed) for name, by_seed in vagram.metrics.items()} == {
        "model/train_loss": [0, 1], "perf/updates_per_s": [0], "time/epoch_s": [0]
    }  # fmt: skip
    assert vagram.metrics["time/epoch_s"][0].values.tolist() == [2.0, 4.0, 6.0]
    assert set(nll.metrics) == {"model/train_loss"}


def test_a_sweep_is_read_as_it_was_written(tmp_path: Path) -> None:
    comparison = load_comparison([write_sweep(tmp_path / "mine", TWO)])
    vagram, nll = comparison.cells
    assert (vagram.experiment, vagram.label, vagram.axes) == ("mine", "model_loss=vagram", {"model_loss": "vagram"})
    assert vagram.seeds == (0, 1)
    assert vagram.returns[1].env_steps.tolist() == [150, 250, 350]
    assert vagram.returns[1].values.tolist() == [4.0, 5.0, 6.0]
    assert vagram.metrics["model/train_loss"][0].values.tolist() == [1.0, 0.5, 1 / 3]
    assert set(vagram.metrics) == {"model/train_loss"}  # neither the return nor the mark of failure
    assert vagram.final_returns == {0: 3.0, 1: 6.0}
    assert (vagram.missing, vagram.planned_env_steps) == ({}, 350)
    assert (comparison.return_metric, comparison.varying_axes) == (RETURN, ("model_loss",))
    assert nll.final_returns == {0: 1.0, 1: 2.0}


def test_final_returns_are_the_summarys(tmp_path: Path) -> None:
    returns = {"vagram": {seed: [float(seed + epoch**2) for epoch in range(20)] for seed in range(3)}}
    returns["vagram"][2][19] = None  # not evaluated in the last epoch
    folder = write_sweep(tmp_path / "s", returns, failed={("vagram", 1): 7})
    cell = load_comparison([folder]).cells[0]
    own = SweepResults.load(folder).cells[0]
    assert cell.final_returns == own.final_returns == {0: (18**2 + 19**2) / 2, 2: 2.0 + 18**2}
    assert cell.missing == own.missing == {1: "became NaN in epoch 7"}
    assert cell.seeds == (0, 1, 2)


def test_what_a_failed_seed_goes_on_reporting_does_not_count(tmp_path: Path) -> None:
    """Its environment is stepped with zeros, so that training returns stay finite."""
    returns = {"vagram": {0: [-100.0, -50.0, -50.0], 1: [-90.0, -80.0, -70.0]}}
    folder = write_sweep(tmp_path / "s", returns, failed={("vagram", 0): 2})
    (cell,) = load_comparison([folder]).cells
    assert {seed: curve.values.tolist() for seed, curve in cell.returns.items()} == {
        0: [-100.0],
        1: returns["vagram"][1],
    }
    assert {
        name: {seed: len(curve.values) for seed, curve in by_seed.items()} for name, by_seed in cell.metrics.items()
    } == {"model/train_loss": {0: 1, 1: 3}}
    assert iqm_curve(cell)[1].tolist() == [-95.0, -80.0, -70.0]
    results = SweepResults.load(folder)
    assert {seed: values.tolist() for seed, (_, values) in results.curves(0, RETURN).items()} == {
        0: [-100.0],
        1: returns["vagram"][1],
    }


def test_a_running_sweep_says_how_far_it_is(tmp_path: Path) -> None:
    returns = {"vagram": {0: [1.0, 2.0], 1: [1.0, 2.0]}, "nll": {0: [1.0], 1: [1.0]}}
    folder = write_sweep(tmp_path / "s", returns, epochs=4, ended=False)
    (folder / "records" / "model_loss=nll,seeds=0-1.jsonl").unlink()
    comparison = load_comparison([folder])
    assert comparison.cells[0].missing == {0: "at epoch 2 of 4", 1: "at epoch 2 of 4"}
    assert comparison.cells[0].returns[1].values.tolist() == [1.0, 2.0]
    assert comparison.cells[0].final_returns == {}
    assert comparison.cells[1].missing == {0: "not reported yet", 1: "not reported yet"}
    assert comparison.cells[0].pending == {0, 1}
    assert comparison.cells[0].lost == ()
    assert "running" in comparison.experiments[0].details["Wall time"]


def test_an_interrupted_sweep_names_failed_trials(tmp_path: Path) -> None:
    name = "model_loss=vagram,seeds=0-0"
    folder = write_sweep(
        tmp_path / "s", {"vagram": {0: [1.0, 2.0]}, "nll": {0: [1.0]}}, epochs=4, interrupted=True,
        failed_trials={name: f"/somewhere/s/{name}/error.txt"},
    )  # fmt: skip
    comparison = load_comparison([folder])
    assert comparison.cells[0].missing == {0: "stopped after epoch 2 of 4 (its trial failed)"}
    assert comparison.cells[1].missing == {0: "stopped after epoch 1 of 4"}
    details = comparison.experiments[0].details
    assert details["Wall time"] == "60 s (until it was interrupted)"
    assert details["Failed trials"] == f"{name} (log: {name}/error.txt)"
    assert details["Complete"] == "no, 0 of 2 seeds"
    assert [(cell.lost, cell.worst, cell.scores) for cell in comparison.cells] == [((0,), (), {}), ((), (), {})]


def test_damaged_records_cost_their_seeds_and_nothing_else(tmp_path: Path) -> None:
    one, two = [1.0, 2.0, 3.0], [5.0, 6.0, 7.0]
    more = {"mse": {0: one, 1: one}, "none": {0: two, 1: two}}
    folder = write_sweep(tmp_path / "s", {**TWO, **more})
    records = folder / "records"
    of_text = {"training_iteration": 1, "env_steps": 150, "seeds": {"0": {RETURN: "high"}}}
    (records / "model_loss=vagram,seeds=0-1.jsonl").write_text(json.dumps(of_text))
    (records / "model_loss=nll,seeds=0-1.jsonl").write_bytes(b"\xff\xfe")
    good = (records / "model_loss=mse,seeds=0-1.jsonl").read_text()
    (records / "model_loss=mse,seeds=0-1.jsonl").write_text(good + '{"training_iter')  # cut short by a kill
    vagram, nll, mse, none = load_comparison([folder]).cells
    for cell in (vagram, nll):
        assert "has records that cannot be read" in cell.missing[0]
        assert (cell.returns, cell.final_returns) == ({}, {})
    assert (mse.final_returns, none.final_returns) == ({0: 3.0, 1: 3.0}, {0: 7.0, 1: 7.0})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "damaged"),
        ('{"name": "x"}', "it lacks 'epochs'"),
        ("[]", "damaged"),
        ('{"cells": [{}], "trials": [], "epochs": 1, "seeds": []}', "lacks 'label'"),
        ('{"cells": [], "trials": [{"cell": 0, "seeds": []}], "epochs": 1, "seeds": []}', "lacks 'name'"),
        ('{"cells": [], "trials": [], "epochs": "x", "seeds": []}', "epochs is 'x', not a whole number"),
        ('{"cells": [], "trials": [], "epochs": 1, "seeds": [], "wall_time_s": []}', "wall_time_s is"),
        ('{"cells": [], "trials": [], "epochs": 1, "seeds": [], "machine": 3}', "machine is 3, not a table"),
        ('{"cells": [], "trials": [], "epochs": 1, "seeds": []}', "no cells or no seeds"),
    ],
)
def test_a_damaged_sweep_file_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        load_comparison([tmp_path])
    assert "\n" not in caught.value.message
    assert str(tmp_path) in caught.value.message


def test_details_are_ready_to_show(tmp_path: Path) -> None:
    machine = {"processor": "A chip", "cpus": 2, "gpus": 1, "memory_gib": 8.0, "system": "Linux", "python": "3.11"}
    folder = write_sweep(
        tmp_path / "s", TWO, command="python -m vagram_ray.sweep x.py", machine=machine, git_commit="abc",
        versions={"torch": "2", "ray": "3"}, resources={"CPU": 1.0, "GPU": 0.5},
    )  # fmt: skip
    details = load_comparison([folder]).experiments[0].details
    assert details["Command"] == "python -m vagram_ray.sweep x.py"
    assert details["Machine"] == "A chip, 2 CPUs, 1 GPU, 8.0 GiB of memory"
    assert details["Final return"].endswith("here epoch 3")
    assert details["GPU hours"] == "0.03"
    assert details["Versions"] == "torch 2, ray 3"
    assert details["Environment steps"].startswith("350 per seed")
    assert "Failed trials" not in details


def test_the_documented_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text()
    (table,) = re.findall(r"```csv\n(.*?)```", page, flags=re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    write_sweep(tmp_path / "results" / "distractors", TWO, settings={"num_distractors": 5})
    (tmp_path / "theirs.csv").write_text(table)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capsys.readouterr().out
    assert "vagram against TD-MPC2 is undecided, 2 seeds are too few to say more: IQM 4.50 against -159." in printed
    assert printed.rstrip().endswith("TD-MPC2 2000 -159.05")


# -- panels ------------------------------------------------------------------------------------------------------


def test_panels_and_lines() -> None:
    cells = [cell_of([1.0], d=d, model_loss=loss) for d in (10, 0) for loss in ("vagram", "nll")]
    comparison = comparison_of(*cells)
    assert [panel.title for panel in comparison.panels()] == ["d=0", "d=10"]  # numbers in their order
    assert comparison.lines == ("vagram", "nll")
    assert [comparison.line_name(cell) for cell in comparison.panels()[0].cells] == ["vagram", "nll"]
    assert comparison.panels()[0].cells[0] is cells[2]


def test_plain_sac_stands_beside_every_model(tmp_path: Path) -> None:
    sac = cell_of([0.0, 1.0], d=0, model_loss="none")
    other_sac = cell_of([0.0, 1.0], d=5, model_loss="none")
    models = [cell_of([1.0, 2.0], d=d, size=size, model_loss="vagram") for d in (0, 5) for size in ("big", "small")]
    comparison = comparison_of(*models, sac, other_sac)
    panels = comparison.panels()
    assert [panel.title for panel in panels] == [f"d={d}, size={size}" for d in (0, 5) for size in ("big", "small")]
    assert [panel.cells[1] for panel in panels] == [sac, sac, other_sac, other_sac]
    assert comparison.lines == ("vagram", "none")
    assert [pair.panel for pair in compare_pairs(comparison)] == [panel.title for panel in panels]


def test_what_stands_in_every_panel_together_is_compared_once() -> None:
    both = [cell_of([0.0, 1.0], model_loss=loss) for loss in ("none", "random")]
    models = [cell_of([1.0, 2.0], size=size, model_loss="vagram") for size in ("big", "small")]
    pairs = compare_pairs(comparison_of(*models, *both))
    names = [(pair.panel, pair.first_name, pair.second_name) for pair in pairs]
    assert names == [
        ("size=big", "vagram", "none"),
        ("size=big", "vagram", "random"),
        ("exp", "none", "random"),
        ("size=small", "vagram", "none"),
        ("size=small", "vagram", "random"),
    ]


def test_lines_of_a_panel_never_share_a_name() -> None:
    cells = [cell_of([1.0], model_loss="vagram", lr=lr) for lr in (0.1, 0.1000000001)]
    comparison = comparison_of(*cells)
    names = {comparison.line_name(cell) for cell in comparison.panels()[0].cells}
    assert len(names) == len(comparison.panels()[0].cells)


def test_the_last_axis_makes_lines_where_no_method_varies() -> None:
    comparison = comparison_of(*(cell_of([1.0], env=env, hidden_size=size) for env in "ba" for size in (64, 8)))
    assert [panel.title for panel in comparison.panels()] == ["env=b", "env=a"]  # names as they come
    assert comparison.lines == ("hidden_size=64", "hidden_size=8")


def test_one_cell_is_one_panel() -> None:
    comparison = comparison_of(cell_of([1.0], experiment="alone"))
    assert [(panel.title, len(panel.cells)) for panel in comparison.panels()] == [("alone", 1)]
    assert comparison.lines == ("alone",)


# -- several sources ---------------------------------------------------------------------------------------------


def test_the_same_cells_of_two_sweeps_stay_apart(tmp_path: Path) -> None:
    a, b = write_sweep(tmp_path / "a", TWO), write_sweep(tmp_path / "b", TWO)
    comparison = load_comparison([a, b])
    assert [cell.label for cell in comparison.cells] == [
        f"{experiment}: model_loss={loss}" for experiment in "ab" for loss in ("vagram", "nll")
    ]
    (panel,) = comparison.panels()
    assert [comparison.line_name(cell) for cell in panel.cells] == ["vagram (a)", "vagram (b)", "nll (a)", "nll (b)"]
    assert [facts.name for facts in comparison.experiments] == ["a", "b"]
    assert len(load_comparison([a, a, a / "sweep.json"]).cells) == 2  # named twice


def with_configuration(folder: Path, **config: Any) -> Path:
    """The folder, with settings that all cells share."""
    info = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**info, "settings": config}))
    return folder


def test_more_seeds_of_the_same_settings_are_one_cell(tmp_path: Path) -> None:
    a = write_sweep(tmp_path / "a", {"vagram": {0: [1.0, 2.0], 1: [3.0, 4.0]}})
    b = write_sweep(tmp_path / "b", {"vagram": {2: [5.0, 6.0], 3: [7.0, 8.0]}}, failed={("vagram", 3): 1})
    assert len(load_comparison([a, b]).cells) == 2  # nothing tells how the trials were configured
    with_configuration(a, lr=0.1)
    with_configuration(b, lr=0.1)
    (cell,) = load_comparison([a, b]).cells
    assert (cell.experiment, cell.seeds) == ("a + b", (0, 1, 2, 3))
    assert cell.final_returns == {0: 2.0, 1: 4.0, 2: 6.0}
    assert cell.missing == {3: "became NaN in epoch 1"}
    assert set(cell.returns) == set(cell.metrics["model/train_loss"]) == {0, 1, 2}


@pytest.mark.parametrize(("config", "other"), [({"lr": 0.2}, {}), ({}, {"epochs": 3})])
def test_more_seeds_of_other_settings_stay_apart(tmp_path: Path, config: dict[str, Any], other: dict[str, Any]) -> None:
    a = with_configuration(write_sweep(tmp_path / "a", {"vagram": {0: [1.0, 2.0]}}), lr=0.1)
    b = write_sweep(tmp_path / "b", {"vagram": {1: [5.0, 6.0]}}, **other)
    with_configuration(b, **{"lr": 0.1, **config})
    assert [cell.experiment for cell in load_comparison([a, b]).cells] == ["a", "b"]


def test_an_axis_that_one_sweep_fixes_is_filled_in(tmp_path: Path) -> None:
    a = write_sweep(tmp_path / "a", {0: {0: [1.0]}, 5: {0: [2.0]}}, axis="num_distractors")
    b = write_sweep(tmp_path / "b", {"vagram": {0: [3.0]}}, settings={"num_distractors": 5})
    comparison = load_comparison([with_configuration(a, model_loss="nll", env="Hopper-v4"), b])
    assert [dict(cell.axes) for cell in comparison.cells] == [
        {"num_distractors": 0, "model_loss": "nll"},
        {"num_distractors": 5, "model_loss": "nll"},
        {"num_distractors": 5, "model_loss": "vagram"},
    ]
    assert [cell.label for cell in comparison.panels()[1].cells] == [
        "num_distractors=5, model_loss=nll",
        "num_distractors=5, model_loss=vagram",
    ]


def test_an_earlier_versions_paper_distractors_are_drawn_apart_from_todays(tmp_path: Path) -> None:
    """They were the process that is called drift now; without distractors nothing has changed."""
    earlier = {"num_distractors": 5, "distractor_process": "paper"}
    today = {**earlier, "distractor_scale": "deviation", "distractor_reset": "component"}
    fixed = [
        write_sweep(tmp_path / "a", {"vagram": {0: [1.0]}}, settings=earlier),
        write_sweep(tmp_path / "b", {"vagram": {0: [2.0]}}, settings=today),
    ]
    as_axis = write_sweep(tmp_path / "c", {"paper": {0: [3.0]}}, axis="distractor_process", settings=earlier)
    titles = [panel.title for panel in load_comparison([*fixed, as_axis]).panels()]
    assert sorted(titles) == ["distractor_process=drift", "distractor_process=paper"]
    bare = [
        write_sweep(tmp_path / name, {"vagram": {0: [1.0]}}, settings={**settings, "num_distractors": 0})
        for name, settings in (("d", earlier), ("e", today))
    ]
    assert len(load_comparison(bare).panels()) == 1


def test_what_a_source_does_not_tell_has_a_panel_of_its_own(tmp_path: Path) -> None:
    a = write_sweep(tmp_path / "a", {8: {0: [1.0]}, 64: {0: [2.0]}}, axis="hidden_size")
    b = write_sweep(tmp_path / "b", {"vagram": {0: [3.0]}, "none": {0: [4.0]}})
    comparison = load_comparison([with_configuration(a, model_loss="vagram"), b])
    assert [panel.title for panel in comparison.panels()] == ["hidden_size=8", "hidden_size=64", "hidden_size=?"]
    with_configuration(b, hidden_size=64)  # now it is told, and plain SAC has no model
    comparison = load_comparison([a, b])
    assert [(panel.title, len(panel.cells)) for panel in comparison.panels()] == [
        ("hidden_size=8", 2),
        ("hidden_size=64", 3),
    ]
    assert comparison.cells[3].axes == {"model_loss": "none"}


def test_an_integer_and_an_equal_float_are_one_value(tmp_path: Path) -> None:
    one = write_sweep(tmp_path / "one", {"vagram": {0: [1.0]}}, settings={"distractor_scale": 1})
    two = write_sweep(tmp_path / "two", {"nll": {0: [1.0]}}, settings={"distractor_scale": 1.0})
    (panel,) = load_comparison([one, two]).panels()
    assert len(panel.cells) == 2


def test_other_tasks_never_share_a_panel(tmp_path: Path) -> None:
    a = write_sweep(tmp_path / "a", TWO, settings={"env": "Pendulum-v1"})
    b = write_sweep(tmp_path / "b", TWO, settings={"env": "Hopper-v4"})
    comparison = load_comparison([a, b])
    assert [panel.title for panel in comparison.panels()] == ["env=Pendulum-v1", "env=Hopper-v4"]
    assert comparison.lines == ("vagram", "nll")


def test_a_method_that_each_sweep_fixes_is_filled_in(tmp_path: Path) -> None:
    sweeps = [
        with_configuration(write_sweep(tmp_path / loss, {8: {0: [1.0]}, 64: {0: [2.0]}}, axis="size"), model_loss=loss)
        for loss in ("vagram", "nll")
    ]
    comparison = load_comparison(sweeps)
    assert [panel.title for panel in comparison.panels()] == ["size=8", "size=64"]
    assert comparison.lines == ("vagram", "nll")


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    sources = [write_sweep(tmp_path / where / "s", TWO) for where in ("x", "y")]
    assert [facts.name for facts in load_comparison(sources).experiments] == ["x/s", "y/s"]


def test_different_metrics_are_not_compared(tmp_path: Path) -> None:
    a = write_sweep(tmp_path / "a", TWO)
    b = write_sweep(tmp_path / "b", TWO, return_metric="train/episode_return")
    with pytest.raises(InputError, match="not the same metric"):
        load_comparison([a, b])


def test_what_is_no_source_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file or folder"):
        load_comparison([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="holds no results"):
        load_comparison([tmp_path])
    write_sweep(tmp_path / "one", TWO)
    with pytest.raises(InputError, match="holds sweeps: name those that you want, of one"):
        load_comparison([tmp_path])
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"has to be a \.csv"):
        load_comparison([tmp_path / "notes.txt"])
    with pytest.raises(InputError, match="There is nothing to report"):
        load_comparison([])
