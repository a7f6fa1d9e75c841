"""``Sweep.run`` in a script, with the command's resume, and what its results give."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from tests.sweep.conftest import result_of, small_config
from vagram_ray.records import SweepFolder, SweepResults
from vagram_ray.records.cells import CellResult
from vagram_ray.records.launches import end_launch
from vagram_ray.sweep import Scale, Sweep, SweepError
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.overrides import parse_assignments
from vagram_ray.sweep.plan.plan import SweepPlan

SCRIPT = """
import sys
import ray
from vagram_ray.sweep import Scale, Sweep
from tests.sweep.conftest import small_config

if __name__ == "__main__":
    sweep = Sweep(name="small", config=small_config(), epochs=5, scales={"smoke": Scale(epochs=2, seeds=1)})
    losses = {"model_loss": {"grid_search": ["mse", "none"]}}
    chosen = {"scale": "smoke", "seeds": 2, "storage": "here", "wandb": "disabled", "overrides": losses}
    first = sweep.run(**chosen)
    print("INITIALIZED", ray.is_initialized())
    both = sweep.run(**chosen, epochs=3)
    print("ROWS", len(first.to_dataframe()), len(both.to_dataframe()), len(both.final()))
    print("CHECKPOINT", both.checkpoint("mse", 1))
    again = sweep.run(**chosen, epochs=3, quiet=True)
    print("LAUNCHES", len(again.info["launches"]))
