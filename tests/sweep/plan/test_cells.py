"""Cells against hand-written lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune

from vagram_ray.sweep.plan import cells as module
from vagram_ray.sweep.plan.cells import Cell, trial_name
from vagram_ray.sweep.plan.overrides import apply_overrides, parse_assignments, with_overrides
from vagram_ray.sweep.spec import Sweep, SweepError
from vagram_ray.text import canonical, format_value

NAMES = ["$x_1$", "=1+1", "@cmd", "größe ✓", "a/../b", "two\nlines", "\x1b[2Jclear", "\u202egnp"]


def expand_cells(config: Any, **options: Any) -> tuple[Cell, ...]:
    return module.expand_cells(Sweep(name="s", config=config, epochs=1, **options))


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_variant_makes_a_cell_that_can_be_shown_and_a_folder(
    name: str, make_config: Callable[..., Any], tmp_path: Path
) -> None:
    variants = {"size": {name: {"hidden_size": 8}, "plain": {"hidden_size": 9}}}
    cells = expand_cells(make_config(), variants=variants)
    assert cells[0].axes["size"] == name and cells[0].label.isprintable()
    if name.isprintable():
        assert cells[0].label == f"size={name}"
    names = [trial_name(cells, cell, range(4)) for cell in cells]
    assert len(set(names)) == 2
    for folder in names:
        (tmp_path / folder).mkdir()
        assert (tmp_path / folder).resolve().parent == tmp_path.resolve() and folder.isascii()


def test_grids_are_crossed_in_the_order_in_which_values_are_listed(make_config: Callable[..., Any]) -> None:
    config = make_config(model_loss=tune.grid_search(["vagram", "nll"])).environment(
        num_distractors=tune.grid_search([10, 5])
    )
    cells = expand_cells(config)
    assert [cell.label for cell in cells] == [
        "num_distractors=10, model_loss=vagram",
        "num_distractors=10, model_loss=nll",
        "num_distractors=5, model_loss=vagram",
        "num_distractors=5, model_loss=nll",
    ]
    assert [cell.index for cell in cells] == [0, 1, 2, 3]
    assert cells[1].axes == {"num_distractors": 10, "model_loss": "nll"}
    resolved = cells[1].config(config)
    assert (resolved.num_distractors, resolved.model_loss, resolved.hidden_size) == (10, "nll", 8)


def test_a_configuration_without_axes_is_one_cell(make_config: Callable[..., Any]) -> None:
    (cell,) = expand_cells(make_config())
    assert (cell.label, dict(cell.axes), dict(cell.values)) == ("Pendulum-v1", {}, {})


def test_nested_and_renamed_axes(make_config: Callable[..., Any]) -> None:
    config = make_config(
        train_batch_size_per_learner=tune.grid_search([16, 32]), critic_hidden_sizes=tune.grid_search([(8, 8)])
    ).environment(env_config={"g": tune.grid_search([5.0, 9.8]), "max_episode_steps": 50})
    cells = expand_cells(config)
    assert [cell.label for cell in cells[:2]] == [
        "env_config.g=5, train_batch_size_per_learner=16, critic_hidden_sizes=8x8",
        "env_config.g=5, train_batch_size_per_learner=32, critic_hidden_sizes=8x8",
    ]
    last = cells[-1].config(config)
    assert last.env_config == {"g": 9.8, "max_episode_steps": 50}
    assert (last.to_settings().train_batch_size_per_learner, last.critic_hidden_sizes) == (32, (8, 8))


GRAVITIES = [{"g": 9.0}, {"g": 10.0, "max_episode_steps": 50}, {}]


AXIS = 'env_config=grid({"g": 9.0}, {"g": 10.0, "max_episode_steps": 50}, {})'


@pytest.mark.parametrize("before", [{}, {"g": 1.0}, tune.grid_search([{"g": 1.0}, {"g": 2.0}]), tune.choice([{}])])
@pytest.mark.parametrize("in_file", [True, False])
def test_an_axis_of_whole_dictionaries(make_config: Callable[..., Any], before: Any, in_file: bool) -> None:
    config = make_config().environment(env_config=before)
    if in_file:
        config = config.environment(env_config=tune.grid_search(GRAVITIES))
    else:
        config = apply_overrides(config, parse_assignments([AXIS]), "--set")
    cells = expand_cells(config)
    assert [cell.axes["env_config"] for cell in cells] == GRAVITIES
    assert [cell.config(config).env_config for cell in cells] == GRAVITIES
    assert [cell.label for cell in cells] == [
        "env_config=g=9", "env_config=g=10 max_episode_steps=50", "env_config=none",
    ]  # fmt: skip
    assert trial_name(cells, cells[1], range(2)) == "env_config=g=10,max_episode_steps=50,seeds=0-1"


def test_random_dictionaries_are_drawn_whole(make_config: Callable[..., Any]) -> None:
    config = make_config().environment(env_config=tune.choice(GRAVITIES))
    drawn = [cell.config(config).env_config for cell in expand_cells(config, num_samples=40)]
    assert sorted(map(str, drawn)) == sorted(map(str, GRAVITIES))


def test_random_axes_are_drawn_once_per_combination_and_sample_from_an_explicit_seed(
    make_config: Callable[..., Any],
) -> None:
    config = make_config(model_loss=tune.grid_search(["mse", "nll"]), actor_lr=tune.loguniform(1e-5, 1e-3))
    cells = expand_cells(config, num_samples=2, search_seed=3)
    assert [cell.axes["model_loss"] for cell in cells] == ["mse", "mse", "nll", "nll"]
    rates = [cell.axes["actor_lr"] for cell in cells]
    assert len(set(rates)) == 4
    assert all(1e-5 <= rate <= 1e-3 for rate in rates)
    assert expand_cells(config, num_samples=2, search_seed=3) == cells
    assert expand_cells(config, num_samples=2, search_seed=4) != cells


def test_more_samples_values_and_variants_leave_the_draws_as_they_are(make_config: Callable[..., Any]) -> None:
    def labels(losses: list[str], sizes: list[int], number: int) -> list[str]:
        config = make_config(model_loss=tune.grid_search(losses), actor_lr=tune.loguniform(1e-5, 1e-3))
        variants = {"size": {f"n{size}": {"hidden_size": size} for size in sizes}}
        return [cell.label for cell in expand_cells(config, variants=variants, num_samples=number)]

    few = labels(["mse", "nll"], [8, 16], 2)
    assert len({label.partition("actor_lr")[2] for label in few}) == 8
    for more in (labels(["mse", "nll"], [8, 16], 3), labels(["vagram", "nll", "mse"], [4, 8, 16], 2)):
        assert len(more) > len(few) and set(few) <= set(more)
    (plain,) = expand_cells(make_config(actor_lr=tune.loguniform(1e-5, 1e-3)))
    first = np.random.default_rng(0).uniform(-5, -3)  # as in sweeps that began before
    assert plain.axes["actor_lr"] == pytest.approx(10**first)


def test_an_axis_inside_a_list(make_config: Callable[..., Any]) -> None:
    cells = expand_cells(make_config(critic_hidden_sizes=[8, tune.grid_search([16, 32])]))
    assert [cell.values["critic_hidden_sizes"] for cell in cells] == [[8, 16], [8, 32]]


def test_equal_labels_are_told_apart(make_config: Callable[..., Any]) -> None:
    cells = expand_cells(make_config(actor_lr=tune.grid_search([1e-3, 1e-3 + 1e-12])))
    assert [cell.label for cell in cells] == ["actor_lr=0.001", "actor_lr=0.001, cell=1"]


@pytest.mark.parametrize(
    ("training", "num_samples", "says"),
    [
        ({"model_loss": {"grid_search": []}}, 1, "no values"),
        ({"seeds": {"grid_search": [(0,), (1,)]}}, 1, r"Sweep\(seeds"),
        ({"checkpoints_kept": {"grid_search": [2, "all"]}}, 1, "checkpoints_kept is not usable: all trials of a sweep"),
        ({"checkpoint_every": {"grid_search": [1, 2]}}, 1, "checkpoint_every is not usable: all trials of a sweep"),
        ({}, 2, "num_samples=2"),
    ],
)
def test_axes_that_cannot_work_are_refused(
    make_config: Callable[..., Any], training: dict[str, Any], num_samples: int, says: str
) -> None:
    with pytest.raises(SweepError, match=says):
        expand_cells(make_config().update_from_dict(training), num_samples=num_samples)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3e-4, "0.0003"),
        (10, "10"),
        (True, "True"),
        (None, "None"),
        ((64, 64), "64x64"),
        ((0, 40, 1.0, 0.05), "0-40-1-0.05"),
        ("nll", "nll"),
        (dict, "dict"),
        ({"g": 9.0, "size": (8, 8)}, "g=9 size=8x8"),
        ({}, "none"),
        ("x" * 50, "x" * 39 + "…"),
    ],
)
def test_values_are_short_in_names(value: Any, text: str) -> None:
    assert format_value(value) == text


def test_settings_are_equal_after_tune_has_made_lists_of_tuples() -> None:
    assert canonical({"a": (1, 2), "b": {"c": (3,)}}) == canonical({"b": {"c": [3]}, "a": [1, 2]})
    assert canonical({"a": (1, 2)}) != canonical({"a": (2, 1)})
    assert canonical({"a": 64, "b": {"c": [1.0]}}) == canonical({"a": 64.0, "b": {"c": (1,)}})
    assert canonical({"a": 1}) != canonical({"a": True}) != canonical({"a": 1.5})
    assert canonical({"a": type("Env", (), {"__module__": "b"})}) != canonical({"a": type("Env", (), {})})


def test_combinations_that_come_up_twice_are_one_cell(make_config) -> None:
    config = make_config(hidden_size=tune.choice([8, 16]))
    cells = expand_cells(config, num_samples=6)
    assert len(cells) == len({cell.label for cell in cells}) == 2
    repeated = make_config(utd_ratio=tune.grid_search([1, 1, 2]))
    assert [cell.label for cell in expand_cells(repeated)] == ["utd_ratio=1", "utd_ratio=2"]


SIZES = {
    "4x200": {"num_layers": 4, "hidden_size": 200},
    "2x64": {"num_layers": 2, "hidden_size": 64},
}


def test_variants_are_an_axis_of_named_groups_of_settings(make_config: Callable[..., Any]) -> None:
    config = make_config(model_loss=tune.grid_search(["vagram", "nll"]))
    cells = expand_cells(config, variants={"model_size": SIZES})
    assert [cell.label for cell in cells] == [
        "model_size=4x200, model_loss=vagram",
        "model_size=4x200, model_loss=nll",
        "model_size=2x64, model_loss=vagram",
        "model_size=2x64, model_loss=nll",
    ]
    resolved = cells[3].config(config)
    assert (resolved.num_layers, resolved.hidden_size, resolved.model_loss) == (2, 64, "nll")
    assert len({frozenset(cell.values) for cell in cells}) == 1, "Tune needs the same keys in all trials"


def test_what_all_variants_set_alike_reaches_the_cells(make_config: Callable[..., Any]) -> None:
    config = make_config()
    variants = {"task": {"a": {"gamma": 0.5, "utd_ratio": 3}, "b": {"gamma": 0.5, "utd_ratio": 4}}}
    assert [cell.config(config).gamma for cell in expand_cells(config, variants=variants)] == [0.5, 0.5]


def test_a_variant_may_hold_an_axis_of_its_own_and_a_renamed_key(make_config: Callable[..., Any]) -> None:
    variants = {
        "task": {
            "short": {"train_batch_size_per_learner": 16},
            "long": {"rollout_length": tune.grid_search([(0, 1, 1, 1), (0, 1, 1, 5)])},
        }
    }
    config = make_config()
    cells = expand_cells(config, variants=variants)
    assert [dict(cell.axes) for cell in cells] == [
        {"task": "short"},
        {"task": "long", "rollout_length": (0, 1, 1, 1)},
        {"task": "long", "rollout_length": (0, 1, 1, 5)},
    ]
    assert [cell.config(config).to_settings().train_batch_size_per_learner for cell in cells] == [
        16,
        *[config.to_settings().train_batch_size_per_learner] * 2,
    ]
    assert cells[2].config(config).to_settings().rollout_length == (0, 1, 1, 5)


def test_several_axes_of_variants_are_crossed(make_config: Callable[..., Any]) -> None:
    tasks = {"pendulum": {"env": "Pendulum-v1"}, "cartpole": {"env": "ContinuousCartPole-v0"}}
    cells = expand_cells(make_config(), variants={"task": tasks, "model_size": SIZES, "nothing": {}})
    assert [cell.label for cell in cells][:2] == ["task=pendulum, model_size=4x200", "task=pendulum, model_size=2x64"]
    assert len(cells) == 4


def test_plain_sac_is_one_cell_whatever_the_model_is(make_config: Callable[..., Any]) -> None:
    losses = tune.grid_search(["vagram", "none"])
    config = make_config(
        model_loss=losses, model_lr=tune.grid_search([1e-3, 1e-4]), gamma=tune.grid_search([0.9, 0.99])
    )
    labels = [cell.label for cell in expand_cells(config, variants={"model_size": SIZES})]
    assert len(labels) == 2 * 2 * 2 + 2
    assert [label for label in labels if "none" in label] == [
        "gamma=0.9, model_loss=none",
        "gamma=0.99, model_loss=none",
    ]


def test_overrides_win_over_variants(make_config: Callable[..., Any]) -> None:
    physics = {"light": {"env_config.g": 1.0}, "heavy": {"env_config": {"g": 20.0, "max_episode_steps": 9}}}
    sweep = Sweep(name="s", config=make_config(), epochs=1, variants={"model_size": SIZES, "physics": physics})
    sweep = with_overrides(sweep, {"hidden_size": 8, "env_config.max_episode_steps": 7, "gamma": 0.5}, "--set")
    configs = [cell.config(sweep.config) for cell in module.expand_cells(sweep)]
    assert [(own.num_layers, own.hidden_size, own.gamma) for own in configs[::2]] == [(4, 8, 0.5), (2, 8, 0.5)]
    assert [own.env_config["g"] for own in configs] == [1.0, 20.0] * 2
    assert {own.env_config["max_episode_steps"] for own in configs} == {7}
    emptied = with_overrides(sweep, {"env_config": {}}, "--set")
    assert not any(cell.config(emptied.config).env_config for cell in module.expand_cells(emptied))


def test_an_unknown_key_in_a_variant_is_refused_by_name(make_config: Callable[..., Any]) -> None:
    with pytest.raises(SweepError, match=r"The variant size=odd 'hiden_size'.*hidden_size"):
        expand_cells(make_config(), variants={"size": {"odd": {"hiden_size": 3}}})


def test_plain_sac_keeps_the_task_and_drops_the_models_axis(make_config: Callable[..., Any]) -> None:
    tasks = {"short": {"gamma": 0.5}, "long": {"gamma": 0.99}}
    config = make_config(model_loss=tune.grid_search(["vagram", "none"]))
    cells = expand_cells(config, variants={"task": tasks, "model_size": SIZES})
    plain = [cell for cell in cells if cell.axes["model_loss"] == "none"]
    assert [cell.label for cell in plain] == ["task=short, model_loss=none", "task=long, model_loss=none"]
    assert len(cells) == 2 * 2 + 2


def test_two_axes_of_variants_cannot_set_the_same_key(make_config: Callable[..., Any]) -> None:
    variants = {"a": {"x": {"gamma": 0.5}}, "b": {"y": {"env_config.g": 1.0}, "z": {"gamma": 0.9}}}
    with pytest.raises(SweepError, match=r"The variants of 'a' and 'b' both set gamma: leave it to one"):
        expand_cells(make_config(), variants=variants)
