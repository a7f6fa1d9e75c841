"""The W&B workspace and report: their specifications as a local server gets them, and the ways of not getting there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.sweep.conftest import plan_of, result_of
from tests.sweep.wandb_server import Server
from tests.sweep.wandb_support import KEY, own_home  # noqa: F401
from vagram_ray.records.folder import SweepFolder
from vagram_ray.report import InputError, load_comparison
from vagram_ray.report.dashboard import SECTIONS
from vagram_ray.report.wandb_workspace import (
    _literal,
    build_workspace,
    check_logged,
    logged_cells,
    make_workspace,
    parse_target,
    run_filter,
)
from vagram_ray.sweep.plan.content import plan_content

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pydantic, about wandb-workspaces
ROOT = Path(__file__).resolve().parents[2]
LOSSES = ("vagram", "nll")


def write_sweep(folder: Path, seeds: tuple[int, ...] = (0, 1), epochs: int = 2, sweep_id: str = "f00d") -> Path:
    """A finished sweep of two losses at two numbers of distractors, with one of the model's metrics."""
    plan = plan_of({f"cell={number}": [seeds] for number in range(4)}, epochs=epochs)
    SweepFolder(folder).write(plan_content(plan) | {"command": "python -m vagram_ray.sweep x.py", "sweep_id": sweep_id})
    info = json.loads((folder / "sweep.json").read_text())
    for index, cell in enumerate(info["cells"]):
        axes = {"num_distractors": 5 * (index // 2), "model_loss": LOSSES[index % 2]}
        cell.update(
            axes=axes,
            settings={"gamma": 0.99, **axes},
            label=", ".join(f"{axis}={value}" for axis, value in axes.items()),
        )
        for epoch in range(1, epochs + 1):
            result = result_of(epoch, {seed: float(index + seed) for seed in seeds})
            for own in result["seeds"].values():
                own["model"] = {"validation_loss": 1.0, "sensitivity_distractors_share": 0.5, "weight_real": 2.0}
            SweepFolder(folder).append(info["trials"][index]["name"], result)
    (folder / "sweep.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "my=sweep")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


def quiet() -> Console:
    return Console(width=200, record=True, file=io.StringIO())


def filters_of(runset: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    found = runset["filters"]["filters"]
    assert all(each["key"]["section"] == "run" and not each["disabled"] for each in found)
    assert all(each.get("connector", "AND") == "AND" for each in found)
    return {each["key"]["name"]: (each["op"], each["value"]) for each in found}


def test_the_command_saves_a_workspace(sweep: Path, server: Server, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "vagram_ray.report", str(sweep), "--wandb", "team/p", "--output", str(tmp_path / "out")],
        env={**os.environ, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url},
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (workspace,) = server.views
    assert workspace["type"] == "project-view"
    assert (workspace["entityName"], workspace["projectName"], workspace["displayName"]) == ("team", "p", "my-sweep")
    # wandb-workspaces takes the marks out of the whole name, also where they are part of its random id.
    assert f"{server.url}/team/p?nw={workspace['name'].replace('nw-', '').replace('-v', '')}" in ended.stdout
    check_workspace(json.loads(workspace["spec"])["section"])


def check_workspace(spec: dict[str, Any]) -> None:
    (runset,) = spec["runSets"]
    every_cell = [f"num_distractors={count}, model_loss={loss}" for count in (0, 5) for loss in LOSSES]
    assert filters_of(runset) == {
        "group": ("IN", every_cell), "tags": ("IN", ["id-7edc8c"]), "jobType": ("IN", ["seed"])
    }  # fmt: skip
    assert runset["grouping"] == [{"section": "run", "name": "group"}]
    assert spec["settings"]["xAxis"] == "env_steps"
    assert len(spec["customRunColors"]) == 4
    assert len(set(spec["customRunColors"].values())) == 4  # all cells are lines of one plot
    sections = {section["name"]: section for section in spec["panelBankConfig"]["sections"]}
    titles = ["Returns", "What the value attends to, and what the model has learned", "Fits of the model", "Time"]
    assert list(sections) == titles
    assert [section["isOpen"] for section in sections.values()] == [True, True, False, False]
    metrics = []
    for section in sections.values():
        *plots, words = section["panels"]
        assert words["viewType"] == "Markdown Panel"
        for plot in (plot["config"] for plot in plots):
            (metric,) = plot["metrics"]
            metrics.append(metric)
            assert f"- **{plot['chartTitle']}** (`{metric}`): " in words["config"]["value"]
            assert "/" not in plot["chartTitle"], "a title is words"
            assert (plot["xAxis"], plot["groupAgg"]) == ("env_steps", "mean")
            # All seeds of a trial share its times: their standard error would be of nothing.
            assert plot["groupArea"] == ("minmax" if metric.startswith(("time/", "perf/")) else "stderr")
            assert (plot.get("yAxisMin"), plot.get("yAxisMax")) == ((0, 1) if "share" in metric else (None, None))
    # What the results have and no more: of Model there is one metric with a panel.
    assert metrics == ["eval/episode_return", "model/sensitivity_distractors_share", "model/validation_loss",
                       "time/sac_s", "perf/env_steps_per_s"]  # fmt: skip


def test_before_the_first_record_the_workspace_has_every_panel(sweep: Path) -> None:
    for records in (sweep / "records").glob("*.jsonl"):
        records.write_text("")
    comparison = load_comparison([sweep])
    sections = make_workspace(comparison, logged_cells(comparison), "team", "p").sections
    assert [section.name for section in sections] == [section.title for section in SECTIONS]
    assert [len(section.panels) - 1 for section in sections] == [len(section.panels) for section in SECTIONS]


def test_every_panel_is_of_a_metric_that_the_documentation_defines() -> None:
    defined = (ROOT / "docs" / "metrics.md").read_text()
    panels = [panel for section in SECTIONS for panel in section.panels]
    assert [panel.metric for panel in panels if f"`{panel.metric}`" not in defined] == []
    for names in ([panel.metric for panel in panels], [panel.title for panel in panels]):
        assert len(set(names)) == len(names)
    assert all(panel.says.endswith(".") and panel.says[0] in "01" + panel.says[0].upper() for panel in panels)


def note_name(sweep: Path, name: str) -> None:
    SweepFolder(sweep).update(lambda info: {"wandb": {"name": name}})


def test_a_sweep_is_found_under_the_name_it_was_logged_with(sweep: Path) -> None:
    assert {cell.sweep for cell in logged_cells(load_comparison([sweep]))} == {"my=sweep"}
    note_name(sweep, "its-name-then")
    assert {cell.sweep for cell in logged_cells(load_comparison([sweep]))} == {"its-name-then"}


def test_two_sweeps_are_lines_of_their_own(sweep: Path, tmp_path: Path) -> None:
    other = write_sweep(tmp_path / "other", seeds=(0, 1), epochs=3, sweep_id="beef")
    comparison = load_comparison([sweep, other])
    logged = logged_cells(comparison)
    assert len(logged) == 8
    spec = make_workspace(comparison, logged, "team", "p")._to_model().spec.section
    assert [(key.section, key.name) for key in spec.run_sets[0].grouping] == [
        ("config", "sweep_name.value"), ("run", "group")
    ]  # fmt: skip
    assert len(spec.custom_run_colors) == 8


def test_a_sweep_that_was_started_anew_is_apart_from_the_old_one(sweep: Path, tmp_path: Path) -> None:
    old = write_sweep(tmp_path / "my=sweep-until-20260101-000000", epochs=3, sweep_id="beef")
    note_name(old, "my=sweep")
    comparison = load_comparison([sweep, old])
    logged = logged_cells(comparison)
    assert {cell.sweep for cell in logged} == {"my=sweep"}
    spec = make_workspace(comparison, logged, "team", "p")._to_model().spec.section
    assert [(key.section, key.name) for key in spec.run_sets[0].grouping] == [
        ("config", "sweep_id.value"), ("run", "group")
    ]  # fmt: skip
    assert len(spec.custom_run_colors) == 8
    only_new = logged_cells(load_comparison([sweep]))
    assert _literal("id-7edc8c") in run_filter(only_new)
    assert _literal("my=sweep") not in run_filter(only_new)


def test_seeds_of_two_sweeps_that_are_one_cell_are_both_found(sweep: Path, tmp_path: Path) -> None:
    more = write_sweep(tmp_path / "more", seeds=(2, 3))
    comparison = load_comparison([sweep, more])
    assert len(comparison.cells) == 4, "the sweeps were not joined: the test shows nothing"
    assert [cell.sweep for cell in logged_cells(comparison)] == ["my=sweep", "more"] * 4


@given(st.text(min_size=1))
def test_any_text_survives_the_filter_expression(text: str) -> None:
    from wandb_workspaces import expr

    parsed = expr.expr_to_filters(f"Metric('Group') in [{_literal(text)}]")
    (leaf,) = expr.filters_tree_to_v2(parsed)["filters"]
    assert leaf["value"] == [text]


def test_without_escapes_the_filter_would_be_another() -> None:
    """Why the escapes are there; fails once wandb-workspaces leaves text in quotes alone."""
    from wandb_workspaces import expr

    (leaf,) = expr.filters_tree_to_v2(expr.expr_to_filters("Metric('Group') in ['model_loss=vagram']"))["filters"]
    assert leaf["value"] == ["model_loss==vagram"]


@pytest.mark.parametrize("target", ["project", "team/", "/project", "a/b/c", ""])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(InputError, match="is not usable: give ENTITY/PROJECT"):
        parse_target(target)


def test_what_is_missing_is_said_in_a_sentence(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = load_comparison([sweep])
    with pytest.raises(InputError, match=r"there is no API key for .* Run `wandb login` first\."):
        build_workspace(comparison, "team/p", quiet())
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "wandb_workspaces", None)
        with pytest.raises(
            InputError, match=r"needs the package wandb-workspaces .*: pip install 'vagram_ray\[workspace\]'"
        ):
            build_workspace(comparison, "team/p", quiet())
    table = tmp_path / "others.csv"
    table.write_text("experiment,model_loss,seed,env_steps,value\nx,a,0,100,1.0\nx,a,0,200,2.0\n")
    with pytest.raises(InputError, match="there is no sweep among the results"):
        check_logged(load_comparison([table]))


def test_a_project_that_is_not_there_is_refused(sweep: Path, server: Server) -> None:
    server.projects = []
    script = (
        "import sys\nfrom rich.console import Console\nfrom vagram_ray.report import load_comparison\n"
        "from vagram_ray.report.wandb_workspace import build_workspace\n"
        "build_workspace(load_comparison(sys.argv[1:]), 'team/nothing', Console())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(sweep)],
        env={**os.environ, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url},
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "W&B refused the workspace in 'team/nothing' (" in last
    assert "'team/nothing' not found" in last
    assert server.views == []
