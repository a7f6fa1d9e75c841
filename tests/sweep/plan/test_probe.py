"""The probe: what it measures of a real agent, what is kept of it, and what it says when it cannot measure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep.plan import costs, probe
from vagram_ray.sweep.plan.costs import CostFiles, Costs, work_key
from vagram_ray.sweep.plan.machine import Machine
from vagram_ray.sweep.plan.probe import NOT_MEASURED, Prober
from vagram_ray.sweep.plan.workload import Workload


def prober_on(processor: str) -> Prober:
    return Prober(Machine(1, 0, None, processor))


COSTS = Costs(2, env_step_s=1e-3, sac_update_s=2e-3, fit_s=3e-3, fit_row_s=4e-6, fit_epoch_row_s=5e-6, imagined_s=6e-6)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(probe, "TOTAL_SECONDS", 3600.0)  # however busy this machine is,
    monkeypatch.setattr(costs, "_load", lambda: 0.0)  # and becomes
    return tmp_path / "vagram_ray" / "costs"


def test_phases_are_divided_by_how_often_their_work_was_done(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With made-up times: the costs that went into the rounds come out."""
    made_up = {"env": 0.25, "sac": 0.125, "fit": 2.0, "row": 0.001, "epoch": 0.0625, "imagined": 0.5}

    class MadeUp:
        steps, utd_ratio, rows, rollouts = 4, 3, 100, 8

        def __init__(self, workload: Workload, num_seeds: int, device: str) -> None:
            self.disturbed = iter([9.0, 1.0, 7.0])  # only the least of what is alike counts

        def warm_up(self) -> None: ...

        def round(self, rows: int, epochs: int) -> dict[str, float]:
            by = next(self.disturbed, 1.0)
            fit = made_up["fit"] + rows * (made_up["row"] + epochs * made_up["epoch"])
            return {
                "env": by * 4 * made_up["env"], "sac": by * 4 * 3 * made_up["sac"],
                "model_fit": by * fit, "rollout": by * 8 * made_up["imagined"],
            }  # fmt: skip

    monkeypatch.setattr(probe, "_Probed", MadeUp)
    found = probe.probe(Workload.of(make_config()), 2)
    assert found.num_seeds == 2
    assert list(dataclasses.astuple(found)[1:]) == pytest.approx(list(made_up.values()))


@pytest.mark.parametrize("loss", ["vagram", "none"])
def test_the_agent_works_at_its_own_sizes(loss: str, make_config: Callable[..., Any]) -> None:
    work = Workload.of(make_config(model_loss=loss, utd_ratio=2))
    found = probe.probe(work, 2)
    assert found.num_seeds == 2 and found.env_step_s > 0 and found.sac_update_s > 0
    assert (found.imagined_s > 0) == (loss == "vagram")
    probed = probe._Probed(work, 2, "cpu")
    probed.warm_up()
    probed.round(probed.rows, 3)
    agent = probed._agent
    for name in ("actor_hidden_sizes", "hidden_size", "train_batch_size_per_learner", "model_batch_size",
                 "model_loss", "ensemble_size"):  # fmt: skip
        assert getattr(agent.settings, name) == getattr(work.settings, name)
    assert agent.sac.num_updates == 2 * 1 + probed.steps * probed.utd_ratio and probed.utd_ratio == 2
    assert len(agent.replay) == probed.rows + probed.steps


