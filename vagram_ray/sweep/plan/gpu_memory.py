"""What a trial will need of a GPU's memory, estimated from its settings before it runs.

Its tensors are counted (``tensor_memory``, held against running cohorts). What else a process takes of a GPU is not
measured by this project: CUDA's context (``PROCESS_BYTES``), the workspace of a sort, and the memory that recorded
work keeps for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from vagram_ray.sweep.plan.tensor_memory import TensorMemory, tensor_memory
from vagram_ray.sweep.plan.workload import Workload, real_transitions

PROCESS_BYTES = 800 * 2**20
"""CUDA's context, PyTorch's kernels and cuBLAS' workspace: users of PyTorch report 400 to 700 MiB on recent GPUs."""
SORT_BYTES = 16
"""Of one number that is sorted for a shuffled order, beside its tensors: copies of key and position."""


@dataclass(frozen=True)
class GpuMemory:
    """Bytes of one trial on its GPU."""

    process: int
    """Before it has any tensor."""
    tensors: TensorMemory
    """At their peak."""
    workspace: int
    """Of operations, and of recorded work, which keeps its memory while it is not replayed."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.process + self.tensors.total + self.workspace


def gpu_memory(workload: Workload, num_seeds: int, epochs: int) -> GpuMemory:
    """Peak of a cohort of ``num_seeds`` seeds within ``epochs`` epochs."""
    settings, tensors, workspace = workload.settings, tensor_memory(workload, num_seeds, epochs), 0
    if settings.model_based:
        rows = settings.ensemble_size * real_transitions(settings, epochs) * (1 - settings.validation_fraction)
        workspace += round(num_seeds * rows * SORT_BYTES)
    if settings.execution == "cuda_graphs":  # one pool, which is kept while nothing is replayed
        workspace += max(tensors.phases["updates"], tensors.minibatch)
    return GpuMemory(process=PROCESS_BYTES, tensors=tensors, workspace=workspace)
