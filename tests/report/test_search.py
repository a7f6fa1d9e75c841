"""The report of a search: ranking, settings as options, what matters, and experiments of plain Tune."""

from __future__ import annotations

import builtins
import csv
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.sweep.conftest import result_of
from vagram_ray.records import SweepFolder
from vagram_ray.report import load_comparison, search_importance
from vagram_ray.report.commandline import main
from vagram_ray.report.search import Scale, Search, is_search
from vagram_ray.report.search_importance import importance
from vagram_ray.report.statistics import iqm_curve
from vagram_ray.sweep.plan.overrides import parse_assignments

SEEDS, EPOCHS = (100, 101, 102, 103, 104), 10


def settings(number: int) -> dict[str, Any]:
    generator = np.random.default_rng(number)
    return {
        "model_lr": float(10 ** generator.uniform(-4, -2)),
        "utd_ratio": int(generator.choice([2, 5, 10])),
        "mix": "a",
    }


def quality(own: dict[str, Any]) -> float:
    """Falls with the distance of the step size from 0.001; the other settings change nothing."""
    return -100 * abs(np.log10(own["model_lr"]) + 3)


def write_sweep(folder: Path, samples: int = 16, **more: Any) -> list[dict[str, Any]]:
    """A search whose third and fourth samples were stopped after four epochs."""
    cells = [settings(number) for number in range(samples)]
    names = [f"sample={number},seeds=100-104" for number in range(samples)]
    sweep = SweepFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sweep.write(
        {
            "name": "tuning", "epochs": EPOCHS, "seeds": SEEDS, "return_metric": "eval/episode_return",
            "cells": [{"label": f"sample={number}", "axes": own} for number, own in enumerate(cells)],
            "trials": [{"name": name, "cell": number, "seeds": SEEDS} for number, name in enumerate(names)],
            "launches": [{}], "wall_time_s": 1.0,
            "tuning": {"metric": "eval/episode_return_iqm", "mode": "max", "search_alg": "OptunaSearch"}, **more,
        }
    )  # fmt: skip
    for number, own in enumerate(cells):
        last = 4 if number in (2, 3) else EPOCHS
        for epoch in range(1, last + 1):
            by = {"stopped_by": "ASHA"} if epoch == last < EPOCHS else {}
            returns = {seed: quality(own) - 50 / epoch + place for place, seed in enumerate(SEEDS)}
            sweep.append(names[number], result_of(epoch, returns, **by))
    return cells


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output + result.stderr
    return result.output