def test_measured_costs_are_kept_and_found_again(
    make_config: Callable[..., Any], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = [(Workload.of(make_config(model_loss=loss)), seeds) for loss in ("none", "mse") for seeds in (4, 9)]
    prober = prober_on("a processor")
    measured = prober(work)
    assert all(measured) and not prober.note
    assert [each.num_seeds for each in measured if each] == [4, 4] * 2
    assert len(list(own_cache.glob("*.json"))) == 2  # nine seeds are four, and then more of them
    assert own_cache.stat().st_mode & 0o077 == 0

    def no_process(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(probe, "_in_a_process", no_process)
    assert prober_on("a processor")(work) == measured
    with pytest.raises(AssertionError):
        prober_on("another processor")(work)


def test_a_key_is_of_all_that_changes_a_cost_and_of_nothing_else(make_config: Callable[..., Any]) -> None:
    def key(num_seeds: int = 2, env: str = "Pendulum-v1", distractors: int = 0, **training: Any) -> str:
        config = make_config(**training).environment(env, num_distractors=distractors)
        return work_key(Workload.of(config), num_seeds)

    for same in ({"actor_lr": 0.1}, {"utd_ratio": 3}, {"rollout_length": (0, 9, 1, 5)}, {"epoch_length": 400}):
        assert key(**same) == key()
    for other in ({"hidden_size": 9}, {"model_loss": "mse"}, {"num_seeds": 3}, {"distractors": 1}, {"num_layers": 2},
                  {"train_batch_size_per_learner": 33}, {"model_batch_size": 99}, {"utd_ratio": 200}):  # fmt: skip
        assert key(**other) != key()
    assert key(num_seeds=5) == key(num_seeds=50)
    assert key(model_loss="none", hidden_size=9) == key(model_loss="none")
    assert set(MBPOSettings.field_names()) >= costs.WITHOUT_EFFECT


def test_files_that_hold_something_else_are_measured_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = CostFiles("a processor")
    assert files.read("key") is None
    files.write("key", COSTS)
    assert files.read("key") == COSTS
    (file,) = own_cache.iterdir()
    content = json.loads(file.read_text())
    for broken in ("", "[]", json.dumps({**content, "costs": {**content["costs"], "sac_update_s": -1.0}}),
                   json.dumps({**content, "costs": {"sac_update_s": 1.0}})):  # fmt: skip
        file.write_text(broken)
        assert files.read("key") is None
    own_cache.chmod(0o777)
    files.write("key", COSTS)  # others could write there
    assert files.read("key") is None


def test_what_was_measured_on_a_busy_machine_is_measured_again_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    files = CostFiles("a processor")
    for measured, now, kept in ((0.2, 3.0, True), (3.0, 2.0, True), (3.0, 0.5, False), (0.9, 0.1, True)):
        monkeypatch.setattr(costs, "_load", lambda measured=measured: measured)
        files.write("key", COSTS)
        monkeypatch.setattr(costs, "_load", lambda now=now: now)
        assert (files.read("key") is not None) == kept


def test_costs_of_a_cohort_are_those_of_its_seeds() -> None:
    doubled = COSTS.of(4)
    assert doubled == Costs(4, *(2 * value for value in dataclasses.astuple(COSTS)[1:]))
    assert COSTS.of(2) == COSTS


def test_what_cannot_be_measured_is_said(make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Workload.of(make_config(model_loss="none"))
    broken = dataclasses.replace(sound, environment=dataclasses.replace(sound.environment, env_id="Nowhere-v0"))
    prober = prober_on("a processor")
    assert prober([(sound, 1), (broken, 1)])[1] is None
    assert prober.note.startswith("the time of 1 of 2 sizes of networks and data was not measured: a probe failed (")
    assert "Nowhere" in prober.note
    monkeypatch.setattr(probe, "_in_a_process", lambda *arguments: ({}, ""))
    late = prober_on("another processor")
    assert late([(sound, 1)]) == [None]
    assert "was not measured: probes take 3600 s at most; a plan that is made again measures further" in late.note


def test_a_gpu_that_is_not_here_has_no_times(make_config: Callable[..., Any]) -> None:
    machine = Machine(8, 1, None, "Ray cluster of 2 nodes", local=False)
    gpus, cores = Prober(machine), Prober(machine)
    assert gpus([(Workload.of(make_config()), 1)], True) == [None] and gpus.note == NOT_MEASURED
    measured = cores([(Workload.of(make_config(model_loss="none")), 1)])
    assert all(measured) and cores.note == "times were measured on this machine, not on the cluster's."
