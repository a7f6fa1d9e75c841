"""Time of one SAC update, and what derived gradients and the allocator setting bring.

    python benchmarks/sac_update.py [--rounds 5] [--json FILE]

Each measurement is a process of its own (the allocator setting is per process) with one thread; variants take turns,
so that a change of the machine's load meets all of them. Needs PyTorch and NumPy, not Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

VARIANTS = {
    "autograd": (False, False),
    "autograd, kept memory": (False, True),
    "derived gradients": (True, False),
    "derived, kept memory": (True, True),
}
SIZES = [(1, 64), (8, 64), (1, 256), (4, 256)]  # seeds, width of the two hidden layers
BATCH, OBS_DIM, ACTION_DIM = 256, 11, 3  # Hopper


def measure(num_seeds: int, width: int, derived: bool, keep: bool, updates: int = 60) -> float:
    """Median milliseconds of one update (critics, targets, actor, temperature)."""
    import torch

    from vagram_ray.core.allocator import keep_freed_memory
    from vagram_ray.core.random_streams import RandomStreams
    from vagram_ray.core.replay import TransitionLayout
    from vagram_ray.core.sac import SAC
    from vagram_ray.core.settings import MBPOSettings

    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    settings = MBPOSettings(actor_hidden_sizes=(width, width), critic_hidden_sizes=(width, width))
    streams = RandomStreams(range(num_seeds), "benchmark")
    sac = SAC(settings, num_seeds, OBS_DIM, ACTION_DIM, streams)
    layout = TransitionLayout(OBS_DIM, ACTION_DIM)
    batch = layout.split(streams.normal(BATCH, layout.width))
    noise = streams.normal(BATCH, 2 * ACTION_DIM)
    update = sac.update if derived else _autograd_update(sac)
    samples = []
    for number in range(updates + 20):
        start = time.perf_counter()
        update(batch, noise)
        if number >= 20:  # warm-up
            samples.append(1e3 * (time.perf_counter() - start))
    return statistics.median(samples)


def _autograd_update(sac):
    """The same update with automatic differentiation of the losses."""
    import torch

    def update(batch, noise):
        next_noise, actor_noise = noise.chunk(2, dim=-1)
        critic_loss, _ = sac.critic_loss(batch, next_noise)
        sac.critic_optimizer.step(torch.autograd.grad(critic_loss.sum(), sac.critic.network.views))
        actor_loss, entropy = sac.actor_loss(batch.obs, actor_noise)
        sac.actor_optimizer.step(torch.autograd.grad(actor_loss.sum(), sac.actor.network.views))
        sac.alpha_optimizer.step([sac.alpha * (entropy.unsqueeze(1) - sac.target_entropy)])
        with torch.no_grad():
            sac.target_critic.network.flat.lerp_(sac.critic.network.flat, sac.settings.tau)

    return update


def run_rounds(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Medians by size and variant, one per round."""
    results: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for num_seeds, width in SIZES:
            for name, (derived, keep) in VARIANTS.items():
                call = f"from sac_update import measure; print(measure({num_seeds}, {width}, {derived}, {keep}))"
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                printed = subprocess.run(
                    [sys.executable, "-c", call],
                    cwd=os.path.dirname(os.path.abspath(__file__)),
                    env=environment, capture_output=True, text=True, check=True,
                ).stdout  # fmt: skip
                size = f"{num_seeds} seed{'s' if num_seeds > 1 else ''}, 2 x {width}"
                results.setdefault(size, {}).setdefault(name, []).append(float(printed))
    return results


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    results = run_rounds(arguments.rounds)
    print(f"ms per SAC update, batch {BATCH}, Hopper; median over {arguments.rounds} rounds [least, most]; one thread")
    for size, variants in results.items():
        base = statistics.median(variants["autograd"])
        for name, samples in variants.items():
            middle = statistics.median(samples)
            spread = f"[{min(samples):.2f}, {max(samples):.2f}]"
            print(f"{size:18s} {name:24s} {middle:7.2f} {spread:18s} {middle / base:5.2f} of autograd")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"machine": platform.processor() or platform.machine(), "ms": results}, file, indent=2)


if __name__ == "__main__":
    main()
