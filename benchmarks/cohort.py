"""What more seeds in a cohort cost: the SAC update of 1 to 16 seeds.

    python -m benchmarks.cohort [--rounds 10] [--core 1] [--eager] [--json FILE]

Batch 256, Hopper's dimensions; compiled updates, with ``--eager`` those in PyTorch's operations. The last column is
the least time's ratio to one seed's. "products, 8" are the matrix products of eight seeds alone, PyTorch's own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from benchmarks import timing
from benchmarks.sac_products import update_products
from benchmarks.sac_update import ACTION_DIM, OBS_DIM, UPDATES, eager, native

SEEDS = (1, 2, 4, 8, 16)
WIDTHS = (64, 256)
BATCH = 256


def products(num_seeds: int, width: int, batch: int) -> timing.Operation:
    """No updates, their matrix products."""
    torch.set_grad_enabled(False)
    call, _ = update_products(batch, OBS_DIM, ACTION_DIM, (width, width), num_seeds)

    def run() -> None:
        for _ in range(UPDATES):
            call()

    return run


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = timing.parser(__doc__, rounds=10)
    parser.add_argument("--eager", action="store_true", help="updates in PyTorch's operations")
    arguments = parser.parse_args(argv)
    timing.prepare(arguments)
    updates, batch = eager if arguments.eager else native, 8 if arguments.tiny else BATCH
    samples: list[timing.Samples] = []
    for width in (16,) if arguments.tiny else WIDTHS:
        sides: dict[str, timing.Factory] = {
            f"{count} seed{'s' if count > 1 else ''}": functools.partial(updates, count, width, batch)
            for count in (SEEDS[:2] if arguments.tiny else SEEDS)
        }
        for count in (1,) if arguments.tiny else (1, 8):
            sides[f"products, {count}"] = functools.partial(products, count, width, batch)
        found = timing.measure(f"2 x {width}", sides, rounds=arguments.rounds, repeats=2, warm_up=2).values()
        for sample in found:
            sample.milliseconds = [value / UPDATES for value in sample.milliseconds]
        samples += found
    print(f"SAC update of a cohort, {'eager' if arguments.eager else 'native'}, one thread, processor time per update")
    timing.print_table(samples, base="1 seed")
    timing.write_json(arguments.json, "cohort", samples)


if __name__ == "__main__":
    main()
