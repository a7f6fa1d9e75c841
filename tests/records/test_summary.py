"""Final returns against numbers worked out by hand; a sweep with a missing seed is never called complete."""

from __future__ import annotations

import csv
import io
import math
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.results import SweepResults
from vagram_ray.records.seed_statistics import interquartile_mean, summarize
from vagram_ray.records.summary import print_summary, verdict, write_summary
from vagram_ray.report.sweep_source import read_sweep
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.run.run import Outcome
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.summary import main
from vagram_ray.sweep.view.end import last_line, print_closing


def test_the_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    assert interquartile_mean([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -100.0]) == (2 + 3 + 4 + 5) / 4
    assert interquartile_mean([1.0, 2.0, 30.0]) == 11.0  # a quarter of three seeds is none
    assert interquartile_mean([7.0]) == 7.0
    assert math.isnan(interquartile_mean([]))


def test_statistics_by_hand() -> None:
    statistics = summarize([2.0, 4.0, 6.0, 8.0])
    assert (statistics.count, statistics.iqm, statistics.mean) == (4, 5.0, 5.0)
    # Deviations -3, -1, 1, 3: variance 20 / 3, divided by 4 seeds.
    assert statistics.standard_error == pytest.approx(math.sqrt(20 / 3 / 4))
    assert 2.0 <= statistics.low < 5.0 < statistics.high <= 8.0
    assert summarize([2.0, 4.0, 6.0, 8.0]) == statistics


def test_statistics_of_too_few_seeds_are_left_open() -> None:
    one = summarize([3.0])
    assert (one.count, one.iqm, one.mean) == (1, 3.0, 3.0)
    assert math.isnan(one.low)
    assert math.isnan(one.standard_error)
    assert summarize([]).count == 0
    equal = summarize([3.0, 3.0, 3.0])
    assert (equal.low, equal.high) == (3.0, 3.0)


Build = Callable[..., SweepResults]


@pytest.fixture
def build(tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]) -> Build:
    """Writes a sweep that has ended, with one cell and one trial of the given seeds, and reads it back."""

    def build_summary(returns: dict[int, list[float]], *, epochs: int = 20, failed: dict[int, int] | None = None):
        seeds = tuple(returns)
        SweepFolder(tmp_path).write(plan_content(make_plan_of({"a=1": [seeds]}, epochs=epochs)))
        for epoch in range(1, max(len(values) for values in returns.values()) + 1):
            now = {seed: values[epoch - 1] for seed, values in returns.items()}
            bad = tuple(seed for seed, at in (failed or {}).items() if epoch >= at)
            SweepFolder(tmp_path).append(f"a=1,seeds={'-'.join(map(str, seeds))}", make_result(epoch, now, failed=bad))
        SweepFolder(tmp_path).update(lambda _: {"wall_time_s": 5.0})
        return SweepResults.load(tmp_path)

    return build_summary


def test_the_final_return_is_the_mean_over_the_last_tenth(build: Build) -> None:
    # 20 epochs: the last two count.
    results = build({0: [0.0] * 18 + [10.0, 20.0], 1: [0.0] * 18 + [30.0, 50.0]})
    assert dict(results.cells[0].final_returns) == {0: 15.0, 1: 40.0}
    assert results.complete
    assert verdict(results) == "Complete: every seed of 1 cell came to its end (2 in all)."


