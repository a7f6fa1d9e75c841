"""Train one agent, save it, and train on from the checkpoint as if nothing had happened.

Pendulum swings up after about a thousand environment steps. After the save the same epoch is
trained twice, once by the agent itself and once by one restored from the checkpoint: on a CPU the
two agree bit for bit, because a checkpoint holds the whole state of the run (networks,
optimisers, transitions, random streams).

    python examples/train_one_agent.py
    python examples/train_one_agent.py --epochs 15 --checkpoint results/pendulum
"""

import argparse
from pathlib import Path

from vagram_ray.rllib import MBPO, MBPOConfig

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument(
    "--epochs", type=int, default=3, help="epochs of 200 environment steps before the checkpoint"
)
parser.add_argument(
    "--checkpoint", type=Path, default=Path("results/train_one_agent"), help="where to save"
)
args = parser.parse_args()

config = (
    MBPOConfig()
    .environment("Pendulum-v1")
    .training(
        seeds=0,
        # These suit a small task on a CPU; the defaults are the paper's and MBPO's.
        actor_hidden_sizes=(64, 64),
        critic_hidden_sizes=(64, 64),
        normalize_observations=True,
        train_batch_size_per_learner=128,
        actor_lr=1e-3,
        critic_lr=1e-3,
        alpha_lr=1e-3,
        utd_ratio=8,
        num_layers=2,
        hidden_size=64,
        ensemble_size=3,
        num_elites=2,
        model_max_epochs=40,
        epoch_length=200,
        num_steps_sampled_before_learning_starts=600,
        model_train_freq=100,
        rollouts_per_step=50,
        real_ratio=(0, 2, 1.0, 0.05),  # in epochs 0 to 2 from real to imagined data
    )
    .evaluation(evaluation_duration=5)
)


def train(algo: MBPO, name: str) -> float:
    """Train for one epoch, print and give back the mean return of the evaluation's episodes."""
    result = algo.train()
    episode_return = result["eval"]["episode_return"]
    print(f"{name}  env steps {result['env_steps']:5d}   return {episode_return:8.1f}", flush=True)
    return episode_return


algo = config.build_algo()
for epoch in range(args.epochs):
    train(algo, f"epoch {epoch + 1:2d}     ")
path = algo.save_to_path(args.checkpoint)

uninterrupted = train(algo, "going on     ")
restored = train(MBPO.from_checkpoint(path), "from the disk")
difference = abs(uninterrupted - restored)
print(f"The checkpoint is {args.checkpoint}; the two returns differ by {difference:.3g}.")
