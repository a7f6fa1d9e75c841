"""A model loss of your own in 20 lines, swept against VaGraM.

VaGraM gives dimensions no weight where the value is flat. The loss below keeps VaGraM's weights,
but lets no dimension of a transition weigh less than a tenth of that transition's mean weight.
This file is a sweep file like those in tune_configs/, and takes the sweep command's options. The
first line shows in half a minute that everything runs, the second compares the losses with eight
seeds each:

    python examples/own_loss.py
    python examples/own_loss.py --scale laptop
"""

import sys

from ray import tune

from vagram_ray.core.model_losses import (
    LossOption,
    in_reward_units,
    register_model_loss,
    reward_error,
)
from vagram_ray.rllib import MBPOConfig, laptop_settings, smoke_settings
from vagram_ray.sweep import Scale, Sweep
from vagram_ray.sweep.commandline import main


def value_weights(values, data):
    """Squared value gradients at the observed successors, averaged over estimates, (S, N, D)."""
    gradients, _ = values.clipped_gradients(data.next_obs)  # (S, K, N, D)
    return {"weight": gradients.square().mean(dim=1)}


@register_model_loss("vagram_floor", prepare=value_weights, options={"floor": LossOption(0.1)})
def vagram_floor(prediction, target):
    """(1/D) sum_d max(w_d, c mean(w)) (f - s')_d^2 + (r_hat - r)^2 per transition, (S, E, B)."""
    weight = target.prepared["weight"]
    floor = target.options["floor"] * weight.mean(dim=-1, keepdim=True)
    error = (prediction.delta - target.delta).square()
    weighted = (weight.maximum(floor) * error).mean(dim=-1)
    return in_reward_units(weighted, target) + reward_error(prediction, target)


SWEEP = Sweep(
    name="own_loss",
    description="Does a lower bound on VaGraM's weights help with five distractors?",
    config=MBPOConfig()
    .environment("Pendulum-v1", num_distractors=5)
    .training(model_loss=tune.grid_search(["vagram_floor", "vagram"])),
    epochs=13,
    seeds=8,
    scales={
        "smoke": Scale(
            epochs=2,
            seeds=2,
            overrides={**smoke_settings(), "utd_ratio": 2, "evaluation_duration": 1},
        ),
        "laptop": Scale(overrides={**laptop_settings(), "evaluation_duration": 5}),
    },
)

if __name__ == "__main__":
    sys.argv[1:1] = [__file__, "--scale", "smoke", "--wandb", "disabled"]  # what follows wins
    main()
