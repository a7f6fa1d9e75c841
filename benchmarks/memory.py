"""Memory: what is estimated before a trial starts, against what a cohort takes when it runs.

    python -m benchmarks.memory [--device cuda] [--trial] [--json FILE]

Each case is a cohort with a buffer of random transitions that fits its model, imagines, and updates its policy. It
runs in processes of its own:

- *tensors*: on the CPU, along the GPU's way through the code; the bytes of all tensors that are alive at once are
  counted, operation by operation. Against the estimate of a GPU's memory without what is no tensor.
- *process*: on the CPU; the high-water mark of the process's resident memory. Against the estimate of its tensors and
  a constant for PyTorch without RLlib.
- *cuda* (with ``--device cuda``): on the GPU; the most that PyTorch allocated there, and, beside it, reserved.

Seeds stop fitting in the order that takes most memory. ``--trial`` also trains with RLlib, checkpoints included, and
needs Ray; all else runs without. At the end: does a cohort of 32 seeds fit into 40 GB?
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import timing
from benchmarks.agents import ACTION_DIM, LAPTOP, WIDE
from benchmarks.tensor_counter import TensorCounter, run_cohort
from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep.plan.memory import CUDA_BYTES, gpu_bytes, memory_bytes, tensor_bytes
from vagram_ray.sweep.plan.workload import Workload

MB, GB = 10**6, 10**9
OBS_DIM = 26  # Hopper with 15 distractors
SHORT: dict[str, Any] = {"model_patience": 1, "model_max_epochs": 3}
"""Fits of as many epochs as it takes until two seeds have stopped."""
CORE_PROCESS_BYTES = 360 * 2**20
"""Of a process that trains without RLlib, beside its tensors; what ``memory.PROCESS_BYTES`` is with it."""
LIMIT = 40 * GB
"""Of the GPU memory that 32 seeds are to fit into."""


@dataclass(frozen=True)
class Case:
    """A cohort at the end of a run that has stored ``stored`` transitions per seed."""

    name: str
    num_seeds: int
    stored: int
    changes: dict[str, Any]
    obs_dim: int = OBS_DIM
    action_dim: int = ACTION_DIM

    @property
    def settings(self) -> MBPOSettings:
        """With early ends of the fits, and without native code, whose memory is no tensors."""
        return MBPOSettings(**SHORT | {"execution": "eager"} | self.changes)

    @property
    def workload(self) -> Workload:
        """A run of which this is the end."""
        settings = dataclasses.replace(
            self.settings, num_steps_sampled_before_learning_starts=self.stored - self.settings.epoch_length
        )
        return Workload(settings, None, self.obs_dim, self.action_dim, None, 1, 1000)

    def estimate(self) -> int:
        """Bytes of all tensors."""
        return tensor_bytes(self.workload, self.num_seeds, 1)

    def run(self, device: str = "cpu") -> None:
        """Let the cohort work."""
        run_cohort(self.settings, self.num_seeds, self.stored, self.obs_dim, self.action_dim, device)


CASES = [
    Case("vagram 2 x 256", 1, 100_000, {"model_loss": "vagram"}),
    Case("vagram 2 x 256", 1, 500_000, {"model_loss": "vagram"}),
    Case("vagram 2 x 256", 4, 100_000, {"model_loss": "vagram"}),
    Case("vagram 2 x 256", 8, 20_000, {"model_loss": "vagram"}),
    Case("vagram 2 x 1024", 1, 100_000, {"model_loss": "vagram", **WIDE}),
    Case("vagram 2 x 1024", 4, 10_000, {"model_loss": "vagram", **WIDE}),
    Case("nll 2 x 256", 4, 100_000, {"model_loss": "nll"}),
    Case("mse 2 x 256", 4, 20_000, {"model_loss": "mse"}),
    Case("taylor 2 x 256", 2, 50_000, {"model_loss": "taylor"}),
    Case("itervaml 2 x 256", 2, 5_000, {"model_loss": "itervaml"}),
    Case("vaml_sac 2 x 256", 2, 5_000, {"model_loss": "vaml_sac"}),
    Case("cvaml 2 x 256", 2, 5_000, {"model_loss": "cvaml"}),
    Case("value_weighted 2 x 256", 2, 20_000, {"model_loss": "value_weighted"}),
    Case("none 2 x 256", 8, 500_000, {"model_loss": "none"}),
    Case("laptop vagram", 8, 3_000, {"model_loss": "vagram", **LAPTOP}, 13, 1),
    Case("laptop nll", 8, 3_000, {"model_loss": "nll", **LAPTOP}, 13, 1),
]
RECORDED = [
    Case(f"recorded, batch {batch}", 16, 10_000,
         {"model_loss": "vagram", "execution": "cuda_graphs", "model_batch_size": batch})
    for batch in (256, 1024)
]  # fmt: skip
"""With CUDA graphs, whose pool of memory is kept: here the reserved memory counts."""
TRIAL = Case("RLlib, laptop vagram", 8, 800, {}, 13, 1)
TINY = [Case("laptop vagram", 2, 1_000, {"model_loss": "vagram", **LAPTOP, "rollouts_per_step": 2}, 3, 1)]


# -- sides: bytes of a case, estimated and measured --------------------------------------------------------------

Side = Callable[[Case], dict[str, int]]


def tensors(case: Case) -> dict[str, int]:
    """Counted on the CPU, with all networks in one batched product as on a GPU."""
    with TensorCounter() as counter:
        case.run()
    return {"estimated": case.estimate(), "measured": counter.peak}


def process(case: Case) -> dict[str, int]:
    """The process's resident memory, all of it."""
    keep_freed_memory()
    case.run()
    return {"estimated": CORE_PROCESS_BYTES + case.estimate(), "measured": most_resident()}


