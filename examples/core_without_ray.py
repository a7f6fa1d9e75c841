"""The method without Ray: two seeds trained side by side, and a look at what VaGraM weighs.

`vagram_ray.core` is PyTorch and NumPy alone. After training, the weights of the loss show which
dimensions of the observation matter to the value function: five of the eight are distractors,
which fill an unweighted loss and hardly count in VaGraM's.

    python examples/core_without_ray.py
    python examples/core_without_ray.py --epochs 10
"""

import argparse
import sys

from vagram_ray.core.evaluation import evaluate
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.model_losses import value_gradient_weights
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=3, help="epochs of 200 environment steps")
args = parser.parse_args()

SEEDS = (0, 1)
DISTRACTORS = 5
NAMES = [
    "cos(angle)",
    "sin(angle)",
    "velocity",
    *(f"distractor {i + 1}" for i in range(DISTRACTORS)),
]

spec = EnvironmentSpec("Pendulum-v1", num_distractors=DISTRACTORS)
training_envs = SeedVectorEnv(spec, SEEDS)
evaluation_envs = SeedVectorEnv(spec, SEEDS, evaluation=True)
settings = MBPOSettings(
    model_loss="vagram",
    actor_hidden_sizes=(64, 64),
    critic_hidden_sizes=(64, 64),
    normalize_observations=True,
    train_batch_size_per_learner=128,
    actor_lr=1e-3,
    critic_lr=1e-3,
    alpha_lr=1e-3,
    utd_ratio=5,
    num_layers=2,
    hidden_size=64,
    ensemble_size=3,
    num_elites=2,
    model_max_epochs=20,
    epoch_length=200,
    num_steps_sampled_before_learning_starts=400,
    model_train_freq=100,
    rollouts_per_step=50,
    real_ratio=(0, 2, 1.0, 0.05),
)
agent = MBPOAgent(
    settings,
    seeds=SEEDS,
    obs_dim=spec.dimensions()[0],
    action_dim=spec.dimensions()[1],
    termination=spec.termination(),
)

for _ in range(args.epochs):
    metrics = agent.train_epoch(training_envs)  # name -> (S,), one number per seed
    episodes = evaluate(
        lambda obs: agent.act(obs, deterministic=True), evaluation_envs, episodes_per_seed=3
    )
    returns = "  ".join(f"{value:8.1f}" for value in episodes.returns.mean(axis=1))
    errors = "  ".join(f"{value:.4f}" for value in metrics["model/validation_delta_mse"])
    print(f"env steps {agent.env_steps:5d}   returns {returns}   errors of the models {errors}")

transitions = agent.replay.layout.split(agent.replay.rows)
values = ValueEstimates(agent.sac, settings.value_gradient_clip_percentile)
weights = value_gradient_weights(values, transitions)["weight"]  # (S, N, D)
change = (transitions.next_obs - transitions.obs).square()  # (S, N, D), if no change is predicted
unweighted, weighted = (
    loss.mean(dim=(0, 1)) / loss.mean(dim=(0, 1)).sum() for loss in (change, weights * change)
)
print("\nShare of each dimension in the loss of a model that predicts no change:")
print(f"{'':14s}{'mse':>8s}{'vagram':>8s}")
for name, plain, by_value in zip(NAMES, unweighted.tolist(), weighted.tolist(), strict=True):
    print(f"{name:14s}{plain:8.1%}{by_value:8.1%}  {'#' * round(50 * by_value)}")
print(f"\nRay was imported: {'ray' in sys.modules}.")
