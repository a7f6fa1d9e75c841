"""The matrix products of a SAC update and nothing else: the floor that an update is held against.

Each product is one call of PyTorch on matrices of its exact shapes (``torch.mm``, ``torch.mv``, for more seeds
``torch.bmm``; MKL on x86); results go to memory allocated before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def update_products(
    batch: int, obs_dim: int, action_dim: int, hidden: Sequence[int], num_seeds: int = 1
) -> tuple[Callable[[], None], int]:
    """The products as one call, and how many floating-point operations they are."""
    actor, critic = (obs_dim, *hidden, 2 * action_dim), (obs_dim + action_dim, *hidden, 1)
    shapes: list[tuple[str, int, int, int]] = []
    for sizes, forwards, weights, inputs in (
        (actor, 2, 1, 1),  # at s' for the target, at s for the loss
        (critic, 6, 2, 4),  # two critics each: target, critic loss, actor loss
    ):
        for layer, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            shapes += [("NN", batch, fan_in, fan_out)] * forwards
            shapes += [("TN", fan_in, batch, fan_out)] * weights
            if layer > 0:
                shapes += [("NT", batch, fan_out, fan_in)] * inputs
    shapes += [("NT", batch, critic[1], action_dim)] * 2  # the value's gradient with respect to the action
    if num_seeds == 1:
        calls = [_product(*shape) for shape in shapes]
    else:
        calls = [_batched_product(num_seeds, *shape) for shape in shapes]

    def run() -> None:
        for call in calls:
            call()

    return run, num_seeds * sum(2 * rows * inner * columns for _, rows, inner, columns in shapes)


def _product(kind: str, rows: int, inner: int, columns: int) -> Callable[[], object]:
    left = torch.randn(inner, rows).t() if kind == "TN" else torch.randn(rows, inner)
    right = torch.randn(columns, inner).t() if kind == "NT" else torch.randn(inner, columns)
    if columns == 1:
        vector, values = right[:, 0].contiguous(), torch.empty(rows)
        return lambda: torch.mv(left, vector, out=values)
    if columns <= 8:  # a tall, thin result costs BLAS less if it is computed transposed
        out = torch.empty(columns, rows)
        return lambda: torch.mm(right.t(), left.t(), out=out)
    out = torch.empty(rows, columns)
    return lambda: torch.mm(left, right, out=out)


def _batched_product(num_seeds: int, kind: str, rows: int, inner: int, columns: int) -> Callable[[], object]:
    left = torch.randn(num_seeds, inner, rows).mT if kind == "TN" else torch.randn(num_seeds, rows, inner)
    right = torch.randn(num_seeds, columns, inner).mT if kind == "NT" else torch.randn(num_seeds, inner, columns)
    if columns <= 8:
        out = torch.empty(num_seeds, columns, rows)
        return lambda: torch.bmm(right.mT, left.mT, out=out)
    out = torch.empty(num_seeds, rows, columns)
    if inner == 1:
        return lambda: torch.mul(left, right, out=out)
    return lambda: torch.bmm(left, right, out=out)
