"""Search with Tune's own interface: random step sizes, and ASHA to stop the poor ones early.

Importing `vagram_ray.rllib` registers the algorithm as "MBPO"; from there on it is an RLlib
algorithm like any other. Each trial reports after every epoch; at 600, 1200, ... environment
steps ASHA lets only the better half of them go on.

    python examples/tune_directly.py
    python examples/tune_directly.py --samples 16 --env-steps 3000
"""

import argparse
from pathlib import Path

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator

from vagram_ray.rllib import MBPOConfig

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--samples", type=int, default=3, help="configurations to draw")
parser.add_argument(
    "--env-steps", type=int, default=800, help="environment steps of a trial that is not stopped"
)
parser.add_argument("--storage", type=Path, default=Path("results"), help="where Tune writes")
args = parser.parse_args()

SEARCHED = ("actor_lr", "critic_lr", "model_lr")
config = (
    MBPOConfig()
    .environment("Pendulum-v1")
    .training(
        **{name: tune.loguniform(1e-4, 1e-2) for name in SEARCHED},
        seeds=(0, 1),
        actor_hidden_sizes=(64, 64),
        critic_hidden_sizes=(64, 64),
        normalize_observations=True,
        train_batch_size_per_learner=64,
        utd_ratio=3,
        num_layers=2,
        hidden_size=64,
        ensemble_size=3,
        num_elites=2,
        model_max_epochs=10,
        epoch_length=200,
        num_steps_sampled_before_learning_starts=400,
        model_train_freq=100,
        rollouts_per_step=20,
        real_ratio=(0, 1, 1.0, 0.05),
    )
    .evaluation(evaluation_duration=3)
)
ray.init(log_to_driver=False, ignore_reinit_error=True)  # what trials print lies in their folders
tuner = tune.Tuner(
    "MBPO",
    param_space=config,
    tune_config=tune.TuneConfig(
        metric="eval/episode_return_iqm",
        mode="max",
        num_samples=args.samples,
        search_alg=BasicVariantGenerator(random_state=0),  # the same configurations each time
        scheduler=ASHAScheduler(
            time_attr="env_steps", grace_period=600, max_t=args.env_steps, reduction_factor=2
        ),
    ),
    run_config=tune.RunConfig(storage_path=str(args.storage.absolute()), verbose=0),
)
results = tuner.fit()

table = results.get_dataframe().sort_values("eval/episode_return_iqm", ascending=False)
columns = [*(f"config/{name}" for name in SEARCHED), "env_steps", "eval/episode_return_iqm"]
print(table[columns].to_string(index=False, float_format="{:.4g}".format))
