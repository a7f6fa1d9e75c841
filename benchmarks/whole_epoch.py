"""Where an epoch's time goes: environment, model fit, rollouts and SAC updates of ``core`` alone.

    python -m benchmarks.whole_epoch [--core 1] [--seeds 1 8] [--rounds 3] [--json FILE]
    python -m benchmarks.whole_epoch --case published_run [--env-steps 250] [--core 1] [--json FILE]

``laptop``: small networks on Pendulum, whole epochs of 200 environment steps. ``published``: the published code's
sizes (SAC 2 x 1024, model 7 x (4 x 200), batch 1024 for the model) on data of Hopper's dimensions with 15 distractors.
Its phases are timed apart and multiplied by how often the published code went through them between environment steps
250 and 500 after 10,000 warm-up steps: 5,000 updates, 276 fit epochs, 100,000 rollouts; so this case is a computed
figure. Evaluation is not part of either.

``published_run``: nothing is computed. One seed of Hopper with 15 distractors at the settings of the published
configuration: 10,000 warm-up steps, then ``--env-steps`` environment steps with all their updates, fits and rollouts,
and one evaluation of 10 episodes. It runs once and takes many minutes. A fit comes every 250 steps, the first at step
0; how many epochs it takes is up to early stopping. With fewer than 250 steps a whole fit is shared out among few.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.agents import LAPTOP, WIDE, make_agent, never
from vagram_ray.core.allocator import keep_freed_memory
from vagram_ray.core.evaluation import evaluate
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.model_fitting import ModelFit
from vagram_ray.core.model_rollouts import imagine
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.envs.terminations import hopper_terminates

LAPTOP_RUN: dict[str, Any] = LAPTOP | {
    "model_max_epochs": 60, "num_steps_sampled_before_learning_starts": 400, "real_ratio": (0, 2, 1.0, 0.05),
}  # fmt: skip
PUBLISHED: dict[str, Any] = WIDE | {"model_batch_size": 1024, "target_update_period": 4}
PUBLISHED_STEPS, PUBLISHED_COUNTS = 250, {"sac": 5000, "prepare": 1, "model_fit": 276, "rollout": 1}
PHASES = ("env", "model_fit", "rollout", "sac")
PUBLISHED_RUN: dict[str, Any] = PUBLISHED | {
    "actor_lr": 3e-5, "target_entropy": -1.0, "model_patience": 10, "real_ratio": (0, 50, 1.0, 0.05),
    "num_steps_sampled_before_learning_starts": 10_000, "early_stopping_metric": "squared_error",
}  # fmt: skip
"""Those of the published configuration for Hopper with distractors that are not the defaults."""
PUBLISHED_TASK = EnvironmentSpec("Hopper-v4", num_distractors=15)
PUBLISHED_EPISODES = 10


def laptop_epoch(loss: str, num_seeds: int, changes: dict[str, Any], shares: dict[str, float]) -> timing.Operation:
    """One epoch after the first; adds each phase's seconds to ``shares``."""
    keep_freed_memory()
    settings = MBPOSettings(model_loss=loss, **LAPTOP_RUN | changes)
    envs = SeedVectorEnv(EnvironmentSpec("Pendulum-v1"), range(num_seeds))
    agent = MBPOAgent(
        settings, seeds=range(num_seeds), obs_dim=envs.obs_dim, action_dim=envs.action_dim, termination=never
    )

    def run() -> None:
        result = agent.train_epoch(envs)
        for phase in PHASES:
            shares[phase] = shares.get(phase, 0.0) + float(result.get(f"time/{phase}_s", [0.0])[0])

    return run


def published_phase(phase: str, env_steps: int, changes: dict[str, Any]) -> timing.Operation:
    """One SAC update; a fit's weights, split and normaliser; one of its epochs with validation; 100,000 rollouts."""
    settings = MBPOSettings(model_loss="vagram", **PUBLISHED | changes)
    agent = make_agent(settings, 1, env_steps, obs_dim=26)
    if phase == "sac":
        return lambda: agent._improve_policy(EpochMetrics(1))
    if phase == "rollout":
        return lambda: imagine(
            agent.dynamics, agent.actor, hopper_terminates, agent.replay, agent.imagined,
            num_rollouts=settings.rollouts_per_step * PUBLISHED_STEPS, rollout_length=1,
            streams=agent._streams["rollout"],
        )  # fmt: skip
    data, values = agent.replay.layout.split(agent.replay.rows), ValueEstimates(agent.sac)

    def prepare() -> ModelFit:
        streams, library = agent._streams["fit"], agent._library  # compiled where the agent's own fits are
        return ModelFit(
            agent.dynamics, agent.model_optimizer, data, values, settings, streams, agent._recorder, library
        )

    if phase == "prepare":
        return prepare
    fit = prepare()

    def epoch() -> None:
        fit._train_epoch(fit.cohort)
        fit._validate(fit.cohort)

    return epoch