def trial(case: Case) -> dict[str, int]:
    """The resident memory of a process with RLlib that trains and writes checkpoints."""
    import tempfile

    from vagram_ray.rllib import MBPOConfig, laptop_settings

    config = MBPOConfig().environment("Pendulum-v1", num_distractors=10)
    config = config.training(**laptop_settings() | {"model_max_epochs": 3}, seeds=range(case.num_seeds))
    algo = config.build_algo()
    for _ in range(2):
        algo.train()
        with tempfile.TemporaryDirectory() as folder:
            algo.save(folder)
    estimated = memory_bytes(Workload.of(config), case.num_seeds, 2)
    algo.stop()
    return {"estimated": estimated, "measured": most_resident()}


def cuda(case: Case) -> dict[str, int]:
    """PyTorch's own account of a GPU's memory."""
    torch.cuda.reset_peak_memory_stats()
    case.run("cuda")
    return {
        "estimated": gpu_bytes(case.workload, case.num_seeds, 1) - CUDA_BYTES,
        "measured": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
    }


def most_resident() -> int:
    """The high-water mark of this process's resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def alone(side: Side, case: Case) -> dict[str, int]:
    """What a side finds out, in a new process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return pool.submit(side, case).result()


# -- what people see ---------------------------------------------------------------------------------------------


def report_limit() -> list[dict[str, Any]]:
    """Whether 32 seeds with 500,000 steps fit."""
    results = []
    for width, changes in ((256, {}), (1024, WIDE)):
        case = Case(f"2 x {width}", 32, 500_000, {"model_loss": "vagram", **changes})
        total = gpu_bytes(case.workload, case.num_seeds, 1)
        verdict = f"{'fit' if total <= LIMIT else 'do not fit'} into {LIMIT / GB:.0f} GB"
        print(f"\n32 seeds x 500,000 steps x 26 observations, SAC {case.name}, {verdict}: {total / GB:.1f} GB")
        results.append({"case": case.name, "total": total, "fits": total <= LIMIT})
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the cases, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="measure this one (default: %(default)s)"
    )
    parser.add_argument("--tiny", action="store_true", help="a size that shows that it runs, nothing more")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    parser.add_argument("--trial", action="store_true", help="also train with RLlib, which needs Ray")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose names contain this")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no CUDA device here; leave the option out to measure on the CPU.")
    sides = [cuda] if arguments.device == "cuda" else [tensors, process]
    every = TINY if arguments.tiny else [*CASES, *RECORDED] if arguments.device == "cuda" else CASES
    cases = [case for case in every if arguments.only in case.name]
    work: list[tuple[Case, Side]] = [(case, side) for case in cases for side in sides]
    results = measure(work + ([(TRIAL, trial)] if arguments.trial else []))
    timing.write_json(arguments.json, "memory", [], results=results, limits=report_limit())


def measure(work: Sequence[tuple[Case, Side]]) -> list[dict[str, Any]]:
    """Run each case's side, a line of the table each."""
    print(f"{'case':26s}{'seeds':>6s}{'stored':>9s}  {'side':10s}{'estimated':>11s}{'measured':>10s}  MB  ratio")
    results = []
    for case, side in work:
        found = alone(side, case)
        ratio = found["estimated"] / found["measured"]
        sizes = f"{found['estimated'] / MB:11,.1f}{found['measured'] / MB:10,.1f}      {ratio:5.2f}"
        more = f"  {found['reserved'] / MB:,.1f} reserved" if "reserved" in found else ""
        about = f"{case.name:26s}{case.num_seeds:6d}{case.stored:9,d}  {side.__name__:10s}"
        print(about + sizes + more, flush=True)
        results.append(
            {"case": case.name, "seeds": case.num_seeds, "stored": case.stored, "side": side.__name__, "ratio": ratio}
            | found
        )
    return results


if __name__ == "__main__":
    main()
