"""The same command again: what is recorded stays as it is, what is new joins, and anything else is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray import tune

from vagram_ray.records.recorded import RecordedSweep
from vagram_ray.rllib.plain_config import plain_settings
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.machine import GIB, Machine
from vagram_ray.sweep.plan.plan import SweepPlan, make_plan, split_pack
from vagram_ray.sweep.resume.joining import ChangedSweepError, join_plan
from vagram_ray.sweep.spec import Sweep


def plan_for(config: Any, seeds: Any = 2, epochs: int = 10, cpus: int = 2, gpus: int = 0, **options: Any) -> SweepPlan:
    sweep = Sweep(name="s", config=config, epochs=epochs, seeds=seeds, variants=options.pop("variants", {}))
    machine = Machine(cpus, gpus, 8 * GIB, "a machine")
    return make_plan(sweep, machine, scale="smoke", **options)


def recorded(plan: SweepPlan) -> RecordedSweep:
    """What another process reads of a plan that was written to ``sweep.json``."""
    content = {**plan_content(plan), "sweep_id": "abc", "launches": [{"command": "python"}]}
    return RecordedSweep.of(json.loads(json.dumps(content)))


def names(plan: SweepPlan) -> list[str]:
    return [trial.name for trial in plan.trials]


def changes(plan: SweepPlan, before: SweepPlan) -> list[str]:
    with pytest.raises(ChangedSweepError) as error:
        join_plan(plan, recorded(before))
    return list(error.value.changes)


@pytest.fixture
def losses(make_config: Callable[..., Any]) -> Callable[..., Any]:
    def make(*values: str, **settings: Any) -> Any:
        return make_config(model_loss=tune.grid_search(list(values)), **settings)

    return make


def of_an_earlier_version(plan: SweepPlan) -> RecordedSweep:
    """Before there was a choice of readings, when "paper" was the process that is called drift now."""
    content = json.loads(json.dumps(plan_content(plan)).replace("drift", "paper"))
    for table in (content["settings"], *(cell["settings"] for cell in content["cells"])):
        table.pop("distractor_scale", None)
        table.pop("distractor_reset", None)
    return RecordedSweep.of({**content, "sweep_id": "abc", "launches": [{"command": "python"}]})


@pytest.mark.parametrize("axis", [False, True])
def test_what_an_earlier_version_ran_as_paper_goes_on_as_drift_alone(losses: Callable[..., Any], axis: bool) -> None:
    def planned(process: str) -> SweepPlan:
        named = tune.grid_search([process]) if axis else process
        return plan_for(
            losses("vagram").environment(num_distractors=tune.grid_search([0, 5]), distractor_process=named)
        )

    old = of_an_earlier_version(planned("drift"))
    with pytest.raises(ChangedSweepError) as error:
        join_plan(planned("paper"), old)
    where = f"the cell {old.cells[1].label}: "
    assert error.value.changes == (f"{where if len(old.cells) > 1 else ''}distractor_process: drift -> paper",)
    joined = join_plan(planned("drift"), old)
    assert [trial.name for trial in joined.trials] == [trial.name for trial in old.trials]
    again = [cell.settings for cell in recorded(joined).cells]
    assert {(own["num_distractors"], own["distractor_process"]) for own in again} == {(0, "paper"), (5, "drift")}


def test_the_same_request_is_the_same_plan(losses: Callable[..., Any]) -> None:
    plan = plan_for(losses("vagram", "nll"), seeds=4)
    joined = join_plan(plan_for(losses("vagram", "nll"), seeds=4), recorded(plan))
    assert joined.trials == plan.trials
    assert (joined.cells, joined.seeds, joined.slots) == (plan.cells, plan.seeds, plan.slots)


def test_packs_stay_whatever_machine_it_is_now(losses: Callable[..., Any]) -> None:
    before = plan_for(losses("vagram", "nll"), seeds=4, cpus=8)
    assert names(before) == [f"model_loss={loss},seeds={seed}" for loss in ("vagram", "nll") for seed in range(4)]
    for again in (plan_for(losses("vagram", "nll"), seeds=4, cpus=1), plan_for(losses("vagram", "nll"), 4, gpus=1)):
        assert [len(trial.seeds) for trial in again.trials] == [4, 4]
        joined = join_plan(again, recorded(before))
        assert names(joined) == names(before)
    assert joined.slots == 1  # one GPU
    assert joined.config.num_gpus_per_learner == 1  # where it runs is today's business
    joined = join_plan(plan_for(losses("vagram", "nll"), 4, seeds_per_trial=2), recorded(before), 2)
    assert names(joined) == names(before)


def test_divided_packs_stay_divided(losses: Callable[..., Any]) -> None:
    plan = plan_for(losses("vagram", "nll"), seeds=4)
    divided = split_pack(plan, "model_loss=nll,seeds=0-3")
    assert names(join_plan(plan, recorded(divided))) == names(divided)


def test_new_seeds_are_packed_beside_the_old_ones(losses: Callable[..., Any]) -> None:
    before = plan_for(losses("vagram", "nll"), seeds=(2, 0))
    joined = join_plan(plan_for(losses("vagram", "nll"), seeds=5), recorded(before))
    assert joined.seeds == (2, 0, 1, 3, 4)
    assert [(trial.cell.label, trial.seeds) for trial in joined.trials] == [
        ("model_loss=vagram", (2, 0)),
        ("model_loss=nll", (2, 0)),
        ("model_loss=vagram", (1, 3, 4)),
        ("model_loss=nll", (1, 3, 4)),
    ]
    joined = join_plan(plan_for(losses("vagram", "nll"), seeds=5), recorded(before), seeds_per_trial=2)
    assert [trial.seeds for trial in joined.trials[2:4]] == [(1, 3), (4,)]


def test_new_cells_come_after_the_old_ones(losses: Callable[..., Any]) -> None:
    before = plan_for(losses("nll", "vagram"), seeds=2)
    joined = join_plan(plan_for(losses("mse", "vagram", "itervaml", "nll"), seeds=3), recorded(before))
    assert [(cell.index, cell.label) for cell in joined.cells] == [
        (0, "model_loss=nll"),
        (1, "model_loss=vagram"),
        (2, "model_loss=mse"),
        (3, "model_loss=itervaml"),
    ]
    assert [cell.settings["model_loss"] for cell in joined.cells] == ["nll", "vagram", "mse", "itervaml"]
    assert [trial.parameters["model_loss"] for trial in joined.trials[:2]] == ["nll", "vagram"]
    assert [(trial.cell.index, trial.seeds) for trial in joined.trials[2:]] == [
        (0, (2,)),
        (1, (2,)),
        (2, (0, 1, 2)),
        (3, (0, 1, 2)),
    ]


def test_cells_are_known_by_their_settings(losses: Callable[..., Any]) -> None:
    """What was one value is an axis now: the old cells keep their names, and the new ones tell the axis."""
    before = plan_for(losses("vagram", "nll").environment(num_distractors=5))
    after = plan_for(losses("vagram", "nll").environment(num_distractors=tune.grid_search([0, 5])))
    joined = join_plan(after, recorded(before))
    assert [cell.label for cell in joined.cells] == [
        "model_loss=vagram",
        "model_loss=nll",
        "num_distractors=0, model_loss=vagram",
        "num_distractors=0, model_loss=nll",
    ]
    assert joined.cells[0].axes == {"num_distractors": 5, "model_loss": "vagram"}
    assert names(joined)[:2] == names(before)
    assert [trial.parameters["num_distractors"] for trial in joined.trials] == [5, 5, 0, 0]


def test_labels_stay_distinct(make_config: Callable[..., Any]) -> None:
    one, other = 0.000300000001, 0.000300000002  # the same as people read them
    before = plan_for(make_config(actor_lr=tune.grid_search([other])))
    joined = join_plan(plan_for(make_config(actor_lr=tune.grid_search([one, other]))), recorded(before))
    assert [cell.label for cell in joined.cells] == ["actor_lr=0.0003", "actor_lr=0.0003, cell=1"]
    assert [cell.values["actor_lr"] for cell in joined.cells] == [other, one]
    assert len({trial.name for trial in joined.trials}) == len(joined.trials)


def test_more_epochs_join_and_fewer_do_not(losses: Callable[..., Any]) -> None:
    before = plan_for(losses("vagram"), epochs=10)
    joined = join_plan(plan_for(losses("vagram"), epochs=20), recorded(before))
    assert (joined.epochs, names(joined)) == (20, names(before))
    assert joined.trials[0].estimate.disk_bytes > before.trials[0].estimate.disk_bytes
    assert changes(plan_for(losses("vagram"), epochs=9), before) == ["epochs: 10 -> 9"]


def test_what_is_no_longer_asked_for_is_named(losses: Callable[..., Any]) -> None:
    before = plan_for(losses("vagram", "nll"), seeds=4, epochs=10)
    assert changes(plan_for(losses("vagram", "mse"), seeds=(0, 2, 5), epochs=2), before) == [
        "seeds: 0-3 -> 0,2,5 (seeds 1,3 no longer asked for)",
        "epochs: 10 -> 2",
        "the cell model_loss=nll is no longer asked for",
    ]


def test_changed_settings_are_named_old_and_new(losses: Callable[..., Any]) -> None:
    before = plan_for(losses("vagram", "nll").environment(env_config={"g": 9.8, "max_episode_steps": 50}))
    now = losses("vagram", "nll", hidden_size=16, critic_hidden_sizes=(32, 32))
    assert changes(plan_for(now.environment(env_config={"g": 9.0, "render_mode": None})), before) == [
        "env_config.g: 9.8 -> 9.0",
        "env_config.max_episode_steps: 50 -> nothing",
        "env_config.render_mode: nothing -> null",
        "critic_hidden_sizes: [16, 16] -> [32, 32]",
        "hidden_size: 8 -> 16",
    ]


def test_a_change_of_all_that_is_left_is_told_once(losses: Callable[..., Any]) -> None:
    before = plan_for(losses("vagram", "nll", "mse"))
    assert changes(plan_for(losses("vagram", "nll", hidden_size=16)), before) == [
        "hidden_size: 8 -> 16",
        "the cell model_loss=mse is no longer asked for",
    ]


def test_a_change_of_one_cell_names_it(make_config: Callable[..., Any]) -> None:
    sizes = {"small": {"hidden_size": 8}, "large": {"hidden_size": 16}}
    before = plan_for(make_config(), variants={"size": sizes})
    now = plan_for(make_config(), variants={"size": {**sizes, "large": {"hidden_size": 32}}})
    assert changes(now, before) == ["the cell size=large: hidden_size: 16 -> 32"]


def test_what_is_a_return_does_not_change(make_config: Callable[..., Any]) -> None:
    before = plan_for(make_config())
    now = plan_for(make_config().evaluation(evaluation_interval=None))
    assert changes(now, before) == [
        "what is a return: eval/episode_return -> train/episode_return",
        "evaluation_interval: 1 -> null",
    ]


def test_numbers_that_are_equal_are_no_change(make_config: Callable[..., Any]) -> None:
    before = plan_for(make_config(utd_ratio=1, gamma=1.0, initial_alpha=1))
    now = plan_for(make_config(utd_ratio=1, gamma=1, initial_alpha=1.0))
    assert names(join_plan(now, recorded(before))) == names(before)


def test_the_models_settings_say_nothing_of_plain_sac(losses: Callable[..., Any]) -> None:
    before = plan_for(losses("vagram", "none", hidden_size=tune.grid_search([16])))
    after = plan_for(losses("vagram", "none", hidden_size=tune.grid_search([8, 16])))
    joined = join_plan(after, recorded(before))
    assert [cell.label for cell in joined.cells] == [
        "model_loss=vagram, hidden_size=16",
        "model_loss=none",
        "model_loss=vagram, hidden_size=8",
    ]


def test_a_setting_that_is_new_in_this_version_is_as_its_default(losses: Callable[..., Any]) -> None:
    plan = plan_for(losses("vagram"))
    old = recorded(plan)
    lacking = {key: value for key, value in old.cells[0].settings.items() if key != "initial_alpha"}
    old = replace(old, cells=(replace(old.cells[0], settings=lacking),))
    assert names(join_plan(plan, old)) == names(plan)
    with pytest.raises(ChangedSweepError, match=r"initial_alpha: 0.1 -> 0.2"):
        join_plan(plan_for(losses("vagram", initial_alpha=0.2)), old)


_LOSSES = st.lists(st.sampled_from(["vagram", "nll", "mse", "none"]), min_size=1, unique=True)
_DISTRACTORS = st.lists(st.sampled_from([0, 3, 5]), min_size=1, unique=True)
_SEEDS = st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True)
_REQUEST = st.tuples(_LOSSES, _DISTRACTORS, _SEEDS, st.integers(1, 12), st.sampled_from([None, 1, 2, 3]))
_Request = tuple[list[str], list[int], list[int], int, int | None]


@given(first=_REQUEST, second=_REQUEST, superset=st.booleans(), cpus=st.tuples(st.integers(1, 6), st.integers(1, 6)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
def test_joining_keeps_what_is_there_and_adds_what_is_new(
    losses: Callable[..., Any], first: _Request, second: _Request, superset: bool, cpus: tuple[int, int]
) -> None:
    def plan_of(request: _Request, cores: int) -> SweepPlan:
        wanted, distractors, seeds, epochs, per_trial = request
        config = losses(*wanted).environment(num_distractors=tune.grid_search(distractors))
        return plan_for(config, seeds=seeds, epochs=epochs, cpus=cores, seeds_per_trial=per_trial)

    if superset:
        losses_, distractors, seeds = (_both(new, old) for new, old in zip(second[:3], first[:3], strict=True))
        second = (losses_, distractors, seeds, max(first[3], second[3]), second[4])
    before, asked = plan_of(first, cpus[0]), plan_of(second, cpus[1])
    grows = all(set(old) <= set(new) for old, new in zip(first[:3], second[:3], strict=True)) and first[3] <= second[3]
    if not grows:
        assert changes(asked, before)
        return
    joined = join_plan(asked, recorded(before), second[4])
    count = len(before.trials)
    assert [(t.name, t.seeds, t.cell.index) for t in joined.trials[:count]] == [
        (t.name, t.seeds, t.cell.index) for t in before.trials
    ]
    assert [cell.label for cell in joined.cells[: len(before.cells)]] == [cell.label for cell in before.cells]
    assert {_identity(asked, cell.index) for cell in asked.cells} == {_identity(joined, c.index) for c in joined.cells}
    assert set(joined.seeds) == set(asked.seeds) and joined.seeds[: len(before.seeds)] == before.seeds
    for cell in joined.cells:
        assert sorted(s for t in joined.cell_trials(cell) for s in t.seeds) == sorted(asked.seeds)
        for trial in joined.cell_trials(cell):
            run = joined.config.copy(copy_frozen=False).update_from_dict(trial.parameters)
            assert plain_settings(run) == plain_settings(cell.config(joined.config))
    assert len(set(names(joined))) == len(joined.trials)
    # And once more: nothing changes.
    assert names(join_plan(asked, recorded(joined), second[4])) == names(joined)


def _both(new: Sequence[Any], old: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys([*new, *old]))


def _identity(plan: SweepPlan, index: int) -> str:
    return json.dumps([plan.cells[index].settings[key] for key in ("model_loss", "num_distractors")])
