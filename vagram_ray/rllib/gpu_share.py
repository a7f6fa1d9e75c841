"""Holding a process to its share of a GPU's memory."""

from __future__ import annotations

import torch

CONTEXT_BYTES = 600 * 2**20
"""Approximate memory that CUDA takes for a process beside its tensors. PyTorch's limit does not count it."""


def hold_to_gpu_share(share: float) -> None:
    """Let PyTorch's tensors take no more of the GPU than ``share``. Nothing happens for a whole GPU and for none.

    Ray hands out shares of a GPU and does not look at memory. Without a limit, PyTorch keeps the memory of tensors
    that are gone until nothing is left, also for others. With one, it gives such memory back first, and a trial that
    needs more than its share ends with an error of its own instead of its neighbours'.
    """
    if not 0 < share < 1:
        return
    context = CONTEXT_BYTES / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(max(share / 2, share - context))
