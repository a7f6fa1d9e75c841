"""Read a sweep's results into NumPy: a table, and a figure of two metrics.

Any folder that `python -m vagram_ray.sweep` wrote will do, also while the sweep runs. Without one
this reads a sweep of 2026-11-22, Pendulum with ten distractor dimensions (of the "drift" process,
not the paper's eq. 18, with at most 60 epochs for each fit of a model, which holds `nll` back).
There the three models have the same error, and the agents that learn from them end far apart: it
matters where a model is wrong. (`none` is plain SAC without a model.) For finished figures and
statistics see `python -m vagram_ray.report`.

    python examples/read_results.py
    python examples/read_results.py results/own_loss-smoke --figure own_loss.pdf
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vagram_ray.records import SweepResults

SAMPLE = Path(__file__).parent / "data" / "pendulum_10_distractors"
METRICS = {"eval/episode_return": "return", "model/validation_delta_mse": "error of the model"}
COLORS = ("#0072b2", "#009e73", "#d55e00", "#6e7781", "#aa4499", "#a67c00", "#58b4e8", "#882255")


def mean_curve(results: SweepResults, cell: int, metric: str) -> tuple[np.ndarray, ...] | None:
    """Environment steps, mean over the seeds, standard error, each (T,); None if unmeasured."""
    curves = list(results.curves(cell, metric).values())  # of each seed: (T,) steps, (T,) values
    if not curves:
        return None
    shared = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in curves)))
    values = np.stack([value[np.isin(steps, shared)] for steps, value in curves])
    deviation = values.std(axis=0, ddof=min(1, len(curves) - 1))
    return np.array(shared), values.mean(axis=0), deviation / np.sqrt(len(curves))


def print_table(results: SweepResults) -> None:
    """Final return of each cell as the sweep's summary has it, and the model's error at the end."""
    cells = results.cells
    width = max(len(cell.label) for cell in cells)
    print(f"{'cell':{width}s}   seeds   final return (IQM, 95 %)      error of the model")
    for index, cell in enumerate(cells):
        found = cell.statistics
        interval = f"{found.iqm:8.1f} [{found.low:8.1f}, {found.high:8.1f}]"
        error = mean_curve(results, index, "model/validation_delta_mse")
        model_error = f"{error[1][-1]:.3f}" if error else "-"
        print(f"{cell.label:{width}s}   {found.count:5d}   {interval}   {model_error}")


def draw(results: SweepResults, path: Path) -> None:
    """Both metrics against environment steps: mean over the seeds, shaded by one standard error."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (metric, name) in zip(figure.subplots(1, len(METRICS)), METRICS.items(), strict=True):
        for cell, label in enumerate(results.labels):
            if (curve := mean_curve(results, cell, metric)) is not None:
                steps, mean, error = curve
                style = {"color": COLORS[cell % len(COLORS)]}
                axes.plot(steps, mean, label=label, **style)
                axes.fill_between(
                    steps, mean - error, mean + error, alpha=0.2, linewidth=0, **style
                )
        axes.set(title=name, xlabel="environment steps")
        if metric.startswith("model/"):
            axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=SAMPLE, help="a sweep's folder")
    parser.add_argument("--figure", type=Path, default=Path("results.png"), help="png, pdf or svg")
    args = parser.parse_args()

    try:
        results = SweepResults.load(args.folder)
    except FileNotFoundError as error:
        parser.error(str(error))
    print(f"{results.info['name']}: {results.info['description']}\n{results.info['command']}\n")
    print_table(results)
    draw(results, args.figure)
    print(f"\nThe figure is {args.figure}.")
