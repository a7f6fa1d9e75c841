"""What a minibatch of model fitting costs, per loss, and what it saves to weight transitions once per fit.

    python -m benchmarks.model_fit [--rounds 8] [--core 1] [--critics 256] [--json FILE]

One seed, an ensemble of 7 networks of 4 x 200, Hopper's dimensions, forward and backward pass and Adam's step;
milliseconds per minibatch. "weights every minibatch" computes VaGraM's weights anew for the transitions of each
minibatch and member, as the uncached published code does; "batched products" leaves oneDNN out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from benchmarks import timing
from benchmarks.agents import make_agent
from vagram_ray.core.model_fitting import ModelFit
from vagram_ray.core.model_losses import model_loss_names
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates

MINIBATCHES = 2  # per run; times are divided by it
BATCHES = (256, 1024)


def fit_pass(loss: str, batch: int, critics: int, sizes: dict[str, Any], fresh_weights: bool) -> timing.Operation:
    """One pass over ``MINIBATCHES`` minibatches of each member."""
    sizes = {**sizes, "critic_hidden_sizes": (critics, critics), "model_batch_size": batch}
    settings = MBPOSettings(model_loss=loss, validation_fraction=0.2, **sizes)
    agent = make_agent(settings, 1, MINIBATCHES * batch * 5 // 4)
    data = agent.replay.layout.split(agent.replay.rows)
    values = ValueEstimates(agent.sac)
    streams = agent._streams["fit"]
    fit = ModelFit(agent.dynamics, agent.model_optimizer, data, values, settings, streams)
    if not fresh_weights:
        return lambda: fit._train_epoch(fit.cohort)
    states = streams.normal(settings.ensemble_size * batch, agent.replay.layout.obs_dim)

    def run() -> None:
        for _ in range(MINIBATCHES):
            values.clipped_gradients(states)
        fit._train_epoch(fit.cohort)

    return run


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = timing.parser(__doc__, rounds=8)
    parser.add_argument("--critics", type=int, default=256, help="width of the critics' two layers")
    arguments = parser.parse_args(argv)
    timing.prepare(arguments)
    critics, batches = (8, (16,)) if arguments.tiny else (arguments.critics, BATCHES)
    sizes = {"hidden_size": 8, "num_layers": 2, "ensemble_size": 3, "num_elites": 2} if arguments.tiny else {}
    samples: list[timing.Samples] = []
    for batch in batches:
        sides: dict[str, timing.Factory] = {
            loss: functools.partial(fit_pass, loss, batch, critics, sizes, False)
            for loss in sorted(set(model_loss_names()) - {"none"})
        }
        sides["vagram, weights every minibatch"] = functools.partial(fit_pass, "vagram", batch, critics, sizes, True)
        found = timing.measure(f"batch {batch}", sides, rounds=arguments.rounds, repeats=1, warm_up=2).values()
        for sample in found:
            sample.milliseconds = [value / MINIBATCHES for value in sample.milliseconds]
        samples += found
    print(f"Model minibatch, critics 2 x {critics}, one thread")
    timing.print_table(samples, base="mse")
    timing.write_json(arguments.json, "model_fit", samples, critics=critics)


if __name__ == "__main__":
    main()
