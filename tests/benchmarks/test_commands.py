"""Each benchmark's command runs and writes its numbers; how long anything takes is not a test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_RAY = """
import runpy, sys
sys.modules["ray"] = None
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
COMMANDS = {
    "sac_update": {"published structure", "ours", "products, torch"},
    "cohort": {"1 seed", "2 seeds"},
    "model_fit": {"mse", "vagram", "nll", "vagram, weights every minibatch"},
    "rollout": {"vagram's model", "nll's model"},
    "env_step": {"bare environment", "1 seed", "8 seeds"},
    "whole_epoch": {"1 seed", "sac", "model_fit", "rollout", "sum"},
}


def run(code: list[str], *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_without_ray_prints_a_table_and_writes_json(name, tmp_path):
    path = tmp_path / "numbers.json"
    extra = ("--seeds", "1") if name == "whole_epoch" else ("--env", "Pendulum-v1") if name == "env_step" else ()
    finished = run(["-c", NO_RAY], f"benchmarks.{name}", "--tiny", "--json", str(path), *extra)
    assert finished.returncode == 0, finished.stderr
    assert "median" in finished.stdout
    assert "Traceback" not in finished.stderr
    content = json.loads(path.read_text())
    assert content["benchmark"] == name
    assert COMMANDS[name] <= {result["side"] for result in content["results"]}
    for result in content["results"]:
        assert 0 < result["least_ms"] <= result["median_ms"] <= result["p90_ms"]


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
    from vagram_ray.core.sac_gradients import critic_gradients
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
    gradient = torch.empty_like(ours.critic.network.flat)
    noise = torch.randn(1, 4096, ACTION_DIM)
    critic_gradients(ours, batch, noise, ours.critic.network.split(gradient))
    theirs._update_critics(Transitions(*(column[0] for column in batch)))
    layers = [layer for layer in theirs.critic.first if isinstance(layer, torch.nn.Linear)]
    for layer, weight in zip(layers, ours.critic.network.split(gradient)[::2], strict=True):
        cosine = torch.cosine_similarity(layer.weight.grad.T.flatten(), weight[0].flatten(), dim=0)
        assert cosine > 0.99


def copy_weights(stack, row, module):
    import torch

    linear = [layer for layer in module if isinstance(layer, torch.nn.Linear)]
    for number, layer in enumerate(linear):
        layer.weight.copy_(stack.views[2 * number][row].T)
        layer.bias.copy_(stack.views[2 * number + 1][row, 0])
