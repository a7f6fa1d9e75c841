"""Every sweep file is, at every scale, the experiment that it says it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.envs import dm_control
from vagram_ray.sweep.plan.growth import suggested
from vagram_ray.sweep.plan.machine import GIB, Machine
from vagram_ray.sweep.plan.overrides import parse_assignments, select_variants, with_overrides
from vagram_ray.sweep.plan.plan import SweepPlan, make_plan
from vagram_ray.sweep.sweep_file import load_sweep_file

FOLDER = Path(__file__).resolve().parents[1] / "tune_configs"
MACHINE = Machine(2, 0, 24 * GIB, "a machine")


def plan_of(name: str, scale: str, **changes: Any) -> SweepPlan:
    if name == "dmc":
        try:
            dm_control.register("dm_control/hopper-hop-v0")
        except ValueError as error:
            pytest.skip(f"needs the extra dmc: {error}")
    sweep, overrides = load_sweep_file(FOLDER / f"{name}.py").at_scale(scale)
    overrides = {**overrides, **changes}
    sweep = with_overrides(sweep, overrides, source="The scale")
    return make_plan(sweep, MACHINE, scale=scale, overrides=overrides)


def labels(plan: SweepPlan) -> list[str]:
    return [cell.label for cell in plan.cells]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_every_sweep_can_be_planned_at_every_scale(name: str, scale: str) -> None:
    plan = suggested(plan_of(name, scale))
    assert plan.trials
    assert "None" not in "".join(labels(plan))


@pytest.mark.parametrize(("scale", "samples"), [("smoke", 2), ("laptop", 24), ("paper", 32)])
def test_tuning_searches_on_seeds_of_its_own(scale: str, samples: int) -> None:
    plan = plan_of("tuning", scale)
    tuning = plan.tuning
    assert tuning is not None and tuning.samples is not None
    assert plan.to_come == samples and not plan.cells
    assert set(tuning.samples.space.axes) == {"utd_ratio", "model_lr", "real_ratio"}
    assert all(seed >= 200 for seed in plan.seeds), "none of those that are reported"
    first = suggested(plan, 3)
    configs = [cell.config(first.config).to_settings() for cell in first.cells]
    assert len({config.model_lr for config in configs}) == len(configs)
    for config in configs:
        assert 1e-4 <= config.model_lr <= 1e-2
        assert config.real_ratio_at(plan.epochs) in (0.05, 0.25, 0.5, 0.75)
    assert len(first.trials) == len(first.cells) and first.trials[0].seeds == plan.seeds


def test_figure_3_has_three_sizes_and_one_line_for_sac() -> None:
    plan = plan_of("model_size", "paper")
    sizes = ("4x200", "3x64", "2x64")
    expected = [f"model_size={size}, model_loss={loss}" for size in sizes for loss in ("vagram", "nll")]
    assert sorted(labels(plan)) == sorted([*expected, "model_loss=none"])
    assert len(plan.seeds) == 16
    small = next(cell for cell in plan.cells if cell.axes.get("model_size") == "2x64").config(plan.config).to_settings()
    assert (small.num_layers, small.hidden_size, small.rollout_length) == (2, 64, (20, 150, 1, 5))


def test_figure_4_has_sac_and_takes_0_and_20_distractors() -> None:
    assert len(plan_of("distractors", "paper").cells) == 3 * 3
    cells = plan_of("distractors", "paper", num_distractors={"grid_search": [0, 5, 10, 15, 20]}).cells
    assert {cell.axes["num_distractors"] for cell in cells} == {0, 5, 10, 15, 20}


def test_figure_4_compares_the_losses_on_one_distractor_system_per_seed() -> None:
    """Eq. 18 with the same A and s_0 in every cell of a seed, whatever the loss."""
    plan = plan_of("distractors", "laptop")
    systems: dict[tuple[int, int], list[Any]] = {}
    for cell in plan.cells:
        config = cell.config(plan.config)
        assert config.distractor_process == "paper"
        if config.num_distractors:
            for seed in (0, 1):
                for evaluation in (False, True):
                    env: Any = config.environment_spec().make(seed, evaluation=evaluation)
                    constants = {name: value.tolist() for name, value in env.constants.items()}
                    systems.setdefault((config.num_distractors, seed), []).append(constants)
    assert sorted(systems) == [(5, 0), (5, 1), (10, 0), (10, 1)]
    for found in systems.values():
        assert len(found) == 2 * 4 and found.count(found[0]) == len(found)
    assert len({str(found[0]) for found in systems.values()}) == 4


def test_figure_5_gives_itervaml_its_share_of_squared_error() -> None:
    plan = plan_of("ablations", "paper")
    assert len(plan.cells) == 2 * 5
    cells = {tuple(cell.axes.values()): cell.config(plan.config).to_settings() for cell in plan.cells}
    assert cells["pendulum", "itervaml"].model_loss_options["mse_weight"] == 0.01


def test_figure_5_has_mbrl_libs_cartpole_settings_for_both_tasks() -> None:
    plan = plan_of("ablations", "paper")
    cells = {tuple(cell.axes.values()): cell.config(plan.config).to_settings() for cell in plan.cells}
    for task in ("pendulum", "cartpole"):
        cell = cells[task, "vagram"]
        assert (cell.epoch_length, cell.model_train_freq, cell.utd_ratio, cell.model_patience) == (200, 200, 20, 5)
        assert (cell.rollouts_per_step, cell.rollout_length, cell.target_entropy) == (400, (1, 15, 1, 1), -0.05)
        assert cell.actor_hidden_sizes == cell.critic_hidden_sizes == (256, 256)
        assert cell.actor_lr == cell.critic_lr == cell.alpha_lr == 3e-4
        assert cell.real_ratio == (1, 5, 1.0, 0.05), "the published file's for cartpole"
    assert {cell.workload.settings.epoch_length * plan.epochs for cell in plan.cells} == {5000}


def test_figure_6_has_each_task_with_its_own_hyperparameters() -> None:
    plan = plan_of("mujoco", "paper")
    by_task = {(cell.axes["task"], cell.axes["model_loss"]): cell.config(plan.config) for cell in plan.cells}
    dimensions = {task: config.environment_spec().dimensions()[0] for (task, _), config in by_task.items()}
    assert dimensions == {"Hopper": 11, "Walker2d": 17, "HalfCheetah": 17, "Ant": 27, "Humanoid": 45}
    assert by_task["Walker2d", "nll"].to_settings().alpha_lr == 3e-3
    assert by_task["Ant", "vagram"].to_settings().rollout_length == (20, 100, 1, 25)
    cheetah, humanoid = (by_task[task, "vagram"].to_settings() for task in ("HalfCheetah", "Humanoid"))
    assert (cheetah.actor_lr, cheetah.critic_lr, cheetah.utd_ratio) == (3e-4, 3e-5, 40)
    assert (humanoid.hidden_size, humanoid.model_train_freq, humanoid.real_ratio) == (400, 1000, (0, 40, 1.0, 0.05))
    cheetah = [cell for cell in plan.cells if cell.axes["task"] == "HalfCheetah"]
    assert len(cheetah) == 2 + 2 + 1, "two rollout lengths for each model, plain SAC once"
    assert cheetah[0].workload.settings.epoch_length * plan.epochs == 300_000


def test_figure_6_also_has_the_hyperparameters_of_mbrl_lib() -> None:
    plan = plan_of("mujoco", "paper_mbrl_lib")
    cells = {cell.axes["task"]: cell.config(plan.config).to_settings() for cell in plan.cells}
    assert {task: settings.alpha_lr for task, settings in cells.items()} == {
        "Hopper": 0.0, "Walker2d": 0.0, "HalfCheetah": 3e-4, "Ant": 0.0, "Humanoid": 0.0,
    }  # fmt: skip
    assert {settings.real_ratio for settings in cells.values()} == {(0, 40, 1.0, 0.05)}
    assert len(plan_of("mujoco", "paper").cells) == len(plan.cells)


def test_figure_7_tells_the_variance_head_from_the_weights() -> None:
    plan = plan_of("deterministic_vs_probabilistic", "paper")
    heads = {cell.axes["model_loss"]: cell.config(plan.config).to_settings().has_variance_head for cell in plan.cells}
    assert heads == {"vagram": False, "nll": True, "mse": False}
    distracted = [cell.config(plan.config) for cell in plan.cells if cell.axes["setting"] == "15 distractors"]
    assert {config.num_distractors for config in distracted} == {15}
    assert len(plan.seeds) == 8


@pytest.mark.parametrize(("scale", "episodes"), [("smoke", 1), ("laptop", 5), ("paper", 10)])
@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_each_scale_has_its_number_of_evaluation_episodes(name: str, scale: str, episodes: int) -> None:
    plan = suggested(plan_of(name, scale))
    assert {cell.config(plan.config).evaluation_duration for cell in plan.cells} == {episodes}


@pytest.mark.parametrize("name", ["model_size", "distractors", "real_ratio"])
def test_the_workstation_scale_is_hopper_with_the_same_agent_for_every_loss(name: str) -> None:
    plan = plan_of(name, "workstation")
    configs = [cell.config(plan.config) for cell in plan.cells]
    assert {config.env for config in configs} == {"Hopper-v4"}
    assert {config.evaluation_duration for config in configs} == {5}
    assert len(plan.seeds) == 8
    settings = [config.to_settings() for config in configs]
    varied = {"model_loss": "vagram", "num_layers": 2, "hidden_size": 64}
    if name == "real_ratio":
        varied |= {key: getattr(settings[0], key) for key in ("real_ratio", "rollout_length", "rollout_truncation")}
        assert {one.real_ratio[-1] for one in settings if one.model_loss != "none"} == {0.05, 0.25, 0.5, 0.75}
    assert all(replace(one, **varied) == replace(settings[0], **varied) for one in settings)
    first = settings[0]
    assert first.num_steps_sampled_before_learning_starts + plan.epochs * first.epoch_length == 65_000
    losses = {
        "model_size": {"vagram", "nll", "mse", "none"},
        "distractors": {"vagram", "nll", "none"},
        "real_ratio": {"vagram", "none"},
    }[name]
    assert {one.model_loss for one in settings} == losses
    sizes = {(4, 200), (3, 64), (2, 64)} if name == "model_size" else {(2, 64)}
    assert {(one.num_layers, one.hidden_size) for one in settings} == sizes
    numbers = {5, 10, 15} if name == "distractors" else {0}
    assert {config.num_distractors for config in configs} == numbers


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_real_ratio_goes_from_5_percent_to_sac_and_tells_the_truncations_apart(scale: str) -> None:
    plan = plan_of("real_ratio", scale)
    shares = ("0.05", "0.25", "0.5", "0.75")
    longer = ("0.5 long", "0.5 disagreement", "0.5 value_disagreement")
    expected = [f"real_share={mix}, model_loss={loss}" for mix in (*shares, *longer) for loss in ("vagram", "nll")]
    assert sorted(labels(plan)) == sorted([*expected, "model_loss=none"])
    assert len(plan.seeds) == 16
    settings = {
        cell.axes["real_share"]: cell.config(plan.config).to_settings()
        for cell in plan.cells
        if cell.axes["model_loss"] == "vagram"
    }
    last = plan.epochs - 1
    for name in shares:
        assert settings[name].real_ratio_at(last) == float(name)
        assert (settings[name].rollout_length_at(last), settings[name].rollout_truncation) == (1, "schedule")
    assert {settings[name].real_ratio_at(last) for name in longer} == {0.5}
    assert {settings[name].rollout_length_at(last) for name in longer} == {5}
    assert [settings[name].rollout_truncation for name in longer] == ["schedule", "disagreement", "value_disagreement"]
    configs = [cell.config(plan.config) for cell in plan.cells]
    assert {config.num_distractors for config in configs} == {10}
    assert {config.env for config in configs} == {"Pendulum-v1" if scale == "laptop" else "Hopper-v4"}


def test_real_ratio_takes_the_shares_alone() -> None:
    sweep, _ = load_sweep_file(FOLDER / "real_ratio.py").at_scale("laptop")
    grid = parse_assignments(["real_share=grid(0.05,0.25,0.5,0.75)"])
    chosen, rest = select_variants(sweep.variants, grid)
    assert list(chosen["real_share"]) == ["0.05", "0.25", "0.5", "0.75"] and not rest


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_the_attribution_changes_one_thing_of_the_baseline_at_a_time(scale: str) -> None:
    plan = plan_of("attribution", scale)
    by_agent: dict[str, list[Any]] = {}
    for cell in plan.cells:
        by_agent.setdefault(cell.axes["agent"], []).append(cell.config(plan.config))
    difficulties = {"smoke": 1, "laptop": 5, "paper": 5}[scale]
    sizes_without_distractors = {"smoke": 0, "laptop": 2, "paper": 1}[scale]  # beyond the first: the same run for SAC
    assert {agent: len(configs) for agent, configs in by_agent.items()} == {
        "vagram": difficulties,
        "vagram + reward per output": difficulties,
        "mse": difficulties,
        "nll": difficulties,
        "nll + normalised rewards": difficulties,
        "nll + reward weight 1": difficulties,
        "nll + limit of 60 fit epochs": difficulties,
        "sac": difficulties - sizes_without_distractors,
    }
    changed = {
        "nll + normalised rewards": {"normalize_reward_targets": True},
        "nll + reward weight 1": {"reward_weight": 1.0},
        "nll + limit of 60 fit epochs": {"model_max_epochs": 60},
        "mse": {"model_loss": "mse"},
        "vagram": {"model_loss": "vagram"},
    }
    for agent, settings in changed.items():
        for baseline, other in zip(by_agent["nll"], by_agent[agent], strict=True):
            assert other.num_distractors == baseline.num_distractors
            assert other.to_settings() == replace(baseline.to_settings(), **settings)
    baseline = by_agent["nll"][0].to_settings()
    assert (baseline.model_max_epochs, baseline.reward_weight) == (None, "auto")
    assert not baseline.normalize_reward_targets
    mix = (baseline.rollout_length, baseline.real_ratio, baseline.early_stopping_metric, baseline.model_batch_size)
    assert (
        mix
        == {
            "smoke": ((20, 150, 1, 1), (0, 1, 1.0, 0.05), "loss", 256),
            "laptop": ((20, 150, 1, 1), (0, 2, 1.0, 0.05), "loss", 256),
            "paper": ((20, 150, 1, 1), (0, 50, 1.0, 0.05), "squared_error", 1024),
        }[scale]
    )
    if scale == "laptop":
        sizes = [(c.num_distractors, c.num_layers, c.hidden_size) for c in by_agent["vagram"]]
        assert sizes == [(0, 2, 64), (5, 2, 64), (10, 2, 64), (0, 1, 16), (0, 1, 8)]
        assert len(plan.seeds) == 16


def test_dm_control_compares_targets_with_both_losses_and_plain_sac_once() -> None:
    plan = plan_of("dmc", "paper")
    by_cell = {tuple(cell.axes.values()): cell.config(plan.config) for cell in plan.cells}
    assert len(by_cell) == 5 * (2 * 2 + 1)
    usual, repaired = (by_cell["hopper-hop", targets, "vagram"].to_settings() for targets in ("usual", "repaired"))
    assert (usual.prediction_target, usual.normalize_dynamics_targets) == ("delta", False)
    assert (repaired.prediction_target, repaired.normalize_reward_targets) == ("next_obs", True)
    assert by_cell["humanoid-walk", "usual", "nll"].environment_spec().dimensions() == (67, 21)
