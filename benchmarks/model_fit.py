"""What a minibatch of model fitting costs: compiled, in PyTorch's operations, and as a plain JAX program.

    python -m benchmarks.model_fit [--rounds 8] [--core 1] [--peer PYTHON] [--losses LOSS ...] [--json FILE]

One seed, an ensemble of 7 networks, Hopper's dimensions: gather, forward and backward pass, Adam's step. ``--peer``
names an interpreter with jax and optax, which then takes its turns with the losses that
benchmarks/peers/jax_model_fit.py knows. ``--losses`` may name any; those that are no weighted sum over outputs have no
compiled side. Sides take turns, each in its own process with one thread; times are the processor's, per minibatch of
all members.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import timing
from benchmarks.agents import make_agent
from vagram_ray.core.fast.library import find_library
from vagram_ray.core.model_fitting import ModelFit
from vagram_ray.core.model_losses import get_model_loss, model_loss_names
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates

LOSSES = ("mse", "nll", "vagram")  # those of the JAX program
MINIBATCHES = 8  # per run
JAX = str(Path(__file__).parent / "peers" / "jax_model_fit.py")


class Size(NamedTuple):
    """Of an ensemble and its minibatch."""

    members: int
    layers: int
    width: int
    batch: int

    def __str__(self) -> str:
        return f"{self.members} x ({self.layers} x {self.width}), batch {self.batch}"


SIZES = (Size(7, 4, 200, 256), Size(7, 2, 64, 256))


def epoch(loss: str, size: Size, compiled: bool) -> timing.Operation:
    """One pass over ``MINIBATCHES`` minibatches of each member."""
    library, reason = find_library(may_compile=True)
    if compiled and library is None:
        raise RuntimeError(reason)
    settings = MBPOSettings(
        model_loss=loss, ensemble_size=size.members, num_elites=1, num_layers=size.layers, hidden_size=size.width,
        model_batch_size=size.batch, validation_fraction=0.2, execution="eager",
    )  # fmt: skip
    agent = make_agent(settings, 1, MINIBATCHES * size.batch * 5 // 4)
    data, streams = agent.replay.layout.split(agent.replay.rows), agent._streams["fit"]
    values, used = ValueEstimates(agent.sac), library if compiled else None
    fit = ModelFit(agent.dynamics, agent.model_optimizer, data, values, settings, streams, library=used)
    return lambda: fit._train_epoch(fit.cohort)


def measure(loss: str, size: Size, peer: str | None, rounds: int) -> list[timing.Samples]:
    """All sides of a loss at one size; milliseconds per minibatch."""
    sides: dict[str, timing.Factory | timing.Peer] = {}
    if get_model_loss(loss).family is not None and find_library(may_compile=True)[0] is not None:
        sides["native"] = functools.partial(epoch, loss, size, True)
    sides["eager"] = functools.partial(epoch, loss, size, False)
    if peer is not None and loss in LOSSES:
        numbers = (size.width, size.layers, size.members, size.batch, MINIBATCHES)
        sides["JAX"] = timing.Peer(peer, JAX, (loss, *map(str, numbers)))
    found = timing.measure(f"{loss}, {size}", sides, rounds=rounds, repeats=2, warm_up=2)
    for sample in found.values():
        sample.milliseconds = [value / MINIBATCHES for value in sample.milliseconds]
    return list(found.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = timing.parser(__doc__, rounds=8)
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter with jax and optax")
    choices = sorted(set(model_loss_names()) - {"none"})
    parser.add_argument(
        "--losses", nargs="+", choices=choices, metavar="LOSS", default=list(LOSSES),
        help=f"of {', '.join(choices)} (default {' '.join(LOSSES)})",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    timing.prepare(arguments)
    library, reason = find_library(may_compile=True)
    if library is None:
        print(f"Compiled fits are left out: {reason}", file=sys.stderr)
    sizes = [Size(3, 2, 8, 16)] if arguments.tiny else SIZES
    samples = [
        sample
        for size in sizes
        for loss in arguments.losses
        for sample in measure(loss, size, arguments.peer, arguments.rounds)
    ]
    print("Model minibatch, Hopper's dimensions, one thread, processor time per minibatch of all members")
    timing.print_table(samples, base="JAX" if arguments.peer else "eager")
    timing.write_json(arguments.json, "model_fit", samples)


if __name__ == "__main__":
    main()
