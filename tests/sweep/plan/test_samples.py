"""What a searcher suggests becomes cells; what an earlier launch recorded is told, and not run again."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, MedianStoppingRule, PopulationBasedTraining
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, Searcher

from tests.sweep.conftest import MACHINE, small_config
from vagram_ray.records.recorded import RecordedSweep
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.growth import recorded_cells, suggested
from vagram_ray.sweep.plan.plan import SweepPlan, make_plan
from vagram_ray.sweep.plan.samples import Samples
from vagram_ray.sweep.spec import Sweep, SweepError

METRIC = "eval/episode_return_iqm"


class Listed(Searcher):
    """Suggests what it was given, in order, and remembers what it is told; takes no points."""

    def __init__(self, points: list[Any]) -> None:
        super().__init__()
        self.points, self.told = points, []  # type: ignore[var-annotated]

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        self.space = config
        return True

    def suggest(self, trial_id: str) -> Any:
        return self.points[int(trial_id)] if int(trial_id) < len(self.points) else Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.told.append((trial_id, result["training_iteration"], result[METRIC]))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.told.append((trial_id, "error" if error else result[METRIC]))  # type: ignore[index]


class Taking(Listed):
    """Takes points."""

    def add_evaluated_point(self, parameters: dict[str, Any], value: float, **more: Any) -> None:
        self.told.append((parameters, value))


def config(**training: Any) -> Any:
    return small_config(**{"model_lr": tune.loguniform(1e-4, 1e-2), **training})


def samples(searcher: Any, number: int = 10, **training: Any) -> Samples:
    return Samples(searcher, config(**training), METRIC, "max", number)


def result(epoch: int, value: float) -> dict[str, float]:
    return {"training_iteration": epoch, "env_steps": 10 * epoch, METRIC: value}


def lr(value: float) -> dict[str, float]:
    return {"model_lr": value}


def plan_of(searcher: Any, number: int = 10, seeds: int = 2, **options: Any) -> SweepPlan:
    own = options.pop("config", None) or config()
    sweep = Sweep(name="s", config=own, epochs=10, seeds=seeds, search_alg=searcher, num_samples=number, **options)
    return make_plan(sweep, MACHINE, scale="")


def refusal(**options: Any) -> str:
    own = options.pop("config", None) or config()
    per_trial = options.pop("seeds_per_trial", None)
    with pytest.raises(SweepError) as error:
        sweep = Sweep(name="s", config=own, epochs=10, seeds=2, **options)
        make_plan(sweep, MACHINE, scale="", seeds_per_trial=per_trial)
    text = error.value.format_message()
    assert "\n" not in text
    return text


def test_the_searcher_sees_the_search_spaces_alone_and_its_points_become_cells() -> None:
    searcher = Listed([{"model_lr": 1e-3, "env_config": {"g": 9.0}}])
    own = config().environment("Pendulum-v1", env_config={"g": tune.uniform(8.0, 10.0), "render_mode": None})
    found = Samples(searcher, own, METRIC, "max", 3).suggest(())
    assert found is not None
    assert {key: type(value).__name__ for key, value in searcher.space.items()} == {
        "model_lr": "Float",
        "env_config": "dict",
    }
    assert (found.label, dict(found.axes)) == (
        "env_config.g=9, model_lr=0.001",
        {"env_config.g": 9.0, "model_lr": 1e-3},
    )
    assert found.values == {"env_config": {"g": 9.0, "render_mode": None}, "model_lr": 1e-3}
    assert found.config(own).model_lr == 1e-3


def test_choices_of_one_short_name_are_told_apart() -> None:
    kites = [{"reward_scale_of_the_environment": 1.5, "gravity": gravity} for gravity in (9.0, 10.0)]
    own = small_config().environment("Pendulum-v1", env_config=tune.choice([*kites, {}]))
    searcher = Taking([])
    made = Samples(searcher, own, METRIC, "max", 9)
    seen = searcher.space["env_config"].categories
    assert len(set(seen)) == 3
    searcher.points = [{"env_config": text} for text in seen]
    cells: list[Any] = []
    while (cell := made.suggest(cells)) is not None:
        cells.append(cell)
    assert [cell.values["env_config"] for cell in cells] == [*kites, {}]
    made = Samples(searcher := Taking([]), own, METRIC, "max", 9)
    for cell in cells:
        made.known(cell, [result(1, 1.0)], ended=True)
    assert [point for point, _ in searcher.told] == [{"env_config": text} for text in seen]


def test_a_sample_is_told_once_whatever_becomes_of_its_trial() -> None:
    searcher = Listed([lr(1e-3), lr(2e-3)])
    own = samples(searcher)
    first = own.suggest(())
    assert first is not None
    own.suggest((first,))
    for epoch, value in [(1, 5.0), (2, 6.0), (2, 6.0), (1, 5.0), (3, math.nan)]:  # started again in between
        own.reported(0, result(epoch, value))
    own.ended(0)
    own.ended(0)
    own.ended(1, failed=True)
    assert searcher.told == [("0", 1, 5.0), ("0", 2, 6.0), ("0", 6.0), ("1", "error")]


def test_a_suggestion_that_is_there_already_is_no_cell() -> None:
    searcher = Listed([lr(1e-3), lr(1e-3), lr(2e-3)])
    own = samples(searcher)
    first = own.suggest(())
    assert first is not None
    second = own.suggest((first,))
    assert second is not None and second.values == lr(2e-3)
    assert searcher.told == [("1", "error")]
    assert own.suggest((first, second)) is None and own.exhausted


def test_points_of_an_earlier_launch_are_told_where_the_searcher_takes_them() -> None:
    searcher = Taking([lr(1e-3), lr(2e-3), lr(3e-3)])  # begins anew
    own = samples(searcher)
    cells = [own.restore(lr(1e-3), ())]
    own.known(cells[0], [result(1, 5.0), result(2, 7.0)], ended=True)
    cells.append(own.restore(lr(2e-3), cells))
    own.known(cells[1], [result(1, 4.0)], ended=False)
    assert searcher.told == [(lr(1e-3), 7.0)]
    new = own.suggest(cells)
    assert new is not None and (new.index, new.values) == (2, lr(3e-3))
    own.reported(1, result(2, 8.0))
    own.ended(1)
    assert searcher.told[-1] == ("1", 8.0)  # it had suggested that one itself meanwhile


def test_a_searcher_that_takes_no_points_hears_them_as_it_suggests_them_again() -> None:
    searcher = Listed([lr(1e-3), lr(2e-3), lr(3e-3)])
    own = samples(searcher)
    cells = [own.restore(lr(1e-3), ())]
    own.known(cells[0], [result(1, 5.0), result(2, 7.0)], ended=True)
    new = own.suggest(cells)
    assert new is not None and new.values == lr(2e-3)
    assert searcher.told == [("0", 1, 5.0), ("0", 2, 7.0), ("0", 7.0)]


def test_a_plan_grows_by_what_is_suggested_and_goes_on_from_what_is_recorded() -> None:
    searcher = Taking([lr(1e-3), lr(2e-3), lr(3e-3), lr(4e-3)])
    plan = plan_of(searcher, number=3)
    before = plan.task  # nothing is suggested yet: what all samples share
    assert before.startswith("Pendulum-v1 | no distractors | vagram | 2 seeds | model 3 x (1 x 8), SAC 2 x 16")
    plan = suggested(plan, 2)
    assert plan.task.startswith("Pendulum-v1 | no distractors | vagram | varied: model_lr (2) | 2 seeds x ")
    assert [trial.name for trial in plan.trials] == ["model_lr=0.001,seeds=0-1", "model_lr=0.002,seeds=0-1"]
    assert plan.to_come == 1
    assert "model_lr" not in plan.base_parameters()
    content = json.loads(json.dumps({**plan_content(plan), "sweep_id": "x", "launches": [{}]}))
    assert content["tuning"] == {"metric": METRIC, "mode": "max", "search_alg": "Taking", "num_samples": 3}
    again = recorded_cells(plan_of(searcher, number=3), RecordedSweep.of(content))
    assert [(cell.label, cell.values) for cell in again.cells] == [(cell.label, cell.values) for cell in plan.cells]
    assert [cell.settings for cell in again.cells] == [cell.settings for cell in plan.cells]


def test_what_cannot_work_is_passed_over_and_told() -> None:
    own = small_config(num_elites=tune.randint(1, 9))
    plan = plan_of(Listed([{"num_elites": 7}, {"num_elites": 2}]), config=own)
    grown = suggested(plan)
    assert [cell.label for cell in grown.cells] == ["num_elites=2"]
    assert "num_elites=7" in grown.tuning.samples.note  # type: ignore[union-attr]


def test_optuna_goes_on_after_a_restart_without_repeating_what_it_knows() -> None:
    optuna = pytest.importorskip("ray.tune.search.optuna").OptunaSearch
    training = {"utd_ratio": tune.choice([1, 2, 4]), "real_ratio": tune.choice([(0, 1, 1.0, 0.05), (0, 1, 1.0, 0.5)])}

    def launch(known: list[Any], number: int) -> list[Any]:
        own = samples(optuna(seed=3), 40, **training)
        cells: list[Any] = []
        for old in known:
            axes = json.loads(json.dumps(dict(old.axes)))
            cells.append(own.restore(axes, cells))
            own.known(cells[-1], [result(1, -math.log10(old.axes["model_lr"]))], ended=True)
        for _ in range(number):
            cell = own.suggest(cells)
            assert cell is not None
            cells.append(cell)
            own.reported(cell.index, result(1, -math.log10(cell.axes["model_lr"])))
            own.ended(cell.index)
        return cells

    first = launch([], 6)
    both = launch(first, 12)
    assert [cell.values for cell in both[:6]] == [cell.values for cell in first]
    values = [cell.axes["model_lr"] for cell in both]
    assert len(set(values)) == len(values) == 18
    assert all(1e-4 <= value <= 1e-2 for value in values)
    assert all(cell.values["real_ratio"] in ((0, 1, 1.0, 0.05), (0, 1, 1.0, 0.5)) for cell in both)
    late = sorted(values[12:])
    assert late[len(late) // 2] < 1e-3  # small ones are the good ones here, and it has noticed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"search_alg": Listed([]), "config": config(utd_ratio=tune.grid_search([1, 2]))}, "tune.choice([...])"),
        ({"search_alg": Listed([]), "config": small_config()}, "put tune.uniform(...)"),
        ({"search_alg": Listed([]), "variants": {"a": {"b": {"utd_ratio": 1}}}}, "cannot be combined with variants"),
        ({"search_alg": BasicVariantGenerator()}, "search_seed"),
        ({"search_alg": "optuna"}, "give a Searcher of Tune"),
        ({"scheduler": ASHAScheduler(time_attr="steps")}, "looks at 'steps', which no trial reports"),
        ({"scheduler": MedianStoppingRule(time_attr="step")}, "looks at 'step', which no trial reports"),
        ({"scheduler": HyperBandScheduler()}, "use ASHAScheduler"),
        ({"scheduler": "asha"}, "give a scheduler of Tune"),
        (
            {"scheduler": PopulationBasedTraining(hyperparam_mutations={"actor_lr": tune.uniform(0, 1)})},
            'tune.Tuner("MBPO")',
        ),
        ({"scheduler": ASHAScheduler(metric="env_steps", mode="max")}, "leave the scheduler's away"),
        ({"scheduler": ASHAScheduler(), "metric": "eval/return"}, "did you mean eval/episode_return"),
        ({"scheduler": ASHAScheduler(), "metric": "eval_return"}, "no trial reports it"),
        ({"scheduler": ASHAScheduler(), "config": small_config().evaluation(evaluation_interval=None)}, "train/"),
        ({"stop": {"env_step": 100}}, "did you mean env_steps"),
        ({"stop": {"env_steps": "100"}}, "needs a number to reach"),
        ({"stop": 100}, "a Stopper of Tune"),
        ({"stop": {"env_steps": 100}, "seeds_per_trial": 1}, "--seeds-per-trial 1"),
    ],
)
def test_what_cannot_be_combined_is_one_sentence(options: dict[str, Any], words: str) -> None:
    assert words in refusal(**options)


def test_a_limiter_gives_as_many_as_it_has_room_for() -> None:
    own = samples(ConcurrencyLimiter(Listed([lr(1e-3), lr(2e-3)]), max_concurrent=1))
    first = own.suggest(())
    assert first is not None and own.suggest((first,)) is None and not own.exhausted
    own.reported(0, result(1, 1.0))
    own.ended(0)
    assert own.suggest((first,)) is not None
