"""Each benchmark's command runs and writes its numbers; how long anything takes is not a test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vagram_ray.core.fast.build import load_library

pytestmark = pytest.mark.ci

ROOT = Path(__file__).parents[2]
NO_RAY = """
import runpy, sys
sys.modules["ray"] = None
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
COMMANDS = {
    "sac_update": {"published", "eager"},
    "cohort": {"1 seed", "2 seeds", "products, 1"},
    "model_fit": {"eager"},
    "rollout": {"vagram's model", "nll's model"},
    "env_step": {"bare environment", "1 seed", "8 seeds"},
    "whole_epoch": {"1 seed", "sac", "model_fit", "rollout", "sum"},
}
COMPILED = {"sac_update", "model_fit"}  # have also the side "native", where there is a compiler
MORE = {
    "sac_update": ("--published",),
    "cohort": ("--eager",),
    "env_step": ("--env", "Pendulum-v1"),
    "whole_epoch": ("--seeds", "1"),
}


def run(code: list[str], *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_without_ray_prints_a_table_and_writes_json(name, tmp_path):
    path = tmp_path / "numbers.json"
    finished = run(["-c", NO_RAY], f"benchmarks.{name}", "--tiny", "--json", str(path), *MORE.get(name, ()))
    assert finished.returncode == 0, finished.stderr
    assert "median" in finished.stdout
    assert "Traceback" not in finished.stderr
    content = json.loads(path.read_text())
    assert content["benchmark"] == name
    sides = {result["side"] for result in content["results"]}
    assert COMMANDS[name] <= sides
    assert ("native" in sides) == (name in COMPILED and load_library().handle is not None)
    for result in content["results"]:
        assert 0 < result["least_ms"] <= result["median_ms"] <= result["p90_ms"]


def test_the_drivers_cost_is_measured_over_made_up_trials():
    finished = run(["-m"], "benchmarks.driver_scale", "--trials", "4", "--epochs", "1", "--wandb", "disabled")
    assert finished.returncode == 0, finished.stderr
    assert "4 trials: " in finished.stderr + finished.stdout
    assert "a result (ms CPU)" in finished.stdout


def test_rllibs_side_is_left_out_with_one_line_where_ray_is_not(tmp_path):
    finished = run(["-c", NO_RAY], "benchmarks.sac_update", "--tiny", "--rllib")
    assert finished.returncode == 0, finished.stderr
    assert "RLlib's SAC is left out: Ray is not installed." in finished.stderr
    assert "RLlib's SAC" not in finished.stdout


def test_a_side_that_fails_is_named_with_its_error():
    from benchmarks import timing

    def broken():
        raise ValueError("no such size")

    with pytest.raises(RuntimeError, match="'bad' failed: ValueError: no such size"):
        timing.measure("case", {"bad": broken}, rounds=1)


def test_sides_take_turns_and_warm_up_runs_do_not_count(tmp_path):
    from benchmarks import timing

    log = tmp_path / "log"

    def side(name):
        def factory():
            def run():
                with log.open("a") as file:
                    file.write(name)

            return run

        return factory

    samples = timing.measure("case", {"a": side("a"), "b": side("b")}, rounds=3, repeats=2, warm_up=1)
    assert log.read_text() == "ab" + 3 * "aabb"
    assert [len(sample.milliseconds) for sample in samples.values()] == [6, 6]


def test_the_published_structure_learns_the_same_losses_as_ours():
    """The reference update is SAC's: from the same weights, batch and noise the first critic step has our direction."""
    import torch

    from benchmarks.published_sac import PublishedSAC
    from benchmarks.sac_update import ACTION_DIM, OBS_DIM, random_batch
    from vagram_ray.core.random_streams import RandomStreams
    from vagram_ray.core.replay import Transitions
    from vagram_ray.core.sac import SAC
    from vagram_ray.core.sac_losses import critic_loss
    from vagram_ray.core.settings import MBPOSettings

    settings = MBPOSettings(actor_hidden_sizes=(8, 8), critic_hidden_sizes=(8, 8))
    ours = SAC(settings, 1, OBS_DIM, ACTION_DIM, RandomStreams([0], "init"))
    theirs = PublishedSAC(OBS_DIM, ACTION_DIM, (8, 8))
    with torch.no_grad():
        copy_weights(ours.actor.network, 0, theirs.actor)
        for row, module in enumerate((theirs.critic.first, theirs.critic.second)):
            copy_weights(ours.critic.network, row, module)
        ours.target_critic.network.flat.copy_(ours.critic.network.flat)
        theirs.target.load_state_dict(theirs.critic.state_dict())
    batch, _ = random_batch(1, 4096)  # the noise differs: the directions agree on average
    noise = torch.randn(1, 4096, ACTION_DIM)
    loss, _ = critic_loss(ours, batch, noise, settings.gamma)
    gradients = torch.autograd.grad(loss.sum(), ours.critic.network.views)
    theirs._update_critics(Transitions(*(column[0] for column in batch)))
    layers = [layer for layer in theirs.critic.first if isinstance(layer, torch.nn.Linear)]
    for layer, weight in zip(layers, gradients[::2], strict=True):
        cosine = torch.cosine_similarity(layer.weight.grad.T.flatten(), weight[0].flatten(), dim=0)
        assert cosine > 0.99


def copy_weights(stack, row, module):
    import torch

    linear = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
    for number, layer in enumerate(linear):
        layer.weight.copy_(stack.views[2 * number][row].T)
        layer.bias.copy_(stack.views[2 * number + 1][row, 0])


# -- whole_epoch's published run, glue -------------------------------------------------------------------------


def test_the_published_setting_is_run_without_ray_and_every_phase_is_timed(tmp_path):
    path = tmp_path / "numbers.json"
    words = ("--case", "published_run", "--env-steps", "3", "--tiny", "--json", str(path))
    finished = run(["-c", NO_RAY], "benchmarks.whole_epoch", *words)
    assert finished.returncode == 0, finished.stderr
    content = json.loads(path.read_text())
    times = {result["side"]: result["least_ms"] for result in content["results"]}
    phases = ("env", "model_fit", "rollout", "sac", "other")
    assert sum(times[phase] for phase in phases) == pytest.approx(times["all but evaluation"])
    assert times["all but evaluation"] + times["evaluation"] == pytest.approx(times["all"])
    facts = content["published_run"]
    assert (facts["env_steps"], facts["updates"], facts["fits"]) == (3, 6, 1)
    assert 1 <= facts["fit_epochs"] <= 2  # its limit when tiny
    assert facts["evaluation_env_steps"] >= 1
    assert "276 epochs" in finished.stdout


def test_the_published_run_has_the_settings_of_the_sweep_at_paper_scale():
    from benchmarks.whole_epoch import PUBLISHED_EPISODES, PUBLISHED_RUN, PUBLISHED_TASK
    from vagram_ray.core.settings import MBPOSettings
    from vagram_ray.sweep.plan.overrides import apply_overrides
    from vagram_ray.sweep.sweep_file import load_sweep_file

    sweep, overrides = load_sweep_file(ROOT / "tune_configs" / "distractors.py").at_scale("paper")
    cell = {"num_distractors": 15, "model_loss": "vagram"}
    config = apply_overrides(sweep.config, {**overrides, **cell}, source="test")
    assert MBPOSettings(model_loss="vagram", **PUBLISHED_RUN) == config.to_settings()
    assert config.environment_spec() == PUBLISHED_TASK
    assert config.evaluation_duration == PUBLISHED_EPISODES


def glue(tmp_path, *words):
    path = tmp_path / "numbers.json"
    finished = run(["-m"], "benchmarks.glue", "--tiny", "--json", str(path), *words)
    assert finished.returncode == 0, finished.stderr
    assert "All sides have learned the same numbers." in finished.stdout
    return json.loads(path.read_text())


def test_glue_times_core_and_rllib_at_the_same_work(tmp_path):
    content = glue(tmp_path, "--sides", "core", "rllib")
    assert {result["side"] for result in content["results"]} == {"core", "rllib"}
    (sides,) = content["summaries"].values()
    assert sides["core"]["overhead_median"] == 0.0
    assert sides["rllib"]["outside_core_ms"] > 0.0
    assert sides["rllib"]["start_s"] > 0.0


@pytest.mark.slow
def test_glue_times_a_trial_of_the_sweep_at_the_same_work(tmp_path):
    content = glue(tmp_path)
    (sides,) = content["summaries"].values()
    row = sides["sweep"]
    assert row["outside_core_ms"] >= row["around_step_ms"] > 0.0
    assert row["checkpoint_ms"] > 0.0  # the last epoch is saved
    assert row["cpu_driver_s"] >= 0.0 and row["start_s"] > 0.0 and row["end_s"] > 0.0


def made_up_trial(epochs, numbers=1.0, start=0.0, end=0.0):
    """A trial with epochs of so many seconds, each a second of evaluation."""
    from benchmarks.glue_report import Epoch, Trial

    clock, made = start, []
    for seconds in epochs:
        metrics = {"0": {"eval/episode_return": numbers}}
        made.append(Epoch(clock, clock + seconds, seconds - 1.0, 1.0, metrics, cpu_s={"trial": seconds}))
        clock += seconds
    return Trial(0.0, clock + end, made)


def test_glue_refuses_sides_that_have_learned_other_numbers():
    from benchmarks.glue_report import check_equal

    core = made_up_trial([3.0, 2.0])
    check_equal({"core": [core], "rllib": [made_up_trial([4.0, 3.0])]})
    with pytest.raises(AssertionError, match=r"rllib .* epoch 1, seed 0, eval/episode_return: 1.0 and 1.0000000001"):
        check_equal({"core": [core], "rllib": [core, made_up_trial([4.0, 3.0], numbers=1.0000000001)]})
    with pytest.raises(AssertionError, match="rllib has run 1 epochs"):
        check_equal({"core": [core], "rllib": [made_up_trial([4.0])]})


def test_glue_compares_each_epoch_with_the_same_one_of_core_and_leaves_the_first_out():
    from benchmarks.glue_report import overheads, summary, whole_trial

    trials = {
        "core": [made_up_trial([9.0, 2.0, 4.0]), made_up_trial([9.0, 2.5, 4.0])],
        "sweep": [made_up_trial([99.0, 2.2, 5.0], start=7.0, end=3.0), made_up_trial([99.0, 2.5, 4.4], start=7.0)],
    }
    assert overheads(trials, "sweep") == pytest.approx([0.1, 0.25, 0.0, 0.1])
    row = summary(trials, "sweep")
    assert row["overhead_of_least"] == pytest.approx((2.2 + 4.4) / (2.0 + 4.0) - 1)
    assert (row["start_s"], row["end_s"]) == pytest.approx((7.0, 1.5))
    mean = ((2.2 + 5.0) / 2 + (2.5 + 4.4) / 2) / 2
    assert whole_trial(trials["sweep"], 13, with_start=False) == pytest.approx(99.0 + 12 * mean)
    assert whole_trial(trials["sweep"], 13, with_start=True) == pytest.approx(7.0 + 99.0 + 12 * mean + 1.5)


# -- memory ----------------------------------------------------------------------------------------------------


def test_memory_is_estimated_and_measured_without_ray(tmp_path):
    path = tmp_path / "numbers.json"
    finished = run(["-m"], "benchmarks.memory", "--tiny", "--json", str(path))
    assert finished.returncode == 0, finished.stderr
    assert "estimated" in finished.stdout and "32 seeds x 500,000 steps x 26 observations" in finished.stdout
    content = json.loads(path.read_text())
    tensors, process = content["results"]
    assert (tensors["side"], process["side"]) == ("tensors", "process")
    assert 1.0 <= tensors["ratio"] < 5.0
    assert process["estimated"] > tensors["estimated"] + 300 * 2**20
    assert process["measured"] > tensors["measured"] > 0
    for limit in content["limits"]:
        assert limit["fits"] == (limit["total"] <= 40 * 10**9)


def test_memory_of_a_gpu_is_refused_with_a_sentence_where_there_is_none():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    finished = run(["-m"], "benchmarks.memory", "--device", "cuda", "--tiny")
    assert finished.returncode == 2
    assert "PyTorch sees no CUDA device here" in finished.stderr
