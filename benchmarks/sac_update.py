"""What a SAC update costs: compiled, in PyTorch's operations, and in other projects.

    python -m benchmarks.sac_update [--rounds 12] [--core 1] [--peer PYTHON] [--rllib] [--published] [--json FILE]

Hopper's dimensions; critics, targets, actor and temperature in every update; UPDATES updates a run, as in an
environment step. ``--peer`` names an interpreter with sbx-rl (Stable-Baselines-Jax), which then takes its turns,
``--rllib`` adds RLlib's own SAC learner, ``--published`` the published structure. Sides take turns, each in its own
process with one thread; times are the processor's, per update and seed.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import timing
from benchmarks.published_sac import PublishedSAC
from benchmarks.sac_products import update_products
from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.core.fast.build import load_library
from vagram_ray.core.fast.sac import NativeSAC
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import TransitionLayout, Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.settings import MBPOSettings

OBS_DIM, ACTION_DIM = 11, 3  # Hopper
WIDTHS, BATCHES = (64, 128, 256), (128, 256)
UPDATES = 20  # per run
COHORT = 8
SBX = str(Path(__file__).parent / "peers" / "sbx_sac.py")


def random_batch(num_seeds: int, batch: int) -> tuple[Transitions, torch.Tensor]:
    """Transitions (S, B, ...) and noise (S, B, 2 A)."""
    batches, noise = random_batches(num_seeds, 1, batch)
    return TransitionLayout(OBS_DIM, ACTION_DIM).split(batches[:, 0]), noise[:, 0]


def random_batches(num_seeds: int, updates: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of transitions (S, U, B, width) and noise (S, U, B, 2 A)."""
    streams, layout = RandomStreams(range(num_seeds), "benchmark"), TransitionLayout(OBS_DIM, ACTION_DIM)
    rows = streams.normal(updates, batch, layout.width)
    rows[..., OBS_DIM : OBS_DIM + ACTION_DIM].tanh_()
    rows[..., -1] = (rows[..., -1] > 1.3).float()
    return rows, streams.normal(updates, batch, 2 * ACTION_DIM)


def make_sac(num_seeds: int, width: int, batch: int) -> SAC:
    """Two hidden layers of that width everywhere."""
    keep_freed_memory()
    sizes = {"actor_hidden_sizes": (width, width), "critic_hidden_sizes": (width, width)}
    settings = MBPOSettings(train_batch_size_per_learner=batch, **sizes)
    return SAC(settings, num_seeds, OBS_DIM, ACTION_DIM, RandomStreams(range(num_seeds), "benchmark"))


def native(num_seeds: int, width: int, batch: int) -> timing.Operation:
    """The compiled updates."""
    library = load_library()
    if library.handle is None:
        raise RuntimeError(library.reason)
    updates = NativeSAC(make_sac(num_seeds, width, batch), library.handle)
    batches, noise = random_batches(num_seeds, UPDATES, batch)
    return lambda: updates.updates(0, batches, noise)


def eager(num_seeds: int, width: int, batch: int) -> timing.Operation:
    """The readable path."""
    sac, (transitions, noise) = make_sac(num_seeds, width, batch), random_batch(num_seeds, batch)

    def run() -> None:
        for _ in range(UPDATES):
            sac.update(transitions, noise)

    return run


def published(width: int, batch: int) -> timing.Operation:
    """The published code's structure."""
    sac = PublishedSAC(OBS_DIM, ACTION_DIM, (width, width))
    single = Transitions(*(column[0] for column in random_batch(1, batch)[0]))

    def run() -> None:
        for _ in range(UPDATES):
            sac.update(single)

    return run


def rllib(width: int, batch: int) -> timing.Operation:
    """RLlib's own learner."""
    from benchmarks.rllib_sac import rllib_update

    update = rllib_update(OBS_DIM, ACTION_DIM, batch, width)

    def run() -> None:
        for _ in range(UPDATES):
            update()

    return run


def measure(width: int, batch: int, arguments: object, rounds: int) -> list[timing.Samples]:
    """All sides at one size; milliseconds per update and seed."""
    sides: dict[str, timing.Factory | timing.Peer] = {}
    if load_library().handle is not None:
        sides["native"] = functools.partial(native, 1, width, batch)
        sides[f"native, {COHORT} seeds"] = functools.partial(native, COHORT, width, batch)
    sides["eager"] = functools.partial(eager, 1, width, batch)
    if peer := getattr(arguments, "peer", None):
        sides["SBX (JAX)"] = timing.Peer(peer, SBX, (str(width), str(batch), str(UPDATES)))
    for name, factory in (("published", published), ("rllib", rllib)):
        if getattr(arguments, name, False):
            sides[name] = functools.partial(factory, width, batch)
    found = timing.measure(f"2 x {width}, batch {batch}", sides, rounds=rounds, repeats=2, warm_up=2)
    for name, sample in found.items():
        share = UPDATES * (COHORT if name.endswith("seeds") else 1)
        sample.milliseconds = [value / share for value in sample.milliseconds]
    return list(found.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = timing.parser(__doc__, rounds=12)
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter with sbx-rl")
    parser.add_argument("--rllib", action="store_true", help="also RLlib's SAC learner")
    parser.add_argument("--published", action="store_true", help="also the published code's structure")
    arguments = parser.parse_args(argv)
    timing.prepare(arguments)
    if arguments.rllib and importlib.util.find_spec("ray") is None:
        arguments.rllib = False
        print("RLlib's SAC is left out: Ray is not installed.", file=sys.stderr)
    if load_library().handle is None:
        print(f"Compiled updates are left out: {load_library().reason}", file=sys.stderr)
    sizes = [(16, 8)] if arguments.tiny else [(width, batch) for width in WIDTHS for batch in BATCHES]
    samples: list[timing.Samples] = []
    products = {}
    for width, batch in sizes:
        samples += measure(width, batch, arguments, arguments.rounds)
        case = samples[-1].case
        products[case] = update_products(batch, OBS_DIM, ACTION_DIM, (width, width))[1]
    print("SAC update, Hopper's dimensions, one thread, processor time per update and seed")
    timing.print_table(samples, base="SBX (JAX)" if arguments.peer else "eager")
    for sample in samples:
        if sample.side == "native":
            rate = products[sample.case] / sample.least / 1e6
            size = products[sample.case] / 1e6
            print(f"{sample.case}: {size:.1f} MFLOP in products, {rate:.0f} GFLOP/s over the update")
    timing.write_json(arguments.json, "sac_update", samples, flop=products)


if __name__ == "__main__":
    main()
