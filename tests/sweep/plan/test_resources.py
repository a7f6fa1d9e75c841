"""What each trial asks for, in ``sweep.json``: against what Tune is told, and through launches with other shares."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.launches import begin_launch
from vagram_ray.records.recorded import RecordedSweep, read_recorded, recorded_amount
from vagram_ray.rllib import MBPO
from vagram_ray.sweep.plan.content import plan_content, trial_resources
from vagram_ray.sweep.plan.machine import Machine
from vagram_ray.sweep.plan.plan import SweepPlan, make_plan
from vagram_ray.sweep.plan.shares import GIB, GpuNode
from vagram_ray.sweep.resume.joining import join_plan
from vagram_ray.sweep.spec import Sweep, SweepError

LARGE, SMALL = GpuNode(80 * GIB, 1, "H100"), GpuNode(22 * GIB, 1, "L4")


def plan_on(config: Any, *nodes: GpuNode, **options: Any) -> SweepPlan:
    cpus, gpus = 8 * sum(node.gpus for node in nodes), sum(node.gpus for node in nodes)
    machine = Machine(cpus, gpus, None, "GPUs", False, nodes)
    sweep = Sweep(name="s", config=config, epochs=300, seeds=4)
    return make_plan(sweep, machine, scale="smoke", seeds_per_trial=1, **options)


def as_tune_is_told(plan: SweepPlan, index: int) -> dict[str, float]:
    """What RLlib requests of Ray for a trial, as Tune asks it."""
    parameters = {**plan.base_parameters(), **plan.trials[index].parameters}
    return dict(MBPO.default_resource_request(parameters).required_resources)


def test_each_trial_is_recorded_with_what_ray_is_asked_for(make_config: Callable[..., Any]) -> None:
    custom = {"custom_resources_for_main_process": {"accelerator_type:H100": 0.001}}
    for config in (make_config(), make_config().resources(**custom)):
        plan = plan_on(config, SMALL, LARGE)
        for index, each in enumerate(plan_content(plan)["trials"]):
            request = as_tune_is_told(plan, index)
            kinds = [name for name in request if name.startswith("accelerator_type:")]
            assert each["resources"].get("accelerator_type") == (kinds[0].partition(":")[2] if kinds else None)
            assert (each["resources"]["CPU"], each["resources"]["GPU"]) == (request["CPU"], request["GPU"])


def test_the_users_own_numbers_are_recorded_cell_by_cell(make_config: Callable[..., Any]) -> None:
    config = make_config().learners(num_gpus_per_learner=tune.grid_search([0.25, 0.5]))
    config = config.resources(custom_resources_for_main_process={"accelerator_type:L4": 0.001, "team": 1})
    plan = plan_on(config, SMALL, LARGE)
    assert plan.sharing is None and plan.resources["GPU"] == 0.5
    shares = [(each["cell"], each["resources"]) for each in plan_content(plan)["trials"]]
    assert {cell: resources["GPU"] for cell, resources in shares} == {0: 0.25, 1: 0.5}
    assert {resources["accelerator_type"] for _, resources in shares} == {"L4"}


def test_cells_that_change_their_places_keep_their_own_requests(make_config: Callable[..., Any]) -> None:
    given = {"overrides": {"num_gpus_per_learner": 0.5}}  # shares of the user's own: the plan chooses none
    old = plan_on(make_config(hidden_size=tune.grid_search([8, 16])), LARGE, **given)
    content = {**plan_content(old), "sweep_id": "abc", "launches": [{"command": "python"}]}
    recorded = RecordedSweep.of(json.loads(json.dumps(content)))
    new = plan_on(make_config(hidden_size=tune.grid_search([32, 16, 8])), LARGE, **given)
    requests = [{"CPU": 1.0, "GPU": gpus} for gpus in (0.3, 0.2, 0.1)]
    asked = zip(new.cells, requests, strict=True)
    cells = tuple(replace(cell, workload=replace(cell.workload, request=own)) for cell, own in asked)
    new = replace(new, cells=cells)
    joined = join_plan(new, recorded)
    shares = {trial.cell.values["hidden_size"]: trial_resources(joined, trial)["GPU"] for trial in joined.trials}
    assert shares == {8: 0.1, 16: 0.2, 32: 0.3}
    assert [cell.values["hidden_size"] for cell in joined.cells] == [8, 16, 32]


def test_trials_that_are_finished_keep_what_they_ran_on(tmp_path: Path, make_config: Callable[..., Any]) -> None:
    many = plan_on(make_config(), GpuNode(10 * GIB))
    begin_launch(SweepFolder(tmp_path), plan_content(many), "f00d", {"command": "first"})
    first = {trial["name"]: trial["resources"] for trial in SweepFolder(tmp_path).read()["trials"]}
    assert len({str(resources) for resources in first.values()}) == 1
    *finished, last = (trial.name for trial in many.trials)
    recorded = read_recorded(SweepFolder(tmp_path, "here"))
    alone = many.sharing_gpus(many.trials[-1:])
    content = plan_content(alone, [last], recorded.resources)
    begin_launch(SweepFolder(tmp_path), content, "f00d", {"command": "second"}, recorded=recorded)
    second = {trial["name"]: trial["resources"] for trial in SweepFolder(tmp_path).read()["trials"]}
    assert all(second[name] == first[name] and first[name]["GPU"] < 1 for name in finished)
    assert second[last]["GPU"] == 1.0  # it has the GPU to itself now


def test_sweeps_of_earlier_versions_are_read(tmp_path: Path, make_plan_of: Callable[..., SweepPlan]) -> None:
    plan = make_plan_of({"a=1": [(0,), (1,)]})
    begin_launch(SweepFolder(tmp_path), plan_content(plan), "f00d", {"command": "first"})
    info = SweepFolder(tmp_path).read()
    for trial in info["trials"]:
        del trial["resources"]
    info["resources"]["GPU"] = 0.5
    (tmp_path / "sweep.json").write_text(json.dumps(info))
    assert recorded_amount(info, "a=1,seeds=0", "GPU") == 0.5
    recorded = read_recorded(SweepFolder(tmp_path, "here"))
    assert [trial.resources for trial in recorded.trials] == [None, None]
    content = plan_content(plan, ["a=1,seeds=1"], recorded.resources)
    begin_launch(SweepFolder(tmp_path), content, "f00d", {"command": "second"}, recorded=recorded)
    assert ["resources" in trial for trial in SweepFolder(tmp_path).read()["trials"]] == [False, True]


def test_files_of_earlier_versions_say_what_the_most_demanding_trial_asked_for() -> None:
    info = {"trials": [{"name": "t"}, {"name": "u", "resources": {"GPU": 0.5}}], "resources": {"GPU": 0.25}}
    assert [recorded_amount(info, name, "GPU") for name in ("t", "u")] == [0.25, 0.5]
    assert recorded_amount(info, "t", "CPU") is recorded_amount({"trials": []}, "t", "GPU") is None


def test_resources_that_are_no_table_are_damage(tmp_path: Path, make_plan_of: Callable[..., SweepPlan]) -> None:
    begin_launch(SweepFolder(tmp_path), plan_content(make_plan_of({"a=1": [(0,)]})), "f00d", {"command": "first"})
    info = SweepFolder(tmp_path).read()
    info["trials"][0]["resources"] = 3
    (tmp_path / "sweep.json").write_text(json.dumps(info))
    with pytest.raises(SweepError, match="damaged"):
        read_recorded(SweepFolder(tmp_path, "here"))