"""


@pytest.mark.slow
def test_a_script_runs_a_sweep_and_goes_on_with_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_"))}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path, env={**environment, "PYTHONPATH": root}, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.split(" ")[0].isupper())
    assert told["INITIALIZED"] == "False"
    assert told["ROWS"] == "8 12 4"  # 2 cells, 2 seeds, and 2 or 3 epochs
    assert told["LAUNCHES"] == "2"
    assert "every trial goes on from epoch 2 to epoch 3" in done.stdout
    assert done.stdout.count("Complete: every seed of 2 cells") == 2  # quiet the last time
    folder = tmp_path / "here" / "small-smoke"
    info = json.loads((folder / "sweep.json").read_text())
    assert info["command"] == f"python {script}"
    assert (folder / "sweep_file.py").read_text() == SCRIPT
    import ray

    from vagram_ray.rllib import MBPO

    was_there = ray.is_initialized()
    algorithm = MBPO.from_checkpoint(told["CHECKPOINT"])
    try:
        assert (algorithm.iteration, algorithm.config.model_loss) == (3, "mse")
    finally:
        algorithm.stop()
        if not was_there:  # RLlib has started it
            ray.shutdown()


def sweep(**options: Any) -> Sweep:
    return Sweep(name="small", config=small_config(), epochs=5, scales={"smoke": Scale(epochs=2)}, **options)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scale": "huge"}, "no scale 'huge'"),
        ({"seeds": 0}, "seeds=0 is not usable"),
        ({"epochs": 0}, "epochs=0 is not usable"),
        ({"overrides": {"hiden_size": 3}}, "overrides: 'hiden_size' is not usable"),
        ({"overrides": {"num_elites": 9}}, "num_elites=9"),
        ({"name": "a/b"}, "name='a/b'"),
        ({"wandb": "perhaps"}, "perhaps"),
        ({"wandb_project": "a/b/c"}, "a/b/c"),
    ],
)
def test_bad_input_is_one_sentence_without_options_of_the_command(
    tmp_path: Path, asked: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(SweepError) as error:
        sweep().run(**{"scale": "smoke", "storage": tmp_path / "results", "wandb": "disabled", **asked}, quiet=True)
    assert words in str(error.value)
    assert not str(error.value).startswith("--")
    assert not (tmp_path / "results").exists()
    assert "WANDB_MODE" not in os.environ  # the next run is not disabled because this one was


# -- what the results give -----------------------------------------------------------------------------------------


@pytest.fixture
def results(make_plan_of: Callable[..., SweepPlan], tmp_path: Path) -> Callable[[], SweepResults]:
    """Ten epochs and two seeds: ``a=1`` at 1 and 3, ``a=2`` stopped after the fourth at 8, ``a=3`` with a lost seed."""
    plan = make_plan_of({"a=1": [(0,), (1,)], "a=2": [(0, 1)], "a=3": [(0, 1)]})
    folder = SweepFolder(tmp_path)
    folder.write({**plan_content(plan), "launches": [{}]})
    for epoch in range(1, 11):
        folder.append("a=1,seeds=1", result_of(epoch, {1: 3.0}))
        folder.append("a=1,seeds=0", result_of(epoch, {0: 1.0}))
        folder.append("a=3,seeds=0-1", result_of(epoch, {0: 9.0, 1: -5.0}, failed=(0,)))
    for epoch in range(1, 5):
        by = {"stopped_by": "ASHA"} if epoch == 4 else {}
        folder.append("a=2,seeds=0-1", result_of(epoch, {0: 2.0 * epoch, 1: 2.0 * epoch}, **by))
    end_launch(folder, 1.0, "incomplete", {})
    return lambda: SweepResults.load(tmp_path)


def test_a_table_has_a_row_per_cell_seed_and_epoch(results: Callable[[], SweepResults]) -> None:
    table = results().to_dataframe()
    assert len(table) == 20 + 8 + 20
    assert list(table.columns[:6]) == ["cell", "a", "seed", "training_iteration", "env_steps", "time_total_s"]
    own = table[(table["cell"] == "a=2") & (table["seed"] == 1)]
    assert list(own["eval/episode_return"]) == [2.0, 4.0, 6.0, 8.0]


def test_final_returns_by_cell_and_seed(results: Callable[[], SweepResults]) -> None:
    final = results().final()
    rows = list(final[["cell", "seed", "final_return", "epochs", "stopped_by"]].itertuples(index=False, name=None))
    assert rows[:4] == [
        ("a=1", 0, 1.0, 10, ""),
        ("a=1", 1, 3.0, 10, ""),
        ("a=2", 0, 8.0, 4, "ASHA"),
        ("a=2", 1, 8.0, 4, "ASHA"),
    ]
    assert list(final["problem"])[4:] == ["became NaN in epoch 1", ""]


def test_the_best_came_to_its_end_and_lost_seeds_count(results: Callable[[], SweepResults]) -> None:
    ranking = results().ranking()
    assert [own.label for own in ranking] == ["a=1", "a=3", "a=2"]
    assert [own.statistics.iqm for own in ranking] == [2.0, -5.0, 8.0]
    assert shlex.split(results().best().set_options) == ["--set", "a='1'"]  # a text there, which looks like a number
    assert str(ranking[0]).startswith("a=1: 2.00 [1.00, 3.00]")


def test_settings_are_read_back_as_options() -> None:
    axes = {
        "lr": 3e-4,
        "loss": "mse",
        "sizes": [64, 64],
        "word": "1e5",
        "env_config.g": 9.81,
        "flag": True,
        "none": None,
    }
    own = CellResult(label="", axes=axes, seeds=(0,), final_returns={0: 1.0}, missing={})
    words = shlex.split(own.set_options)
    assert words[::2] == ["--set"] * len(axes)
    assert parse_assignments(words[1::2]) == axes


def test_a_checkpoint_is_found_by_cell_and_seed(results: Callable[[], SweepResults], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        results().checkpoint("a=2", 1)
    with pytest.raises(KeyError, match="no seed 7"):
        results().checkpoint(0, 7)
    with pytest.raises(KeyError, match="3 cells have 'a='"):
        results().checkpoint("a=", 0)
    with pytest.raises(KeyError, match="no cell 5"):
        results().checkpoint(5, 0)


def test_a_sweep_without_returns_has_no_best(make_plan_of: Callable[..., SweepPlan], tmp_path: Path) -> None:
    SweepFolder(tmp_path).write(plan_content(make_plan_of({"a=1": [(0,)]})))
    with pytest.raises(ValueError, match="no final returns yet"):
        SweepResults.load(tmp_path).best()


def test_a_ray_that_is_there_is_used_and_left(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    for name in ("TUNE_GLOBAL_CHECKPOINT_S", "RAY_AIR_NEW_OUTPUT", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_RUN_ID", "somebodys")
    monkeypatch.setattr(logging, "raiseExceptions", True)
    logging.getLogger("ray.tune").setLevel(logging.INFO)
    before = dict(os.environ)
    small = Sweep(name="one", config=small_config(model_loss=tune.grid_search(["none"])), epochs=1)
    found = small.run(storage=tmp_path, wandb="disabled", quiet=True)
    assert ray.is_initialized()
    assert found.best().label == "model_loss=none"
    assert dict(os.environ) == before and logging.raiseExceptions
    assert logging.getLogger("ray.tune").level == logging.INFO
