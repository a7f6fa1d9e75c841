"""The warning about fits that reach their limit: where it stands, and that it is silent without reason."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.report.synthetic import cell_of, comparison_of, write_sweep
from vagram_ray.records.fit_limit import FIT_LIMIT_METRIC, fit_limit_warning, shares_at_limit
from vagram_ray.records.results import SweepResults
from vagram_ray.records.summary import print_summary, summary_markdown, warnings
from vagram_ray.report import load_comparison
from vagram_ray.report.verdict import verdict
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.view.progress import ProgressTable, ProgressView, SweepProgress

SENTENCE = (
    "model_loss=nll: 20 % of the model fits so far ended at model_max_epochs before early stopping did: "
    "raise model_max_epochs, or remove it (None)."
)


def test_shares_are_those_of_all_seeds_and_epochs() -> None:
    records = [
        {"seeds": {"0": {FIT_LIMIT_METRIC: 0.5}, "1": {FIT_LIMIT_METRIC: 0.0}}},
        {"seeds": {"0": {FIT_LIMIT_METRIC: 0.1}, "1": {"model/train_loss": 1.0}}},
    ]
    assert shares_at_limit(records) == [0.5, 0.0, 0.1]
    assert fit_limit_warning("model_loss=nll", shares_at_limit(records)) == SENTENCE  # 0.6 / 3
    assert fit_limit_warning("x", []) == fit_limit_warning("x", [0.1, 0.0]) == ""  # 5 % is tolerated
    assert fit_limit_warning("x", [0.1, 0.02]) != ""


def sweep_at_limit(folder: Path) -> Path:
    """Two cells of two epochs: ``nll`` reaches the limit in a fifth of its fits, ``vagram`` has no record of them."""
    write_sweep(folder, {"vagram": {0: [1.0, 2.0]}, "nll": {0: [1.0, 2.0]}})
    path = folder / "records" / "model_loss=nll,seeds=0-0.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line, share in zip(lines, (0.4, 0.0), strict=True):
        line["seeds"]["0"][FIT_LIMIT_METRIC] = share
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_summary_and_report_say_it_in_one_line(tmp_path: Path) -> None:
    folder = sweep_at_limit(tmp_path / "s")
    results = SweepResults.load(folder)
    assert list(warnings(results)) == [SENTENCE]
    console = Console(file=io.StringIO(), width=80)
    print_summary(results, console)
    assert f"{SENTENCE}\n" in console.file.getvalue()  # type: ignore[attr-defined]
    assert f"\n{SENTENCE}\n" in summary_markdown(results)
    assert verdict(load_comparison([folder])).count(SENTENCE) == 1
    assert not any("model_max_epochs" in text for text in verdict(comparison_of(cell_of([1.0, 2.0]))))


def test_the_live_view_says_it_as_long_as_it_holds(
    make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> None:
    def result(epoch: int, share: float) -> dict[str, Any]:
        made = make_result(epoch, {0: 1.0})
        made["seeds"]["seed_0"]["model"] = {"fit_limit_reached": share}
        return made

    name = "model_loss=nll,seeds=0"
    progress = SweepProgress(make_plan_of({"model_loss=nll": [(0,)], "model_loss=mse": [(0,)]}, epochs=30))
    console = Console(file=io.StringIO(), width=100)
    with ProgressView(progress, console, interval_s=0.0) as view:
        for epoch, share in ((1, 0.4), (2, 0.0), (2, 0.2), (2, 0.0)):  # epoch 2 again, from a checkpoint
            progress.reported(name, result(epoch, share))
            view.reported(name)
    assert progress.fit_limit_warnings() == [SENTENCE]
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert sum("model_max_epochs" in line for line in lines) == 1  # once in a log

    def table() -> str:
        shown = Console(file=io.StringIO(), width=200)
        shown.print(ProgressTable(progress))
        return shown.file.getvalue()  # type: ignore[attr-defined]

    assert SENTENCE in table()
    for epoch in range(3, 9):
        progress.reported(name, result(epoch, 0.0))
    assert "model_max_epochs" not in table()  # 0.4 / 8 is 5 %