def test_a_search_is_ranked_and_its_best_settings_are_options(tmp_path: Path) -> None:
    cells = write_sweep(tmp_path)
    output = run(str(tmp_path))
    complete = [number for number in range(16) if number not in (2, 3)]
    order = sorted(complete, key=lambda number: -quality(cells[number])) + sorted(
        (2, 3), key=lambda number: -quality(cells[number])
    )
    with (tmp_path / "report" / "ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == [f"sample={number}" for number in order]
    assert [row["stopped_by"] for row in rows] == [""] * 14 + ["ASHA"] * 2
    best = cells[order[0]]
    line = next(line for line in output.splitlines() if "--set" in line)
    words = shlex.split(line.partition("options: ")[2])
    assert parse_assignments(words[1::2]) == best
    assert "2 of 16 samples stopped early (ASHA)" in output
    assert "What matters most is model_lr" in output
    page = (tmp_path / "report" / "report.html").read_text()
    for title in ("Ranking", "Return against each hyperparameter", "Parallel coordinates", "Importance", "by rank"):
        assert title in page
    for name in ("return_by_hyperparameter", "parallel_coordinates", "importance", "curves_by_rank"):
        assert (tmp_path / "report" / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / "report" / f"{name}.pdf").is_file()


def test_the_importance_is_that_of_the_setting_that_matters(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    write_sweep(tmp_path, 32)
    told = importance(Search(load_comparison([tmp_path])))
    assert next(iter(told.values)) == "model_lr"
    assert told.values["model_lr"][0] > 10 * abs(told.values["utd_ratio"][0])
    assert "mix" not in told.values  # it does not vary
    assert "at step 450, the last that all have reached" in told.note


def test_without_scikit_learn_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sweep(tmp_path)
    monkeypatch.setattr(search_importance, "find_spec", lambda name: None)
    output = run(str(tmp_path))
    assert 'needs scikit-learn: pip install "vagram_ray[optuna]"' in " ".join(output.split())
    assert not (tmp_path / "report" / "importance.png").exists()


def test_a_search_that_has_just_begun_is_a_report_too(tmp_path: Path) -> None:
    write_sweep(tmp_path, 2)
    for file in (tmp_path / "records").iterdir():
        file.unlink()
    assert "None of 2 samples has a return yet." in run(str(tmp_path))


def test_a_comparison_of_axes_is_no_search() -> None:
    grid = [{"axes": {"model_loss": loss, "num_distractors": n}} for loss in ("nll", "mse") for n in (0, 5, 10)]
    assert not is_search({"cells": grid})
    assert not is_search({"cells": [{"axes": {"utd_ratio": number}} for number in (1, 2, 5, 10)]})
    drawn = [{"axes": {"model_lr": 0.1 / number, "utd_ratio": number % 2}} for number in range(1, 7)]
    assert is_search({"cells": drawn})


def test_scales_are_logarithmic_over_orders_of_magnitude_and_words_have_places() -> None:
    assert Scale.of("x", [1e-4, 1e-2]).logarithmic and not Scale.of("x", [1, 10]).logarithmic
    words = Scale.of("x", [[1, 2], [0, 1], [1, 2]])
    assert (words.words, words.place([1, 2])) == (("0x1", "1x2"), 1.0)


# -- plain Tune ----------------------------------------------------------------------------------------------------


def write_tune(folder: Path, kind: str) -> None:
    """Three trials of ``tune.Tuner("MBPO")`` as Tune's loggers leave them; the last one was stopped after one epoch."""
    for number, lr in enumerate((1e-4, 1e-3, 1e-2)):
        trial = folder / f"MBPO_Pendulum-v1_{number}"
        trial.mkdir(parents=True)
        (trial / "params.json").write_text(
            json.dumps({"env": "Pendulum-v1", "_lr": lr, "seeds": [0, 1], "n": {"a": 1}})
        )
        rows = [
            {
                "training_iteration": epoch, "env_steps": 100 * epoch,
                "eval": {"episode_return_iqm": 10.0 * number + epoch, "episode_return": float("nan")},
                "seeds": {f"seed_{s}": {"eval": {"episode_return": 10.0 * number + epoch + s}} for s in (0, 1)},
            }
            for epoch in range(1, 2 if number == 2 else 4)
        ]  # fmt: skip
        if kind == "json":
            (trial / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"half')
        else:
            with (trial / "progress.csv").open("w", newline="") as file:
                names = ["training_iteration", "env_steps", "eval/episode_return_iqm"]
                seeds = ["seeds/seed_0/eval/episode_return", "seeds/seed_1/eval/episode_return"]
                writer = csv.DictWriter(file, [*names, *seeds])
                writer.writeheader()
                for row in rows:
                    values = (row["training_iteration"], row["env_steps"], row["eval"]["episode_return_iqm"])
                    own = [row["seeds"][f"seed_{s}"]["eval"]["episode_return"] for s in (0, 1)]
                    writer.writerow(dict(zip([*names, *seeds], [*values, *own], strict=True)))
    (folder / "tuner.pkl").write_bytes(b"never read")


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_folder_of_plain_tune_is_a_search(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tune(tmp_path / "MBPO_2026", kind)
    original = builtins.__import__

    def no_pickle(name: str, *args: Any, **kwargs: Any) -> Any:
        assert name not in ("cloudpickle", "ray")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pickle)
    search = Search(load_comparison([tmp_path / "MBPO_2026"]))
    assert search.facts.search
    assert [sample.label for sample in search.samples] == ["lr=0.001", "lr=0.0001", "lr=0.01"]
    best = search.samples[0]
    assert dict(best.final_returns) == {0: 13.0, 1: 14.0}  # each seed at the third epoch
    steps, values = iqm_curve(best)
    assert list(steps) == [100, 200, 300] and list(values) == [11.5, 12.5, 13.5]
    assert [sample.stopped_by for sample in search.samples] == ["", "", "Tune"]


def write_trial(trial: Path, lr: float, rows: list[dict[str, Any]]) -> None:
    trial.mkdir(parents=True)
    (trial / "params.json").write_text(json.dumps({"lr": lr}))
    (trial / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_iterations_that_were_done_again_after_a_restore_count_once(tmp_path: Path) -> None:
    def row(iteration: int, value: float) -> dict[str, Any]:
        return {"training_iteration": iteration, "env_steps": 100 * iteration, "train": {"episode_return_iqm": value}}

    write_trial(tmp_path / "x" / "whole", 0.1, [row(n, float(n)) for n in range(1, 6)])
    again = [row(n, float(n)) for n in (1, 2, 3, 4)] + [row(n, 10.0 * n) for n in (3, 4, 5)]
    write_trial(tmp_path / "x" / "restored", 0.2, again)
    restored, whole = load_comparison([tmp_path / "x"]).cells
    assert (restored.epochs, whole.epochs, restored.stopped, whole.stopped) == (5, 5, {}, {})
    assert restored.returns[0].values.tolist() == [1.0, 2.0, 30.0, 40.0, 50.0]


def test_seeds_of_a_cohort_that_broke_are_missing(tmp_path: Path) -> None:
    nan = float("nan")

    def row(iteration: int, values: list[float], failed: int = 0) -> dict[str, Any]:
        seeds = {f"seed_{s}": {"train": {"episode_return": v}, "failed": 0} for s, v in enumerate(values)}
        seeds["seed_0"]["failed"] = failed  # its environment goes on
        mean = {"episode_return_iqm": float(np.nanmean(values)) if np.isfinite(values).any() else nan}
        return {"training_iteration": iteration, "env_steps": 100 * iteration, "train": mean, "seeds": seeds}

    write_trial(tmp_path / "x" / "a", 0.1, [row(1, [1.0, 2.0, 3.0]), row(2, [1.0, nan, 4.0], failed=1)])
    write_trial(tmp_path / "x" / "b", 0.2, [row(1, [1.0]), row(2, [nan])])
    whole = {"env_steps": 100, "train": {"episode_return_iqm": 7.0}}
    broken = {"env_steps": 200, "train": {"episode_return_iqm": nan}}
    write_trial(tmp_path / "x" / "c", 0.3, [whole, broken])
    no_return = "has no return at the end"
    first, second, third = load_comparison([tmp_path / "x"]).cells
    assert (first.seeds, first.final_returns) == ((0, 1, 2), {2: 4.0})
    assert first.missing == {0: no_return, 1: no_return}
    assert {seed: curve.values.tolist() for seed, curve in first.returns.items()} == {0: [1.0], 1: [2.0], 2: [3.0, 4.0]}
    assert [(cell.final_returns, cell.missing) for cell in (second, third)] == [({}, {0: no_return})] * 2


def test_the_report_of_plain_tune_is_written(tmp_path: Path) -> None:
    write_tune(tmp_path / "MBPO_2026", "json")
    output = run(str(tmp_path / "MBPO_2026"), "--output", str(tmp_path / "out"))
    assert "Best of 3 samples: lr=0.001: 13.5" in " ".join(output.split())
    assert (tmp_path / "out" / "report.html").is_file()


def test_trials_without_a_return_are_one_sentence(tmp_path: Path) -> None:
    trial = tmp_path / "x" / "trial"
    trial.mkdir(parents=True)
    (trial / "params.json").write_text("{}")
    (trial / "result.json").write_text('{"training_iteration": 1, "loss": 2.0}\n')
    result = CliRunner().invoke(main, [str(tmp_path / "x")])
    assert result.exit_code == 2
    assert "reports a return" in result.stderr and len(result.stderr.splitlines()) == 1
