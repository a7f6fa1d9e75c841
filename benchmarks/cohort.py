"""What more seeds in a cohort cost: the SAC update of 1 to 16 seeds.

    python -m benchmarks.cohort [--rounds 10] [--core 1] [--json FILE]

Batch 256, Hopper's dimensions. The last column is the least time's ratio to one seed's. "products, 8" are
the matrix products of eight seeds alone, PyTorch's own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from benchmarks import timing
from benchmarks.sac_update import our_update, products_alone

SEEDS = (1, 2, 4, 8, 16)
WIDTHS = (64, 256)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    arguments = timing.parser(__doc__, rounds=10).parse_args(argv)
    timing.prepare(arguments)
    samples: list[timing.Samples] = []
    for width in (16,) if arguments.tiny else WIDTHS:
        sides: dict[str, timing.Factory] = {
            f"{count} seed{'s' if count > 1 else ''}": functools.partial(our_update, count, width)
            for count in (SEEDS[:2] if arguments.tiny else SEEDS)
        }
        for count in (1,) if arguments.tiny else (1, 8):
            sides[f"products, {count}"] = functools.partial(products_alone, width, "torch", count)
        samples += timing.measure(f"2 x {width}", sides, rounds=arguments.rounds).values()
    print("SAC update of a cohort, one thread")
    timing.print_table(samples, base="1 seed")
    timing.write_json(arguments.json, "cohort", samples)


if __name__ == "__main__":
    main()
