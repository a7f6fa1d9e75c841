"""Other people's results: the long format, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.report.synthetic import RETURN, long_csv, write_sweep
from vagram_ray.report import Comparison, InputError, load_comparison
from vagram_ray.report.importers import parse_value

ROWS = [
    (algorithm, seed, step, value + seed)
    for algorithm, value in (("sac", 1.0), ("mbpo", 5.0))
    for seed in (0, 3)
    for step, value in ((1000, 0.0), (1900, value - 1), (2000, value))
]
HEADER = "algorithm,seed,env_steps,value"


def load_csv(path: Path, text: str) -> Comparison:
    path.write_text(text)
    return load_comparison([path])


# -- the long format ---------------------------------------------------------------------------------------------


def test_the_smallest_file(tmp_path: Path) -> None:
    comparison = load_comparison([long_csv(tmp_path / "theirs.csv", ROWS, HEADER)])
    sac, mbpo = comparison.cells
    assert (sac.experiment, sac.label, sac.axes, sac.seeds) == ("theirs", "algorithm=sac", {"algorithm": "sac"}, (0, 3))
    assert sac.returns[3].env_steps.tolist() == [1000, 1900, 2000]
    assert sac.returns[3].values.tolist() == [3.0, 3.0, 4.0]
    # The last tenth of 2,000 steps is what lies beyond 1,800.
    assert (sac.final_returns, mbpo.final_returns) == ({0: 0.5, 3: 3.5}, {0: 4.5, 3: 7.5})
    assert (sac.planned_env_steps, comparison.return_metric, comparison.lines) == (2000, RETURN, ("sac", "mbpo"))
    details = comparison.experiments[0].details
    assert (details["File"], details["Seeds"], details["Values"]) == ("theirs.csv", "0,3", "12")


def test_every_column(tmp_path: Path) -> None:
    text = (
        "\ufeffexperiment,task,lr,metric,seed,env_steps,value\r\n"
        'one,"Hopper, easy",1e-3,eval/episode_return,0,1e3,1.5\r\n'
        'one,"Hopper, easy",1e-3,loss,0,1000,0.25\r\n'
        'one,"Hopper, easy",1e-3,loss,0,2000,nan\r\n'
        "two,Walker,,,1,0,2\r\n"
        "\r\n"
    )
    path = tmp_path / "all.csv"
    path.write_bytes(text.encode())
    comparison = load_comparison([path])
    one, two = comparison.cells
    assert one.axes == {"task": "Hopper, easy", "lr": 0.001}
    assert one.metrics["loss"][0].values.tolist() == [0.25]
    assert one.final_returns == {0: 1.5}
    assert (two.experiment, two.axes, two.final_returns) == ("two", {"task": "Walker"}, {1: 2.0})
    assert [facts.name for facts in comparison.experiments] == ["one", "two"]


def test_one_metric_of_any_name_is_the_return(tmp_path: Path) -> None:
    assert load_csv(tmp_path / "a.csv", "metric,seed,env_steps,value\nscore,0,1,2\n").return_metric == "score"


def test_missing_seeds_have_reasons(tmp_path: Path) -> None:
    rows = [(0, 900, 1), (0, 1000, 2), (1, 500, 3), (2, 500, 4), (2, 600, "NaN"), (2, 1000, 9), (3, 1000, "")]
    rows += [(4, 100, "inf")]
    (cell,) = load_comparison([long_csv(tmp_path / "a.csv", rows, "seed,env_steps,value")]).cells
    assert cell.final_returns == {0: 2.0}
    assert cell.missing == {
        1: "ends at env step 500 of 1,000",
        2: "became NaN at env step 600",
        4: "became NaN at env step 100",
    }
    assert cell.returns[2].values.tolist() == [4.0]
    assert cell.seeds == (0, 1, 2, 4)  # what was never measured is not there


def test_files_of_one_experiment_join_their_seeds(tmp_path: Path) -> None:
    header = "experiment,seed,env_steps,value"
    a = long_csv(tmp_path / "a.csv", [("x", 0, 10, 1)], header)
    b = long_csv(tmp_path / "b.csv", [("x", 1, 10, 2)], header)
    c = long_csv(tmp_path / "c.csv", [("y", 2, 10, 2)], header)
    cells = load_comparison([a, b, c]).cells
    assert [(cell.experiment, cell.seeds) for cell in cells] == [("x", (0, 1)), ("y", (2,))]


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        long_csv(tmp_path / folder / "r.csv", [(int(folder == "y"), 10, 1)], "seed,env_steps,value")
    cells = load_comparison([tmp_path / "x" / "r.csv", tmp_path / "y" / "r.csv"]).cells
    assert [(cell.experiment, cell.seeds) for cell in cells] == [("x/r", (0,)), ("y/r", (1,))]


def test_a_sweep_and_a_file_share_panels(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "mine", {"vagram": {0: [1.0]}, "nll": {0: [2.0]}}, settings={"num_distractors": 5})
    rows = [(d, "theirs", 0, 350, 3.0) for d in (0, 5)]
    file = long_csv(tmp_path / "theirs.csv", rows, "num_distractors,model_loss,seed,env_steps,value")
    comparison = load_comparison([sweep, file])
    assert [panel.title for panel in comparison.panels()] == ["num_distractors=0", "num_distractors=5"]
    assert [comparison.line_name(cell) for cell in comparison.panels()[1].cells] == ["vagram", "nll", "theirs"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no column 'seed'|has no rows"),
        ("seed,env_steps,value\n", "has no rows"),
        ("seed,steps,value\n0,1,2\n", "has no column 'env_steps'"),
        ("seed;env_steps;value\n0;1;2\n", "separated by semicolons"),
        ("seed,env_steps,value\n0,1,2\n0,2\n", "Line 3 of .* has 2 fields"),
        ("seed,env_steps,value\nzero,1,2\n", "seed is 'zero' in line 2"),
        ("seed,env_steps,value\n-1,1,2\n", "seed is '-1'"),
        ("seed,env_steps,value\n0,1.5,2\n", "env_steps is '1.5' in line 2"),
        ("seed,env_steps,value\n0,,2\n", "env_steps is ''"),
        ("seed,env_steps,value\n0,inf,2\n", "env_steps is 'inf'"),
        ("seed,env_steps,value\n0,1,2\n0,2,high\n", "value is 'high' in line 3"),
        ("seed,env_steps,value,value\n0,1,2,3\n", "column 'value' twice"),
        ("seed,env_steps,value\n0,1,2\n1,1,2\n0,1,3\n", "Lines 2 and 4 .* both give eval/episode_return of seed 0"),
        ("metric,seed,env_steps,value\na,0,1,2\nb,0,1,2\n", "metrics a, b and none of them is 'eval/episode_return'"),
        ("cell,seed,training_iteration,env_steps\na,0,1,2\n", "name the sweep's folder"),
        ("seed,env_steps,value\n0,1,\n", "holds no value"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_csv(tmp_path / "bad.csv", text)
    assert "\n" not in caught.value.message
    assert "bad.csv" in caught.value.message


def test_a_file_that_is_not_text_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes("seed,env_steps,value\n0,1,2\nä\n".encode("latin-1"))
    with pytest.raises(InputError, match="not text in UTF-8"):
        load_comparison([tmp_path / "bad.csv"])
    (tmp_path / "zero.csv").write_bytes(b"seed,env_steps,value\n0,1,\x002\n")
    with pytest.raises(InputError, match=r"zero\.csv"):
        load_comparison([tmp_path / "zero.csv"])


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("-1", -1), ("1e-3", 0.001), ("True", True), ("nan", "nan"), ("inf", "inf"), ("64x64", "64x64")],
)
def test_values_of_axes(text: str, value: Any) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


# -- mbrl-lib ----------------------------------------------------------------------------------------------------


def test_the_documented_way_from_mbrl_libs_runs_to_a_csv_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text()
    (code,) = re.findall(r"```py\n(.*?)```", page, flags=re.DOTALL)
    for seed in (1, 2):
        run = tmp_path / "exp" / f"run{seed}"
        (run / ".hydra").mkdir(parents=True)
        (run / ".hydra" / "config.yaml").write_text(
            "algorithm: {name: mbpo, initial_exploration_steps: 500}\n"
            f"overrides: {{env: gym___Hopper-v2}}\nseed: {seed}\n"
        )
        rows = "".join(f"{1000.0 * epoch - 1},{10.0 * epoch * seed},{epoch}\n" for epoch in (1, 2))
        (run / "results.csv").write_text(f"env_step,episode_reward,epoch\n{rows}")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    (cell,) = load_comparison(["mbrl_lib.csv"]).cells
    assert cell.axes == {"env": "Hopper-v2", "model_loss": "mbpo"}
    # The first evaluation is logged at 999 and follows 500 steps of exploration.
    assert cell.returns[2].env_steps.tolist() == [1500, 2500]
    assert cell.final_returns == {1: 20.0, 2: 40.0}
