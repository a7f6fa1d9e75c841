"""What a SAC update costs, beside the published code's and beside its matrix products alone.

    python -m benchmarks.sac_update [--rounds 20] [--core 1] [--rllib] [--json FILE]

One seed, batch 256, Hopper's dimensions, critics, targets, actor and temperature in every update. ``--rllib`` adds
RLlib's own SAC learner, where Ray is installed. Sides take turns, each in a process of its own with one thread.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Sequence

import torch

from benchmarks import timing
from benchmarks.published_sac import PublishedSAC
from benchmarks.sac_products import Library, update_products
from vagram_ray.core import passes
from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import TransitionLayout, Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.sac_losses import actor_loss, critic_loss
from vagram_ray.core.settings import MBPOSettings

BATCH, OBS_DIM, ACTION_DIM = 256, 11, 3  # Hopper
WIDTHS = (64, 256, 1024)  # of the two hidden layers


def random_batch(num_seeds: int, batch: int = BATCH) -> tuple[Transitions, torch.Tensor]:
    """Transitions (S, B, ...) and noise (S, B, 2 A)."""
    streams, layout = RandomStreams(range(num_seeds), "benchmark"), TransitionLayout(OBS_DIM, ACTION_DIM)
    rows = streams.normal(batch, layout.width)
    rows[..., OBS_DIM : OBS_DIM + ACTION_DIM].tanh_()
    return layout.split(rows), streams.normal(batch, 2 * ACTION_DIM)


def our_update(num_seeds: int, width: int) -> timing.Operation:
    """As in training: derived gradients, kept memory."""
    keep_freed_memory()
    settings = MBPOSettings(actor_hidden_sizes=(width, width), critic_hidden_sizes=(width, width))
    sac = SAC(settings, num_seeds, OBS_DIM, ACTION_DIM, RandomStreams(range(num_seeds), "benchmark"))
    batch, noise = random_batch(num_seeds)
    return lambda: sac.update(batch, noise)


def batched_update(num_seeds: int, width: int) -> timing.Operation:
    """Ours with PyTorch's batched products at every width."""
    passes.WIDE = 2**62
    return our_update(num_seeds, width)


def autograd_update(num_seeds: int, width: int) -> timing.Operation:
    """Ours with automatic differentiation of the losses and batched products."""
    passes.WIDE = 2**62
    settings = MBPOSettings(actor_hidden_sizes=(width, width), critic_hidden_sizes=(width, width))
    sac = SAC(settings, num_seeds, OBS_DIM, ACTION_DIM, RandomStreams(range(num_seeds), "benchmark"))
    batch, noise = random_batch(num_seeds)
    next_noise, actor_noise = noise.chunk(2, dim=-1)

    def update() -> None:
        of_critics, _ = critic_loss(sac, batch, next_noise, settings.gamma)
        sac.critic_optimizer.step(torch.autograd.grad(of_critics.sum(), sac.critic.network.views))
        of_actor, entropy = actor_loss(sac, batch.obs, actor_noise)
        sac.actor_optimizer.step(torch.autograd.grad(of_actor.sum(), sac.actor.network.views))
        sac.alpha_optimizer.step([sac.alpha * (entropy.detach().unsqueeze(1) - sac.target_entropy)])
        with torch.no_grad():
            sac.target_critic.network.flat.lerp_(sac.critic.network.flat, sac.settings.tau)

    return update


def published_update(width: int) -> timing.Operation:
    """The published code's structure."""
    sac = PublishedSAC(OBS_DIM, ACTION_DIM, (width, width))
    batch, _ = random_batch(1)
    single = Transitions(*(column[0] for column in batch))
    return lambda: sac.update(single)


def products_alone(width: int, library: Library, num_seeds: int = 1) -> timing.Operation:
    """No update, its matrix products."""
    keep_freed_memory()
    torch.set_grad_enabled(False)
    return update_products(BATCH, OBS_DIM, ACTION_DIM, (width, width), library, num_seeds)[0]


def sides_of(width: int, rllib: bool) -> dict[str, timing.Factory]:
    """What is compared at a width."""
    sides: dict[str, timing.Factory] = {
        "published structure": functools.partial(published_update, width),
        "ours": functools.partial(our_update, 1, width),
        "ours, batched products": functools.partial(batched_update, 1, width),
        "ours, autograd": functools.partial(autograd_update, 1, width),
        "products, torch": functools.partial(products_alone, width, "torch"),
    }
    if passes.has_fast_onednn(torch.empty(0)):
        sides["products, oneDNN"] = functools.partial(products_alone, width, "onednn")
    if rllib:
        from benchmarks.rllib_sac import rllib_update

        sides["RLlib's SAC"] = functools.partial(rllib_update, OBS_DIM, ACTION_DIM, BATCH, width)
    return sides


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = timing.parser(__doc__, rounds=20)
    parser.add_argument("--rllib", action="store_true", help="also RLlib's SAC learner")
    arguments = parser.parse_args(argv)
    timing.prepare(arguments)
    rllib = arguments.rllib and importlib.util.find_spec("ray") is not None
    if arguments.rllib and not rllib:
        print("RLlib's SAC is left out: Ray is not installed.", file=sys.stderr)
    samples: list[timing.Samples] = []
    operations = {}
    for width in (16,) if arguments.tiny else WIDTHS:
        case = f"1 seed, 2 x {width}"
        samples += timing.measure(case, sides_of(width, rllib), rounds=arguments.rounds).values()
        operations[case] = update_products(BATCH, OBS_DIM, ACTION_DIM, (width, width), "torch")[1]
    print(f"SAC update, batch {BATCH}, Hopper's dimensions, one thread")
    timing.print_table(samples, base="published structure")
    for case, count in operations.items():
        print(f"{case}: {count / 1e9:.3f} GFLOP in products")
    timing.write_json(arguments.json, "sac_update", samples, flop=operations)


if __name__ == "__main__":
    main()