def test_the_last_evaluation_counts_when_none_fell_into_the_last_tenth(build: Build, tmp_path: Path) -> None:
    results = build({0: [1.0, 2.0, 3.0, *[math.nan] * 17]})
    assert dict(results.cells[0].final_returns) == {0: 3.0}
    assert results.cells[0].notes == "seed 0 with the last value, of epoch 3"
    write_summary(results)
    (row,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert (row["missing"], row["notes"]) == ("", "seed 0 with the last value, of epoch 3")
    assert "| 1/1 |  | seed 0 with the last value, of epoch 3 |" in (tmp_path / "summary.md").read_text()
    assert "a=1: seed 0 with the last value, of epoch 3" in closing_text(results, Outcome(5.0, {}, False, ()), tmp_path)


@pytest.mark.parametrize(
    ("epochs", "where"), [(1, "epoch 1"), (10, "epoch 10"), (20, "epochs 19-20"), (70, "epochs 64-70")]
)
def test_what_a_final_return_is_stands_below_the_tables(epochs: int, where: str, build: Build, tmp_path: Path) -> None:
    results = build({0: [1.0] * epochs}, epochs=epochs)
    assert not results.cells[0].early
    sentence = (
        f"Final return: mean of a seed's values of eval/episode_return in the last tenth of the epochs, here {where}."
    )
    assert sentence in " ".join(closing_text(results, Outcome(5.0, {}, False, ()), tmp_path).split())
    write_summary(results)
    assert f"\n\n{sentence}\n" in (tmp_path / "summary.md").read_text()


def test_a_sweep_with_a_missing_seed_is_not_complete(build: Build) -> None:
    for results, reason in (
        (build({0: [1.0] * 12}), "seed 0 stopped after epoch 12 of 20"),
        (build({0: [1.0] * 20, 1: [math.nan] * 20}, failed={1: 7}), "seed 1 became NaN in epoch 7"),
        (build({0: [math.nan] * 20}), "seed 0 has no eval/episode_return"),
    ):
        assert not results.complete
        assert verdict(results).startswith("NOT COMPLETE")
        assert results.cells[0].missing_in_words == reason


def test_a_seed_that_its_environment_cost_does_not_read_like_one_that_diverged(
    tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> None:
    folder = SweepFolder(tmp_path)
    folder.write(plan_content(make_plan_of({"a=1": [(0, 1, 2)]}, epochs=2)))
    for epoch in (1, 2):
        result = make_result(epoch, {0: 1.0, 1: math.nan, 2: math.nan}, failed=(1, 2))
        result["seeds"]["seed_2"]["environment_fault"] = 1
        folder.append("a=1,seeds=0-1-2", result)
    results = SweepResults.load(tmp_path)
    reasons = "seed 1 became NaN in epoch 1; seed 2 got no finite number from the environment in epoch 1"
    assert results.cells[0].missing_in_words == reasons
    assert read_sweep(tmp_path).cells[0].missing[2] == "got no finite number from the environment in epoch 1"


def test_a_trial_that_never_reported_is_missing(tmp_path: Path, make_plan_of: Callable[..., SweepPlan]) -> None:
    SweepFolder(tmp_path).write(plan_content(make_plan_of({"a=1": [(0, 1)], "a=2": [(0, 1)]})))
    SweepFolder(tmp_path).update(lambda _: {"wall_time_s": 5.0})
    results = SweepResults.load(tmp_path)
    assert verdict(results) == "NOT COMPLETE: 0 of 4 seeds came to their end, counted over all cells."
    assert results.cells[1].missing_in_words == "seeds 0-1 never reported"
    assert results.cells[1].statistics.count == 0


def test_the_summary_is_saved_in_full(build: Build, tmp_path: Path) -> None:
    results = build({0: [1.0] * 20, 1: [2.0] * 20, 2: [math.nan] * 20}, failed={2: 3})
    write_summary(results)
    (row,) = csv.DictReader((tmp_path / "summary.csv").open())
    # The seed that became NaN counts as the worst: 1, 2 and 1 with mean 4/3 and variance (1/9 + 4/9 + 1/9) / 2 = 1/3.
    assert row["cell"] == "a=1"
    assert [float(row[name]) for name in ("iqm", "mean", "standard_error")] == pytest.approx([4 / 3, 4 / 3, 1 / 3])
    assert (row["num_seeds"], row["num_planned"], row["missing"]) == ("2", "3", "seed 2 became NaN in epoch 3")
    note = "seed 2 counts as the worst final return of the cell, 1.00"
    assert (row["counted_as_worst"], row["notes"]) == ("2", note)
    text = (tmp_path / "summary.md").read_text()
    assert f"| a=1 | 1.33 | [1.00, 2.00] | 1.33 ± 0.333 | 2/3 | seed 2 became NaN in epoch 3 | {note} |" in text
    assert f"  a=1: {note}\n" in closing_text(results, Outcome(5.0, {}, False, ()), tmp_path)
    assert "NOT COMPLETE" in text


def test_a_pending_seed_is_left_out_and_one_of_a_failed_trial_counts(
    tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> None:
    """Of five seeds 0 and 1 are at their end, 2 became NaN, the trial of 3 is under way, that of 4 has not begun."""
    packs = [(0, 1), (2,), (3,), (4,)]
    SweepFolder(tmp_path).write(plan_content(make_plan_of({"a=1": packs, "a=2": packs}, epochs=10)))
    for epoch in range(1, 11):
        SweepFolder(tmp_path).append("a=1,seeds=0-1", make_result(epoch, {0: -10.0, 1: -50.0}))
        if epoch <= 6:
            SweepFolder(tmp_path).append("a=1,seeds=3", make_result(epoch, {3: -900.0}))
        SweepFolder(tmp_path).append("a=1,seeds=2", make_result(epoch, {2: math.nan}, failed=(2,)))
    running = SweepResults.load(tmp_path).cells[0]
    assert (running.lost, running.worst) == ((2,), (2,))
    assert (running.statistics.count, running.statistics.mean) == (3, pytest.approx((-10 - 50 - 50) / 3))
    assert sorted(running.missing) == [2, 3, 4]
    SweepFolder(tmp_path).update(lambda _: {"wall_time_s": 5.0, "interrupted": True, "failed_trials": {}})
    interrupted = SweepResults.load(tmp_path)
    assert interrupted.cells[0].pending == running.pending == {3, 4}
    assert interrupted.cells[0].scores == running.scores
    assert (
        interrupted.cells[0].notes
        == "seed 2 counts as the worst final return of the cell, -50.0; seeds 3-4 are left out"
    )
    assert not interrupted.complete
    failed = {f"a={cell},seeds={seeds}": "error.txt" for cell in (1, 2) for seeds in ("0-1", "2", "3", "4")}
    del failed["a=1,seeds=0-1"]
    SweepFolder(tmp_path).update(lambda _: {"failed_trials": failed})
    ended, nothing = SweepResults.load(tmp_path).cells
    assert ended.lost == (2, 3, 4)
    # -10, and four times -50: a quarter of five is one at either end, which leaves three times -50.
    assert (ended.statistics.count, ended.statistics.iqm, ended.statistics.mean) == (5, -50.0, -42.0)
    assert ended.worst_in_words == "seeds 2-4 count as the worst final return of the cell, -50.0"
    assert (nothing.lost, nothing.worst, nothing.statistics.count) == ((0, 1, 2, 3, 4), (), 0)
    assert nothing.worst_in_words == ""


def closing_text(results: SweepResults, outcome: Outcome, folder: Path) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_closing(results, outcome, SweepStorage(str(folder.parent), folder.name), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_end_names_what_failed_and_where_everything_lies(build: Build, tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text("Traceback ...\nRuntimeError: boom\n\n")
    assert last_line(str(tmp_path / "error.txt")) == "RuntimeError: boom"
    assert last_line(str(tmp_path / "nothing")) == ""
    run = tmp_path / "wandb" / "offline-run-1"
    outcome = Outcome(75.0, {"a=1,seeds=0": str(tmp_path / "error.txt")}, False, (run,))
    text = closing_text(build({0: [1.0] * 12}), outcome, tmp_path)
    for part in (
        "NOT COMPLETE: 0 of 1 seeds",
        "a=1: seed 0 stopped after epoch 12 of 20",
        "The trial a=1,seeds=0 failed (RuntimeError: boom):",
        "error.txt",
        "Wall time: 75 s",
        "summary.md",
        "results.csv",
        "wandb sync",
        "wandb beta leet",
    ):
        assert part in text
    assert "interrupted" not in text


def test_every_output_of_the_end_says_what_was_run(build: Build, tmp_path: Path) -> None:
    build({0: [1.0] * 20, 1: [2.0] * 20})
    settings = {"env": "Pendulum-v1", "num_distractors": 5, "model_loss": "vagram", "utd_ratio": 10}
    replaced = "laptop scale: Pendulum-v1 instead of the paper scale's Hopper-v4"
    SweepFolder(tmp_path).update(lambda _: {"settings": settings, "replaced_task": replaced})
    results = SweepResults.load(tmp_path)
    task = "Pendulum-v1 | 5 distractors | vagram | 2 seeds x 2,050 steps | 10 updates per step"
    lines = closing_text(results, Outcome(5.0, {}, False, ()), tmp_path).splitlines()
    assert [line.strip() for line in lines[:3]] == ["", task, replaced]
    write_summary(results)
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith(f"# a-sweep\n\n{task.replace('|', chr(92) + '|')}\n\n{replaced}\n\nComplete")
    (row,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert row["task"] == task
    few = "Intervals of fewer than 5 seeds are too narrow: they decide nothing."
    assert few in text and any(few in line for line in lines)


def test_the_end_table_fits_80_columns_without_breaking_a_name(
    tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> None:
    content = plan_content(make_plan_of({"a=1": [(0, 1)], "a=2": [(0, 1)]}, epochs=1))
    for cell, distractors in zip(content["cells"], (5, 10), strict=True):
        axes = {"num_distractors": distractors, "model_loss": "vagram"}
        cell |= {"axes": axes, "label": f"num_distractors={distractors}, model_loss=vagram"}
    SweepFolder(tmp_path).write(content)
    for trial in content["trials"]:
        SweepFolder(tmp_path).append(trial["name"], make_result(1, {0: -1234.5, 1: -1111.5}))
    results = SweepResults.load(tmp_path)
    for width, name in ((80, "10, vagram "), (140, "num_distractors=10, model_loss=vagram ")):
        console = Console(file=io.StringIO(), width=width)
        print_summary(results, console)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert max(map(len, lines)) <= width
        (row,) = (line for line in lines if line.startswith(name))
        assert row.split("  ")[0].strip() == name.strip() and "[-1,234, -1,112]" in row and row.rstrip().endswith("2/2")


def test_the_end_names_the_next_commands_ready_to_be_pasted(
    tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> None:
    """The report, and the policy of the best cell: arguments that the commands take as they stand."""
    folder = tmp_path / "my results"
    SweepFolder(folder).write(plan_content(make_plan_of({"a=x y": [(0,)], "a=z": [(0,)]}, epochs=1)))
    nothing = closing_text(SweepResults.load(folder), Outcome(5.0, {}, False, ()), folder)
    assert "vagram_ray.report" not in nothing and "vagram_ray.play" not in nothing
    for name, value in (("a=x y,seeds=0", 3.0), ("a=z,seeds=0", 2.0)):
        SweepFolder(folder).append(name, make_result(1, {0: value}))
    text = closing_text(SweepResults.load(folder), Outcome(5.0, {}, False, ()), folder)
    commands = [shlex.split(line[line.index("python -m") :]) for line in text.splitlines() if "python -m" in line]
    shown = str(folder)
    assert commands == [
        ["python", "-m", "vagram_ray.report", shown],
        ["python", "-m", "vagram_ray.play", shown, "--cell", "a=x y"],
    ]


def test_the_end_of_an_interrupted_sweep_says_how_to_go_on(build: Build, tmp_path: Path) -> None:
    command = f"python -m vagram_ray.sweep {'a-long-name-' * 12}.py --set 'model_loss=grid(nll,mse)'"  # never wrapped
    text = closing_text(build({0: [1.0] * 12}), Outcome(5.0, {}, True, (), command=command), tmp_path)
    lines = [line.strip() for line in text.splitlines()]
    first = lines.index("The sweep was interrupted. Run the same command again to go on:")
    assert lines[first + 1 : first + 3] == [command, "Wall time: 5 s"]
    assert "W&B" not in text


def test_the_way_on_is_told_as_long_as_there_is_one(build: Build, tmp_path: Path) -> None:
    outcome = Outcome(5.0, {"a=1,seeds=0": "error.txt"}, False, (), launches=3, total_seconds=125.0, command="again")
    text = closing_text(build({0: [1.0] * 12}), outcome, tmp_path)
    assert "Run the same command again to try what failed once more:\n  again\n" in text
    assert "Wall time: 5 s; 2 min over 3 launches" in text
    text = closing_text(build({0: [1.0] * 12}), replace(outcome, failed={}, interrupted=False), tmp_path)
    assert "Run the same command again to go on:\n  again\n" in text
    # A seed that became NaN stays so, however often it is run.
    text = closing_text(build({0: [1.0] * 20}, failed={0: 7}), replace(outcome, seconds=0.0, failed={}), tmp_path)
    assert "again" not in text
    assert "Wall time: 2 min over 3 launches\n" in text


def test_a_gap_in_the_records_is_told_of(
    tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> None:
    SweepFolder(tmp_path).write(plan_content(make_plan_of({"a=1": [(0, 1)]}, epochs=10)))
    for epoch in (1, 2, 3, 6, 7, 8, 9, 10):
        SweepFolder(tmp_path).append("a=1,seeds=0-1", make_result(epoch, {0: 1.0, 1: 1.0}))
    results = SweepResults.load(tmp_path)
    assert results.cells[0].missing_in_words == "seeds 0-1 lost the records of 2 epochs from epoch 4 on"
    assert (results.complete, results.unfinished) == (False, 1)


def test_the_command_writes_the_tables_anew_from_the_records(
    build: Build, tmp_path: Path, make_result: Callable[..., dict[str, Any]]
) -> None:
    build({0: [1.0] * 12})
    SweepFolder(tmp_path).update(lambda _: {"wall_time_s": 5.0, "interrupted": True, "launches": [{}, {}]})
    stopped = CliRunner().invoke(main, [str(tmp_path)])
    assert stopped.exit_code == 1, stopped.output
    assert "NOT COMPLETE: 0 of 1 seeds" in stopped.output
    assert "a=1: seed 0 stopped after epoch 12 of 20" in stopped.output
    for epoch in range(11, 21):  # as a trial does that goes on from its checkpoint: epoch 11 and 12 once more
        SweepFolder(tmp_path).append("a=1,seeds=0", make_result(epoch, {0: float(epoch)}))
    done = CliRunner().invoke(main, [str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "Complete: every seed of 1 cell" in done.output
    assert "19.5" in done.output
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [float(row["eval/episode_return"]) for row in rows] == [1.0] * 10 + [float(e) for e in range(11, 21)]
    (row,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert (row["mean"], row["num_seeds"], row["missing"]) == ("19.5", "1", "")
    assert "- Wall time: 5 s (until it was interrupted)\n- Launches: 2" in (tmp_path / "summary.md").read_text()


def test_the_command_refuses_what_is_no_sweep_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vagram_ray.sweep.summary", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"Error: '{tmp_path}' is not the folder of a sweep: there is no sweep.json in it.\n"
    (tmp_path / "sweep.json").write_text("{")
    broken = CliRunner().invoke(main, [str(tmp_path)])
    assert broken.exit_code == 2
    assert "cannot be read, its sweep.json is damaged (" in broken.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]
