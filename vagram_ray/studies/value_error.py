"""Figure 2 of the paper: the value error of small models while the value function changes.

    python -m vagram_ray.studies.value_error

SAC trains on Pendulum for epochs of 200 steps. Its value function after each epoch (two critics, two targets, with
the policy of that moment) is kept. A linear model and a network with one hidden layer of 16 units are then fitted to
the run's transitions with VAML (``itervaml``), MSE and VaGraM, 1000 gradient steps under each value function in turn.
Shown is (V(s') - V(f))^2 on held-out transitions under the value function of the moment. Every seed has its own SAC
run, split, initial weights and minibatches, which its fits share.

How the step size was chosen: the error at the end of every V at ``--scale laptop``, 2026-11-22, with ``--seeds 100-103
--model-lr LR`` (as part of a cohort of eight, whose rounding differs)::

    model    loss     0.001   0.003   0.01    0.03
    linear   VAML     16.6    16.8    18.6    22.8
    linear   MSE      101     100     104     112
    linear   VaGraM   55.8    55.6    60.1    65.4
    1 x 16   VAML     0.271   0.224   0.330   1.13
    1 x 16   MSE      1.14    0.634   0.660   0.774
    1 x 16   VaGraM   0.284   0.161   0.182   0.429
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vagram_ray.commands import SETTINGS, Command, FiniteRange, exact_command
from vagram_ray.studies.commandline import (
    prepare_process,
    report_end,
    report_epoch,
    require_matplotlib,
)
from vagram_ray.studies.output import check_folder, write_facts, written_at_once
from vagram_ray.sweep.plan.overrides import parse_seeds

if TYPE_CHECKING:
    from vagram_ray.studies.changing_values import ErrorCurve
    from vagram_ray.studies.sac_run import SACRun
    from vagram_ray.studies.small_models import PredictionTarget

MODULE = "vagram_ray.studies.value_error"
LOSSES = ("itervaml", "mse", "vagram")


@dataclass(frozen=True)
class Scale:
    """How much to compute. 1000 model steps per value function and 8 seeds are the paper's."""

    epochs: int
    seeds: int = 8
    steps_per_value: int = 1000
    evaluate_every: int = 100
    utd_ratio: int = 10
    hidden_size: int = 64
    learning_rate: float = 1e-3


SCALES = {
    "smoke": Scale(epochs=3, seeds=2, steps_per_value=40, evaluate_every=20, utd_ratio=1),
    "laptop": Scale(epochs=10),
    "paper": Scale(epochs=50, hidden_size=256, learning_rate=3e-4),
}


@click.command(cls=Command, context_settings=SETTINGS)
@click.option("--scale", type=click.Choice(list(SCALES)), default="laptop", show_default=True, help="How much.")
@click.option("--seeds", metavar="SEEDS", help="A number of seeds (8), a range (0-7) or a list (3,5); the scale's.")
@click.option(
    "--model-lr", type=FiniteRange(min=0, min_open=True), default=3e-3, show_default=True, metavar="LR",
    help="Step size of all models; docs/studies.md says how the default was chosen.",
)  # fmt: skip
@click.option(
    "--prediction-target", type=click.Choice(["delta", "next_obs"]), default="delta", show_default=True,
    help="What the models' outputs are: the change of the state or the next state.",
)  # fmt: skip
@click.option(
    "--vaml-mse-weight", type=FiniteRange(min=0), default=0.0, show_default=True, metavar="WEIGHT",
    help="Weight of a squared error added to VAML.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("results/studies/value_error"), show_default=True,
    help="Folder for the figure and numbers.",
)  # fmt: skip
def main(
    scale: str,
    seeds: str | None,
    model_lr: float,
    prediction_target: PredictionTarget,
    vaml_mse_weight: float,
    output: Path,
) -> None:
    """Measure the value error of small models fitted with VAML, MSE and VaGraM while V changes (Figure 2)."""
    size = SCALES[scale]
    chosen = tuple(range(size.seeds)) if seeds is None else parse_seeds(seeds)
    require_matplotlib()
    check_folder(output)
    prepare_process()
    from vagram_ray.studies.changing_values import (
        MODELS,
        Fit,
        fit_while_values_change,
        split_transitions,
        value_variance,
    )
    from vagram_ray.studies.sac_run import sac_settings, train_sac

    settings = sac_settings(size.hidden_size, size.learning_rate, size.utd_ratio)
    run = train_sac(chosen, size.epochs, settings, report_epoch)
    click.echo(f"SAC's mean return over {run.episodes} evaluation episodes: {run.returns.mean():,.0f}")
    split = split_transitions(run.data, run.seeds)
    curves = []
    for model in MODELS:
        for loss in LOSSES:
            options = {"mse_weight": vaml_mse_weight} if loss == "itervaml" else {}
            fit = Fit(model, loss, options, model_lr, prediction_target, size.steps_per_value, size.evaluate_every)
            curves.append(fit_while_values_change(fit, split, run.values, run.seeds))
            click.echo(f"{model}, {loss}: {curves[-1].total_steps[-1]:,} steps")
    variance = value_variance(run.values[-1], split.held_out)
    facts = {
        "scale": scale, "seeds": list(run.seeds), "env_steps": run.env_steps, "sac": asdict(settings),
        "evaluation_returns": run.returns.tolist(), "last_value_variances": variance.tolist(),
        "fits": [asdict(curve.fit) for curve in curves],
    }  # fmt: skip
    _write(output, curves, run, float(variance.mean()), facts)
    report_end(output)


def _write(output: Path, curves: list[ErrorCurve], run: SACRun, variance: float, facts: dict[str, Any]) -> None:
    from vagram_ray.studies.drawing import draw_value_error
    from vagram_ray.studies.value_error_tables import print_table, write_tables

    print_table(curves, variance)
    with written_at_once(output) as folder:
        draw_value_error(curves, folder)
        write_tables(curves, run.value_env_steps, folder)
        write_facts(folder / "study.json", exact_command(MODULE), facts)


if __name__ == "__main__":
    main(prog_name=f"python -m {MODULE}")
