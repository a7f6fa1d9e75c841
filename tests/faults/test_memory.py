"""Out of memory at the start: smaller packs are tried, then there is a clear sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import SIMULATOR, SweepRun, check_equal, write_sweep_file

pytestmark = pytest.mark.ci

SEEDS = (0, 1, 2)
REAL = """
import os
import resource

import torch

from vagram_ray.envs import SeedVectorEnv

own_init = SeedVectorEnv.__init__
held = []


def init(self, spec, seeds, *, evaluation=False):
    own_init(self, spec, seeds, evaluation=evaluation)
    if "TUNE_ORIG_WORKING_DIR" in os.environ and not evaluation:
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        used = 1024 * int(status["VmSize"].split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
        held.append(torch.zeros(len(seeds) * 700 * 2**20, dtype=torch.uint8))  # 700 MiB for every seed


SeedVectorEnv.__init__ = init
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raised", "real"])
def test_a_pack_that_does_not_fit_is_divided_until_it_does(
    kind: str, make_run: Callable[..., SweepRun], tmp_path: Path
) -> None:
    whole = make_run(
        write_sweep_file(tmp_path / "whole", seeds=SEEDS), "--seeds-per-trial", "1", storage=tmp_path / "a"
    )
    assert whole.run() == 0, whole.read_output()

    extension, environment = (SIMULATOR, {"FAULT": "memory", "FAULT_SEEDS": "1"}) if kind == "raised" else (REAL, {})
    file = write_sweep_file(tmp_path / "divided", extension=extension, seeds=SEEDS)
    run = make_run(file, "--seeds-per-trial", "3", storage=tmp_path / "b", **environment)
    assert run.run() == 0, run.read_output()
    assert "out of memory" in run.read_output()
    info = json.loads((run.folder / "sweep.json").read_text())
    assert sorted(trial["seeds"] for trial in info["trials"]) == [[0], [0], [1], [1], [2], [2]]
    assert run.left_behind() == []
    check_equal(run.folder, whole.folder)
    assert run.run() == 0, run.read_output()  # the packs that were found are those of the sweep
    check_equal(run.folder, whole.folder)


@pytest.mark.slow
def test_a_seed_that_does_not_fit_alone_fails_with_a_sentence(
    make_run: Callable[..., SweepRun], tmp_path: Path
) -> None:
    file = write_sweep_file(tmp_path, extension=SIMULATOR)
    run = make_run(file, FAULT="memory", FAULT_SEEDS="0", FAULT_TRIAL="model_loss=nll")
    assert run.run() == 1
    output = " ".join(run.read_output().split())
    assert "The trial model_loss=nll,seeds=0 is out of memory with one seed and no other trial beside it" in output
    assert "were expected to be needed, the machine has" in output
    assert "use smaller networks" in output
    assert "NOT COMPLETE: 2 of 4 seeds came to their end" in output
    assert run.left_behind() == []