def published_case(arguments: Any) -> list[timing.Samples]:
    """Milliseconds of each phase per environment step, and their sum."""
    tiny: dict[str, Any] = {"actor_hidden_sizes": (8, 8), "critic_hidden_sizes": (8, 8), "hidden_size": 8,
                            "rollouts_per_step": 2} if arguments.tiny else {}  # fmt: skip
    env_steps = 100 if arguments.tiny else 10_250
    changes = tiny | {"utd_ratio": 1}
    sides = {phase: functools.partial(published_phase, phase, env_steps, changes) for phase in PUBLISHED_COUNTS}
    found = timing.measure("published, vagram", sides, rounds=arguments.rounds, repeats=1, warm_up=1)
    for phase, sample in found.items():
        scale = PUBLISHED_COUNTS[phase] / PUBLISHED_STEPS
        sample.milliseconds = [value * scale for value in sample.milliseconds]
    total = timing.Samples("published, vagram", "sum")
    total.milliseconds = [sum(values) for values in zip(*(s.milliseconds for s in found.values()), strict=True)]
    return [*found.values(), total]


def published_run(env_steps: int, episodes: int, changes: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Run the published setting from the end of the warm-up; seconds of each phase, and facts about the run."""
    keep_freed_memory()
    settings = MBPOSettings(model_loss="vagram", **PUBLISHED_RUN | {"epoch_length": env_steps} | changes)
    envs, evaluation_envs = SeedVectorEnv(PUBLISHED_TASK, [0]), SeedVectorEnv(PUBLISHED_TASK, [0], evaluation=True)
    agent = MBPOAgent(
        settings, seeds=[0], obs_dim=envs.obs_dim, action_dim=envs.action_dim, termination=PUBLISHED_TASK.termination(),
        num_real_dims=envs.obs_dim - PUBLISHED_TASK.num_distractors,
    )  # fmt: skip
    times = [time.perf_counter()]
    agent._warm_up(envs)  # before the epoch, which then leaves it out
    times.append(time.perf_counter())
    result = agent.train_epoch(envs)
    times.append(time.perf_counter())
    played = evaluate(lambda obs: agent.act(obs, deterministic=True), evaluation_envs, episodes)
    times.append(time.perf_counter())
    warm_up, training, evaluation = np.diff(times).tolist()
    seconds = {phase: float(result[f"time/{phase}_s"][0]) for phase in PHASES}
    seconds["other"] = training - sum(seconds.values())
    seconds["evaluation"] = evaluation
    fits = -(-env_steps // settings.model_train_freq)
    fit_epochs = round(fits * float(result["model/fit_epochs"][0]))
    facts = {
        "env_steps": env_steps, "warm_up_s": warm_up, "training_s": training, "evaluation_s": evaluation,
        "evaluation_env_steps": int(played.lengths.sum()), "updates": env_steps * settings.utd_ratio,
        "fits": fits, "fit_epochs": fit_epochs, "ms_per_fit_epoch": 1e3 * seconds["model_fit"] / fit_epochs,
        "ms_per_update": 1e3 * seconds["sac"] / (env_steps * settings.utd_ratio),
    }  # fmt: skip
    return seconds, facts


def published_run_case(arguments: Any) -> tuple[list[timing.Samples], dict[str, float], dict[str, float]]:
    """Milliseconds per environment step of each phase and of all, each phase's share, and facts about the run."""
    tiny: dict[str, Any] = {
        "actor_hidden_sizes": (8, 8), "critic_hidden_sizes": (8, 8), "hidden_size": 8, "rollouts_per_step": 2,
        "num_steps_sampled_before_learning_starts": 60, "model_max_epochs": 2, "utd_ratio": 2,
    }  # fmt: skip
    env_steps = min(arguments.env_steps, 5) if arguments.tiny else arguments.env_steps
    episodes = 1 if arguments.tiny else PUBLISHED_EPISODES
    seconds, facts = published_run(env_steps, episodes, tiny if arguments.tiny else {})
    total = sum(seconds.values())
    parts = {**seconds, "all but evaluation": facts["training_s"], "all": total}
    case = "published run, vagram"
    samples = [timing.Samples(case, part, [1e3 * value / env_steps]) for part, value in parts.items()]
    return samples, {part: value / total for part, value in seconds.items()}, facts


def print_published_run(samples: list[timing.Samples], shares: dict[str, float], facts: dict[str, float]) -> None:
    """The phases per environment step, and what the fit and the evaluation were."""
    print(f"Published setting, run: Hopper-v4 + 15 distractors, environment steps 0 to {facts['env_steps']} after the "
          f"warm-up ({facts['warm_up_s']:.1f} s), per environment step")  # fmt: skip
    timing.print_table(samples)
    print("".join(f"{part} {100 * share:.1f} %   " for part, share in shares.items()))
    print(f"{facts['updates']} SAC updates: {facts['ms_per_update']:.1f} ms each")
    print(f"model fits: {facts['fits']}, together {facts['fit_epochs']} fit epochs, {facts['ms_per_fit_epoch']:.1f} ms "
          f"each (the published code's fit took {PUBLISHED_COUNTS['model_fit']} epochs)")  # fmt: skip
    print(f"evaluation: {facts['evaluation_env_steps']} environment steps in {facts['evaluation_s']:.2f} s")


def laptop_case(arguments: Any) -> tuple[list[timing.Samples], dict[str, dict[str, float]]]:
    """Milliseconds of an epoch, and the share of each phase."""
    changes = {"num_steps_sampled_before_learning_starts": 150, "epoch_length": 4, "model_train_freq": 2,
               "model_max_epochs": 1, "rollouts_per_step": 2} if arguments.tiny else {}  # fmt: skip
    samples, shares = [], {}
    for loss in ("vagram", "nll", "none"):
        for num_seeds in arguments.seeds:
            spent: dict[str, float] = {}
            operation = laptop_epoch(loss, num_seeds, changes, spent)
            operation()  # the first has the warm-up
            spent.clear()
            sample = timing.Samples(f"laptop, {loss}", f"{num_seeds} seed{'s' if num_seeds > 1 else ''}")
            sample.milliseconds = [timing.time_once(operation) for _ in range(arguments.rounds)]
            samples.append(sample)
            phases = {phase: 1e3 * seconds / sum(sample.milliseconds) for phase, seconds in spent.items()}
            shares[f"{sample.case}, {sample.side}"] = phases
    return samples, shares


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables, write JSON."""
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8], help="sizes of the laptop's cohorts")
    parser.add_argument(
        "--case", choices=("laptop", "published", "both", "published_run"), default="both", help="both: the first two"
    )
    parser.add_argument("--env-steps", type=int, default=PUBLISHED_STEPS, help="of published_run (default %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.env_steps < 1:
        parser.error(f"--env-steps {arguments.env_steps}: give at least 1")
    timing.prepare(arguments)
    samples: list[timing.Samples] = []
    shares: dict[str, dict[str, float]] = {}
    if arguments.case == "published_run":
        samples, phases, facts = published_run_case(arguments)
        print_published_run(samples, phases, facts)
        shares = {samples[0].case: phases}
        timing.write_json(arguments.json, "whole_epoch", samples, shares=shares, published_run=facts)
        return
    if arguments.case in ("laptop", "both"):
        samples, shares = laptop_case(arguments)
        print("Epochs of 200 environment steps per seed, Pendulum, one thread")
        timing.print_table(samples)
        for name, phases in shares.items():
            print(f"{name:32s}" + "".join(f"{phase} {100 * share:5.1f} %   " for phase, share in phases.items()))
    if arguments.case in ("published", "both"):
        computed = published_case(arguments)
        print(f"Published sizes, per environment step (computed for {PUBLISHED_STEPS} steps from each phase's time)")
        timing.print_table(computed)
        samples += computed
    timing.write_json(arguments.json, "whole_epoch", samples, shares=shares)


if __name__ == "__main__":
    main()
