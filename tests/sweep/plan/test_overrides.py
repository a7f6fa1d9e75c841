"""``--set``, ``--seeds`` and the overrides of a scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vagram_ray.sweep.plan.overrides import (
    apply_overrides,
    parse_assignments,
    parse_seeds,
    parse_value,
    select_variants,
)
from vagram_ray.sweep.spec import SweepError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("3e-4", 3e-4),
        ("mse", "mse"),
        ("Hopper-v4", "Hopper-v4"),
        ("'5'", "5"),
        ("True", True),
        ("true", True),
        ("None", None),
        ("none", "none"),
        ("[64,64]", [64, 64]),
        ("(0, 40, 1.0, 0.05)", (0, 40, 1.0, 0.05)),
        ("[a,b]", ["a", "b"]),
        ("{'g': 9.8}", {"g": 9.8}),
        ("grid(vagram,nll)", {"grid_search": ["vagram", "nll"]}),
        ("grid(5)", {"grid_search": [5]}),
        ("grid([64,64],[32])", {"grid_search": [[64, 64], [32]]}),
        ("grid('a,b',c)", {"grid_search": ["a,b", "c"]}),
        ("", ""),
    ],
)
def test_values_are_literals_lists_axes_or_strings(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_the_loss_none_is_not_pythons_none() -> None:
    assert parse_assignments(["model_loss=none", "model_max_epochs=None"]) == {
        "model_loss": "none",
        "model_max_epochs": None,
    }
    assert parse_assignments(["model_loss=grid(vagram,none)"]) == {"model_loss": {"grid_search": ["vagram", "none"]}}


def test_assignments_keep_equals_signs_in_values_and_the_last_of_a_key() -> None:
    assert parse_assignments(["env=a=b", "utd_ratio=1", "utd_ratio=2"]) == {"env": "a=b", "utd_ratio": 2}


@pytest.mark.parametrize("text", ["utd_ratio", "=5", " =5"])
def test_assignments_without_key_or_value_are_refused(text: str) -> None:
    with pytest.raises(SweepError, match="key=value"):
        parse_assignments([text])


@pytest.mark.parametrize("text", ["env_config={{}}", "critic_hidden_sizes={[64,64]}", "env_config=grid({{}})"])
def test_what_python_cannot_build_is_one_sentence(text: str) -> None:
    with pytest.raises(SweepError, match="is no value; write a dictionary as") as caught:
        parse_assignments([text])
    assert text in caught.value.message


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(SweepError, match="at least one value"):
        parse_assignments(["model_loss=grid()"])


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", (0, 1, 2)), ("2-4", (2, 3, 4)), ("3,5,9", (3, 5, 9)), ("0-1,8", (0, 1, 8)), ("5,", (5,)), ("7-7", (7,))],
)
def test_seeds_are_a_number_a_range_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["0", "", "-1", "a", "3-1", "1,1", "0-2,1", "1.5", "1;2", "5-3,9", "9,10-5", "0-9999,10000"]
)
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(SweepError, match="--seeds"):
        parse_seeds(text)


def test_overrides_change_a_copy(make_config: Callable[..., Any]) -> None:
    config = make_config()
    changed = apply_overrides(config, {"utd_ratio": 7, "train_batch_size_per_learner": 64, "env": "Hopper-v4"}, "--set")
    assert (changed.utd_ratio, changed.to_settings().train_batch_size_per_learner, changed.env) == (7, 64, "Hopper-v4")
    assert (config.utd_ratio, config.to_settings().train_batch_size_per_learner, config.env) == (1, 32, "Pendulum-v1")


def test_a_dot_reaches_into_a_dictionary(make_config: Callable[..., Any]) -> None:
    config = make_config().environment(env_config={"g": 9.8})
    changed = apply_overrides(config, {"env_config.g": 5.0, "env_config.max_episode_steps": 50}, "--set")
    assert changed.env_config == {"g": 5.0, "max_episode_steps": 50}
    assert config.env_config == {"g": 9.8}


def test_dots_reach_into_dictionaries_inside(make_config: Callable[..., Any]) -> None:
    inside = {"task": {"gravity": {"grid_search": [9, 10]}, "wind": 1}, "a.b": 2, 3: {"c": 4}}
    config = make_config().environment(env_config=inside)
    keys = {"task.gravity": 11, "task.new.deep": 5, "a.b": 6, "3.c": 7}
    changed = apply_overrides(config, {f"env_config.{key}": value for key, value in keys.items()}, "--set")
    assert changed.env_config == {"task": {"gravity": 11, "wind": 1, "new": {"deep": 5}}, "a.b": 6, 3: {"c": 7}}
    assert config.env_config == inside
    for key in ("task.wind.x", "task.gravity.x"):
        with pytest.raises(SweepError, match=rf"env_config.{key[:-2]} is not a dictionary, so set env_config.task."):
            apply_overrides(config, {f"env_config.{key}": 1}, "--set")


def test_a_whole_dictionary_takes_the_place_of_the_one_there(make_config: Callable[..., Any]) -> None:
    config = make_config().environment(env_config={"g": 9.8, "max_episode_steps": 50})
    config = config.evaluation(evaluation_config={"env_config": {"g": 1.0}})
    changed = apply_overrides(config, {"env_config": {"g": 5.0}, "evaluation_config": {}}, "--set")
    assert (changed.env_config, changed.evaluation_config) == ({"g": 5.0}, {})
    assert apply_overrides(config, {"env_config": {}, "env_config.g": 1.0}, "--set").env_config == {"g": 1.0}
    assert apply_overrides(config, {"env_config": {}}, "--set").env_config == {}
    assert config.env_config == {"g": 9.8, "max_episode_steps": 50}


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("hiden_size", "did you mean hidden_size"),
        ("batch_size", "train_batch_size_per_learner"),
        ("seeds", "--seeds"),
        ("epochs", "--epochs"),
        ("zzzz", "no such key"),
        ("utd_ratio.x", "not a dictionary"),
    ],
)
def test_unknown_keys_are_refused_with_a_way_out(make_config: Callable[..., Any], key: str, says: str) -> None:
    with pytest.raises(SweepError, match=says) as caught:
        apply_overrides(make_config(), {key: 1}, "--set")
    assert key in caught.value.message
    assert "\n" not in caught.value.message


SIZES = {"4x200": {"num_layers": 4}, "2x64": {"num_layers": 2}, "1": {"num_layers": 1}}


def test_variants_are_chosen_by_name() -> None:
    variants, rest = select_variants({"size": SIZES}, parse_assignments(["size=2x64", "utd_ratio=3"]))
    assert (variants, rest) == ({"size": {"2x64": {"num_layers": 2}}}, {"utd_ratio": 3})
    variants, _ = select_variants({"size": SIZES}, parse_assignments(["size=grid(1, 4x200)"]))
    assert list(variants["size"]) == ["1", "4x200"]


@pytest.mark.parametrize("name", ["1e-3", "true", "0.10", "007", "None", "[64,64]"])
def test_variants_are_chosen_by_the_text_that_is_typed(name: str) -> None:
    variants, _ = select_variants({"lr": {name: {}, "1": {}}}, parse_assignments([f"lr={name}"]))
    assert list(variants["lr"]) == [name]


def test_variants_of_one_value_are_told_apart_by_quotes() -> None:
    variants = {"lr": {"1e-3": {}, "0.001": {}}}
    with pytest.raises(SweepError, match=r"there are 1e-3, 0\.001; put the one that is meant into quotes"):
        select_variants(variants, parse_assignments(["lr=0.001"]))
    assert list(select_variants(variants, parse_assignments(["lr='0.001'"]))[0]["lr"]) == ["0.001"]


def test_a_variant_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(SweepError, match=r"size=3x64 is not usable: there are 4x200, 2x64, 1"):
        select_variants({"size": SIZES}, {"size": "3x64"})
