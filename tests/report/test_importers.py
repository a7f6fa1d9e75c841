"""Other people's results: the long format and mbrl-lib's folders, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.synthetic import RETURN, long_csv, write_mbrl_run, write_sweep
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
        3: "has no eval/episode_return",
        4: "became NaN at env step 100",
    }
    assert cell.returns[2].values.tolist() == [4.0]
    assert (cell.seeds, cell.planned_env_steps) == ((0, 1, 2, 3, 4), 1000)


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


def test_integers_of_a_column_with_gaps_are_integers(tmp_path: Path) -> None:
    """pandas writes them as 64.0."""
    sweep = write_sweep(tmp_path / "mine", {"vagram": {0: [1.0]}}, settings={"hidden_size": 64})
    rows = [("TD", "64.0", 0, 3.0), ("TD", 64, 1, 3.0), ("SAC", "", 0, 3.0)]
    file = tmp_path / "theirs.csv"
    long_csv(
        file,
        [(name, size, seed, 350, value) for name, size, seed, value in rows],
        "model_loss,hidden_size,seed,env_steps,value",
    )
    comparison = load_comparison([sweep, file])
    (panel,) = comparison.panels()
    assert [(comparison.line_name(cell), cell.seeds) for cell in panel.cells] == [
        ("vagram", (0,)),
        ("TD", (0, 1)),
        ("SAC", (0,)),
    ]


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
        ("seed,env_steps,value\n\n\nzero,1,2\n", "seed is 'zero' in line 4"),
        ("seed,env_steps,value\n\n0,1,2\n\n0,2,\n0,1,3\n", "Lines 3 and 6 .* both give"),
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


def test_mbrl_libs_runs_are_seeds_of_cells(tmp_path: Path) -> None:
    tree = tmp_path / "exp"
    for seed in (1, 2):
        write_mbrl_run(tree / "mbpo" / "default" / f"run{seed}", seed, [10.0 * seed, 20.0 * seed])
    write_mbrl_run(tree / "walker" / "run", 1, [1.0], env="gym___Walker2d-v2")
    comparison = load_comparison([tree])
    hopper, walker = comparison.cells
    assert (hopper.experiment, hopper.axes) == ("exp", {"env": "Hopper-v2", "num_distractors": 0, "algorithm": "mbpo"})
    assert walker.axes["env"] == "Walker2d-v2"
    # The first evaluation is logged at 999 and follows 500 steps of exploration.
    assert hopper.returns[2].env_steps.tolist() == [1500, 2500]
    assert hopper.final_returns == {1: 20.0, 2: 40.0}
    assert (hopper.planned_env_steps, hopper.missing) == (2500, {})
    assert hopper.metrics["model/rollout_length"][1].values.tolist() == [1.0, 1.0]
    assert "500 steps of initial exploration" in comparison.experiments[0].details["Environment steps"]
    assert comparison.return_metric == RETURN


def test_overrides_that_differ_are_axes(tmp_path: Path) -> None:
    for seed, lr in ((0, 0.1), (1, 0.1), (0, 0.2)):
        overrides = [f"overrides.model_lr={lr}", "device=cpu", "hydra.run.dir=x"]
        write_mbrl_run(tmp_path / f"{seed}{lr}", seed, [1.0], overrides=overrides, more=f"  model_lr: {lr}\n")
    write_mbrl_run(tmp_path / "default", 0, [1.0], overrides=["dynamics_model=vaml_ensemble"])
    cells = load_comparison([tmp_path]).cells
    assert [(cell.axes["model_lr"], cell.axes["dynamics_model"], cell.seeds) for cell in cells] == [
        (0.1, "default", (0, 1)),
        (0.2, "default", (0,)),
        ("default", "vaml_ensemble", (0,)),
    ]


def test_the_forks_distractors_have_our_name(tmp_path: Path) -> None:
    for count in (0, 10):
        key = "distraction_dimensions"
        write_mbrl_run(
            tmp_path / str(count), 0, [1.0], env="dis___Hopper-v2", overrides=[f"overrides.{key}={count}"],
            more=f"  {key}: {count}\n",
        )  # fmt: skip
    comparison = load_comparison([tmp_path])
    assert [panel.title for panel in comparison.panels()] == ["num_distractors=0", "num_distractors=10"]


def test_mbrl_lib_beside_a_sweep(tmp_path: Path) -> None:
    write_mbrl_run(tmp_path / "theirs" / "run", 0, [1.0, 2.0], env="gym___Hopper-v4")
    returns = {"vagram": {0: [1.0]}, "nll": {0: [2.0]}}
    mine = write_sweep(tmp_path / "mine", returns, settings={"env": "Hopper-v4", "num_distractors": 0})
    comparison = load_comparison([mine, tmp_path / "theirs"])
    (panel,) = comparison.panels()
    assert [comparison.line_name(cell) for cell in panel.cells] == ["vagram", "nll", "mbpo"]


def test_runs_that_did_not_finish(tmp_path: Path) -> None:
    write_mbrl_run(tmp_path / "a", 0, [1.0, 2.0], num_steps=100_000)
    write_mbrl_run(tmp_path / "b", 1, [], num_steps=100_000)
    write_mbrl_run(tmp_path / "c", 2, [1.0, float("nan")], num_steps=100_000)
    (tmp_path / "d" / ".hydra").mkdir(parents=True)
    cut = write_mbrl_run(tmp_path / "e", 3, [5.0, 6.0], num_steps=2000) / "results.csv"
    cut.write_text(cut.read_text() + "2999.0,7.")
    broken = write_mbrl_run(tmp_path / "f", 4, [5.0], num_steps=2000) / "results.csv"
    broken.write_text("")
    (cell,) = load_comparison([tmp_path]).cells
    assert cell.missing == {
        0: "ends at env step 2,500 of 100,500",
        1: "has no eval/episode_return",
        2: "became NaN at env step 2,500",
        3: "ends at env step 2,500 of 100,500",
        4: "has no eval/episode_return",
    }
    assert cell.returns[3].values.tolist() == [5.0, 6.0]


def test_pets_logs_a_step_more(tmp_path: Path) -> None:
    folder = write_mbrl_run(tmp_path / "a", 0, [1.0], exploration=200, num_steps=200)
    (folder / "results.csv").write_text("env_step,episode_reward,step\n200.0,5.0,1\n")
    (cell,) = load_comparison([tmp_path]).cells
    assert cell.returns[0].env_steps.tolist() == [400]
    assert cell.final_returns == {0: 5.0}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (".hydra/config.yaml", "a: [", r"config\.yaml' cannot be read"),
        (".hydra/config.yaml", "just text", "not a configuration of Hydra"),
        (".hydra/config.yaml", "seed: 0\noverrides: {env: x}\n", "has nothing for algorithm.name"),
        (".hydra/config.yaml", "seed: null\noverrides: {env: x}\nalgorithm: {name: y}\n", "has None for seed"),
        (".hydra/config.yaml", "seed: ${a}\na: ${seed}\n", "has nothing for seed"),
        ("results.csv", "step,value\n1,2\n", "has no column 'env_step'"),
        ("results.csv", "env_step,episode_reward\n1,high\n2,3\n", "Line 2 .* cannot be read"),
        ("results.csv", "env_step,episode_reward\n1,2\ninf,3\n", "Line 3 .* cannot be read"),
    ],
)
def test_damaged_runs_are_one_sentence(tmp_path: Path, file: str, content: str, words: str) -> None:
    folder = write_mbrl_run(tmp_path / "run", 0, [1.0])
    (folder / file).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        load_comparison([tmp_path])
    assert "\n" not in caught.value.message


def test_two_runs_of_one_seed_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_mbrl_run(tmp_path / name, 7, [1.0])
    with pytest.raises(InputError, match=r"'a' and 'b' .* same settings and seed 7"):
        load_comparison([tmp_path])
