"""What ``sweep.json`` keeps of a sweep, whole or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sweep.conftest import with_settings
from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.recorded import RecordedSweep, cell_settings, new_sweep_id, read_recorded, split_settings
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.spec import SweepError

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def folder(tmp_path: Path, make_plan_of: Callable[..., SweepPlan]) -> Path:
    plan = make_plan_of({"a=1": [(0, 1), (2,)], "a=2": [(0, 1, 2)]})
    settings = [{"env": "X", "lr": lr, "sizes": [1, 2]} for lr in (0.1, 0.2)]
    details = {"sweep_id": "f00d", "storage": None, "launches": [{"command": "python"}]}
    SweepFolder(tmp_path).write(plan_content(with_settings(plan, *settings)) | details)
    return tmp_path


def test_a_sweep_is_read_as_it_was_written(folder: Path) -> None:
    recorded = read_recorded(SweepFolder(folder, "here"))
    assert (recorded.sweep_id, recorded.epochs, recorded.seeds, recorded.storage) == ("f00d", 10, (0, 1, 2), None)
    assert [(cell.label, cell.axes) for cell in recorded.cells] == [("a=1", {"a": "1"}), ("a=2", {"a": "2"})]
    assert [(trial.name, trial.cell, trial.seeds) for trial in recorded.trials] == [
        ("a=1,seeds=0-1", 0, (0, 1)),
        ("a=1,seeds=2", 0, (2,)),
        ("a=2,seeds=0-1-2", 1, (0, 1, 2)),
    ]
    assert recorded.cells[1].settings == {"env": "X", "lr": 0.2, "sizes": [1, 2]}
    info = SweepFolder(folder).read()
    assert info["settings"] == {"env": "X", "sizes": [1, 2]}  # what all cells share stands once
    assert [cell["settings"] for cell in info["cells"]] == [{"lr": 0.1}, {"lr": 0.2}]
    assert cell_settings(info, 0) == recorded.cells[0].settings


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), _VALUES), min_size=1, max_size=4))
def test_settings_that_are_divided_add_up_again(cells: list[dict[str, Any]]) -> None:
    shared, own = split_settings(cells)
    assert [{**shared, **each} for each in own] == cells
    assert not any(set(shared) & set(each) for each in own)
    for key in set.intersection(*(set(cell) for cell in cells)):
        texts = {json.dumps(cell[key], sort_keys=True) for cell in cells}
        assert (key in shared) == (len(texts) == 1)


def test_ids_differ() -> None:
    assert len({new_sweep_id() for _ in range(100)}) == 100


def test_an_earlier_version_kept_too_little(folder: Path) -> None:
    info = SweepFolder(folder).read()
    del info["sweep_id"], info["launches"], info["settings"]
    (folder / "sweep.json").write_text(json.dumps(info))
    with pytest.raises(SweepError, match=r"The sweep in here was run by an earlier version, .*--restart .* --name"):
        read_recorded(SweepFolder(folder, "here"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": "ten"}, "epochs is 'ten', not a whole number from 1 to 1,000,000"),
        ({"epochs": None}, "epochs is None, not a whole number"),
        ({"cells": []}, "no cells"),
        ({"launches": []}, "no launches"),
        ({"settings": 5}, "settings is 5, not a table"),
        ({"seeds": 3}, "seeds is 3, not a list"),
        ({"trials": [{"name": "../../x", "cell": 0, "seeds": [0]}]}, "trials[0].name is '../../x', not the name"),
        ({"trials": [{"name": "x", "cell": 7, "seeds": [0]}]}, "the trial 'x' is of cell 7, which is not there"),
        ({"trials": [{"name": "x", "cell": 0, "seeds": [0, 0]}]}, "two seeds of the cell 'a=1' are the same"),
        ({"sweep_id": ""}, "sweep_id is '', not a name"),
    ],
)
def test_a_damaged_file_is_one_sentence(folder: Path, change: dict[str, Any], says: str) -> None:
    (folder / "sweep.json").write_text(json.dumps(SweepFolder(folder).read() | change))
    with pytest.raises(SweepError) as error:
        read_recorded(SweepFolder(folder, "here"))
    message = error.value.format_message()
    assert message.startswith("The sweep in here cannot go on, its sweep.json is damaged (")
    assert says in message
    assert "restore that file from a copy, start anew with --restart" in message
    assert len(message.splitlines()) == 1


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_no_damage_ends_in_anything_but_a_sentence(folder: Path, data: st.DataObject) -> None:
    """Values changed, keys dropped, text cut or bytes replaced: a sweep is read, or refused in one sentence."""
    whole = json.dumps(SweepFolder(folder).read(), indent=1)
    how = data.draw(st.sampled_from(["value", "cut", "byte"]))
    content = whole.encode()
    if how == "value":
        info = json.loads(whole)
        place: Any = info
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not (isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans())):
                break
            place = place[key]
        if data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(_VALUES)
        content = json.dumps(info).encode()
    elif how == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        position = data.draw(st.integers(0, len(content) - 1))
        content = content[:position] + data.draw(st.binary(min_size=1, max_size=3)) + content[position + 1 :]
    other = folder / "damaged"
    other.mkdir(exist_ok=True)
    (other / "sweep.json").write_bytes(content)
    try:
        assert isinstance(read_recorded(SweepFolder(other, "here")), RecordedSweep)
    except SweepError as error:
        assert len(error.format_message().splitlines()) == 1
