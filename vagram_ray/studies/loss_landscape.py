"""Figure 1 of the paper: value function and model losses around a reference state on Pendulum.

    python -m vagram_ray.studies.loss_landscape

SAC trains on Pendulum. With its critics, the loss of every prediction (theta, theta_dot) is shown for one observed
successor. ``pendulum_plane`` says how predictions on the plane relate to the observations that a model predicts.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from vagram_ray.commands import SETTINGS, Command, InputError, exact_command
from vagram_ray.studies.commandline import (
    prepare_process,
    report_end,
    report_epoch,
    require_matplotlib,
)
from vagram_ray.studies.output import check_folder, write_facts, written_at_once

MODULE = "vagram_ray.studies.loss_landscape"
LOW_SHARE = 0.05
"""Share of the plane, the one with the lowest loss, of which the printed table tells how far it reaches."""


@dataclass(frozen=True)
class Scale:
    """How much to compute."""

    steps: int
    resolution: int
    utd_ratio: int = 10
    hidden_size: int = 64
    learning_rate: float = 1e-3


SCALES = {
    "smoke": Scale(steps=800, resolution=41, utd_ratio=1),
    "laptop": Scale(steps=3_000, resolution=241),
    "paper": Scale(steps=20_000, resolution=481, hidden_size=256, learning_rate=3e-4),
}


def parse_reference(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, float]:
    """``"2.0,2.0"`` as (theta, theta_dot).

    Raises:
        InputError: It is no state of Pendulum.
    """
    try:
        theta, theta_dot = (float(part) for part in text.split(","))
    except ValueError:
        theta = theta_dot = math.nan
    if not (abs(theta) <= math.pi and abs(theta_dot) <= 8):
        raise InputError(
            f"--reference {text!r} is not usable: give theta,theta_dot with theta from -pi to pi (0 is upright) and "
            "theta_dot from -8 to 8, for example 2,2."
        )
    return theta, theta_dot


@click.command(cls=Command, context_settings=SETTINGS)
@click.option("--scale", type=click.Choice(list(SCALES)), default="laptop", show_default=True, help="How much.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides every number.")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="SAC's environment steps; the scale's.")
@click.option(
    "--reference", callback=parse_reference, default="2,2", show_default=True, metavar="THETA,THETA_DOT",
    help="The observed successor state, rad and rad/s.",
)  # fmt: skip
@click.option("--resolution", type=click.IntRange(11, 2001), metavar="N", help="Grid points per axis; the scale's.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("results/studies/loss_landscape"), show_default=True,
    help="Folder for the figures and numbers.",
)  # fmt: skip
def main(
    scale: str, seed: int, steps: int | None, reference: tuple[float, float], resolution: int | None, output: Path
) -> None:
    """Draw the value function and the VAML, MSE and VaGraM losses of a SAC critic on Pendulum (Figure 1)."""
    size = SCALES[scale]
    steps, resolution = steps or size.steps, resolution or size.resolution
    require_matplotlib()
    check_folder(output)
    prepare_process()
    from vagram_ray.studies.pendulum_plane import ReferenceLosses, loss_plane
    from vagram_ray.studies.sac_run import epochs_of, sac_settings, train_sac

    settings = sac_settings(size.hidden_size, size.learning_rate, size.utd_ratio)
    run = train_sac([seed], epochs_of(steps, settings), settings, report_epoch)
    click.echo(f"SAC's mean return over {run.episodes} evaluation episodes: {run.returns[0]:,.0f}")
    plane = loss_plane(ReferenceLosses(run.values[-1], run.data, reference), resolution)
    facts = {
        "scale": scale, "seed": seed, "env_steps": run.env_steps, "reference": list(reference),
        "resolution": resolution, "evaluation_return": float(run.returns[0]), "sac": asdict(settings),
        **_describe(plane),
    }  # fmt: skip
    _write(output, plane, facts)
    report_end(output)


def _describe(plane: Any) -> dict[str, Any]:
    """Print and return what the surfaces show in numbers."""
    from vagram_ray.studies.pendulum_plane import low_region, share_bounded

    click.echo(f"\nThe {LOW_SHARE:.0%} of the plane with the lowest loss reaches")
    regions = {}
    for name in plane.losses:
        region = low_region(plane, name, LOW_SHARE)
        regions[name] = asdict(region)
        click.echo(
            f"  {name:7} {region.farthest_theta:5.2f} rad and {region.farthest_theta_dot:5.2f} rad/s from the "
            f"reference, in {region.regions} part{'s' if region.regions > 1 else ''}"
        )
    bounded = {name: share_bounded(plane, name) for name in ("taylor", "vaml")}
    click.echo(
        f"VaGraM's bound (eq. 7) is not below the first-order loss on {bounded['taylor']:.1%} of the plane, "
        f"not below VAML on {bounded['vaml']:.1%}."
    )
    click.echo(f"Value gradients at the reference: {np.array2string(plane.gradients, precision=1)}"
               f"{', some clipped' if plane.clipped.any() else ''}\n")  # fmt: skip
    return {
        "low_share": LOW_SHARE,
        "low_regions": regions,
        "share_bounded_by_vagram": bounded,
        "value_gradients": plane.gradients.tolist(),
        "value_gradients_clipped": plane.clipped.tolist(),
    }


def _write(output: Path, plane: Any, facts: dict[str, Any]) -> None:
    from vagram_ray.studies.drawing import draw_bound, draw_landscape

    with written_at_once(output) as folder:
        draw_landscape(plane, folder)
        draw_bound(plane, folder)
        np.savez_compressed(folder / "loss_landscape.npz", **_arrays(plane))
        write_facts(folder / "study.json", exact_command(MODULE), facts)


def _arrays(plane: Any) -> dict[str, Any]:
    """Every number of the figures by name."""
    arrays = {
        "theta": plane.theta,
        "theta_dot": plane.theta_dot,
        "reference": np.array(plane.reference),
        "value": plane.value,
        **plane.losses,
    }
    for name, cut in (("along_theta", plane.along_theta), ("along_theta_dot", plane.along_theta_dot)):
        arrays[name] = cut.place
        arrays |= {f"{loss}_{name}": values for loss, values in cut.losses.items()}
    return arrays


if __name__ == "__main__":
    main(prog_name=f"python -m {MODULE}")
