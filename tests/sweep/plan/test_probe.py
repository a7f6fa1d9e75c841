"""The probe: what it measures of a real agent, what is kept of it, and what it says when it cannot measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep.plan import probe
from vagram_ray.sweep.plan.machine import Machine
from vagram_ray.sweep.plan.probe import NOT_MEASURED, Sized, cost_file, measure_costs
from vagram_ray.sweep.plan.workload import WITHOUT_EFFECT, Costs, Workload


def measured(work: Sequence[Sized]) -> tuple[list[Costs | None], str]:
    return measure_costs(Machine(1, 0, None, "a machine"), (), work, False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(probe, "TOTAL_SECONDS", 3600.0)  # however busy this machine is
    return tmp_path / "vagram_ray" / "costs"


def test_phases_are_divided_by_how_often_their_work_was_done(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With made-up times: the costs that went into the rounds come out, for one of two seeds."""
    made_up = {"env": 0.25, "sac": 0.125, "model_fit": 0.0625, "rollout": 0.5}
    disturbed = iter([99.0, 9.0])  # the first does not count, and of the others the least does
    work = Workload.of(make_config())
    settings, rows = probe._short_epoch(work.settings)
    steps = settings.epoch_length
    times = {"env": steps, "sac": steps * settings.utd_ratio, "model_fit": rows,
             "rollout": steps * settings.rollouts_per_step}  # fmt: skip

    def train_epoch(agent: MBPOAgent, envs: Any) -> dict[str, list[float]]:
        by = 2 * next(disturbed, 1.0)
        return {f"time/{phase}_s": [by * number * made_up[phase]] for phase, number in times.items()}

    monkeypatch.setattr(MBPOAgent, "train_epoch", train_epoch)
    monkeypatch.setattr(probe, "_fill", lambda replay, rows: None)
    assert list(dataclasses.astuple(probe.probe(work, 2))) == pytest.approx(list(made_up.values()))


@pytest.mark.parametrize("loss", ["vagram", "none"])
def test_the_agent_works_at_its_own_sizes(loss: str, make_config: Callable[..., Any]) -> None:
    work = Workload.of(make_config(model_loss=loss, utd_ratio=2))
    found = probe.probe(work, 2)
    assert found.env_step_s > 0 and found.sac_update_s > 0
    assert (found.imagined_s > 0) == (found.fit_row_s > 0) == (loss == "vagram")
    settings, _ = probe._short_epoch(work.settings)
    for name in ("actor_hidden_sizes", "hidden_size", "train_batch_size_per_learner", "model_batch_size",
                 "model_loss", "ensemble_size", "utd_ratio"):  # fmt: skip
        assert getattr(settings, name) == getattr(work.settings, name)


def test_measured_costs_are_kept_and_found_again(
    make_config: Callable[..., Any], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = [(Workload.of(make_config(model_loss=loss)), seeds) for loss in ("none", "mse") for seeds in (4, 9)]
    costs, note = measured(work)
    assert all(costs) and not note
    files = list(own_cache.glob("*.json"))
    assert len(files) == 2  # nine seeds are four, and then more of them

    def no_process(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(probe, "_measure", no_process)
    assert measured(work) == (costs, "")
    for broken in ("", "[]", '{"sac_update_s": 1.0}', '{"env_step_s": -1.0, "sac_update_s": 1.0}',
                   '{"env_step_s": "x", "sac_update_s": null}'):  # fmt: skip
        files[0].write_text(broken)
        with pytest.raises(AssertionError):
            measured(work)


def test_a_file_is_for_all_that_changes_a_cost_and_for_nothing_else(make_config: Callable[..., Any]) -> None:
    def key(
        num_seeds: int = 2, env: str = "Pendulum-v1", distractors: int = 0, machine: str = "m", **training: Any
    ) -> Path:
        config = make_config(**training).environment(env, num_distractors=distractors)
        return cost_file(machine, Workload.of(config), num_seeds)

    assert set(MBPOSettings.field_names()) >= WITHOUT_EFFECT
    for same in ({"actor_lr": 0.1}, {"utd_ratio": 3}, {"rollout_length": (0, 9, 1, 5)}, {"epoch_length": 400}):
        assert key(**same) == key()
    for other in ({"hidden_size": 9}, {"model_loss": "mse"}, {"num_seeds": 3}, {"distractors": 1}, {"num_layers": 2},
                  {"train_batch_size_per_learner": 33}, {"model_batch_size": 99}, {"utd_ratio": 200},
                  {"normalize_features": True}, {"actor_update_period": 4}, {"validation_fraction": 0.5},
                  {"normalize_dynamics_targets": True}, {"machine": "another"}):  # fmt: skip
        assert key(**other) != key()
    assert key(num_seeds=5) == key(num_seeds=50)
    assert key(model_loss="none", hidden_size=9) == key(model_loss="none")


def test_what_cannot_be_measured_is_said(make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Workload.of(make_config(model_loss="none"))
    broken = dataclasses.replace(sound, environment=dataclasses.replace(sound.environment, env_id="Nowhere-v0"))
    found, note = measured([(broken, 1), (sound, 1)])
    assert found[0] is None and isinstance(found[1], Costs)
    assert note.startswith("the time of 1 of 2 sizes of networks and data was not measured: a probe failed (")
    assert "Nowhere" in note
    monkeypatch.setattr(probe, "_measure", lambda *arguments: ({}, ""))
    late, note = measured([(broken, 1)])
    assert late == [None]
    assert "was not measured: probes take 3600 s at most; a plan that is made again measures further" in note


def test_a_cache_that_cannot_be_written_is_none(make_config: Callable[..., Any], own_cache: Path) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text("no folder")
    costs, note = measured([(Workload.of(make_config(model_loss=loss)), 1) for loss in ("none", "mse")])
    assert all(costs) and not note


def test_a_gpu_has_no_times(make_config: Callable[..., Any]) -> None:
    machine = Machine(8, 1, None, "Ray cluster of 2 nodes", local=False)
    work = [(Workload.of(make_config(model_loss="none")), 1)]
    assert measure_costs(machine, (), work, True) == ([None], NOT_MEASURED)
    costs, note = measure_costs(machine, (), work, False)
    assert all(costs) and note == "times were measured on this machine, not on the cluster's."
