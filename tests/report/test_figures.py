"""Figures: what their lines show, how they look, and the files they become."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure as MatplotlibFigure
from scipy import stats

from tests.report.synthetic import cell_of, comparison_of
from vagram_ray.commands import InputError
from vagram_ray.report import curve_plots, final_plots
from vagram_ray.report.curves import CellCurves, Comparison, SeedCurve
from vagram_ray.report.drawing import Drawing
from vagram_ray.report.figure_files import Figure, Plot, _sheet, inline_svg, save_plot, title_lines
from vagram_ray.report.figure_style import BASELINE, MUTED, PALETTE, RC_PARAMS, format_steps, line_styles
from vagram_ray.report.figures import draw_figures, plots_of

STEPS = [100, 200, 300]


def curve_cell(seed: int = 0, num_seeds: int = 8, **axes: Any) -> CellCurves:
    """Random curves; the last value is the final return."""
    values = np.random.default_rng(seed).normal(size=(num_seeds, len(STEPS))).cumsum(axis=1)
    curves = {number: (STEPS, row.tolist()) for number, row in enumerate(values)}
    return cell_of(values[:, -1].tolist(), curves=curves, **axes)


def returns_of(cell: CellCurves) -> np.ndarray:
    return np.stack([curve.values for curve in cell.returns.values()])


def drawing_of(comparison: Comparison) -> Drawing:
    return Drawing(comparison, tuple(comparison.panels()), line_styles(comparison))


def drawn(plot: Plot, panel: int = 0) -> Axes:
    axes = MatplotlibFigure().add_subplot()
    plot.panels[panel].draw(axes)
    return axes


def line_data(axes: Axes, color: str) -> np.ndarray:
    """The y values of the line with this color."""
    (line,) = (line for line in axes.lines if to_hex(line.get_color()) == color)
    return np.asarray(line.get_ydata(), dtype=float)


@pytest.fixture
def losses() -> Comparison:
    distractors = [(number, loss) for number in (0, 5) for loss in ("vagram", "nll", "none")]
    cells = [curve_cell(seed, num_distractors=n, model_loss=loss) for seed, (n, loss) in enumerate(distractors)]
    return comparison_of(*cells)


# -- what they show ----------------------------------------------------------------------------------------------


def test_learning_curves_are_mean_and_interquartile_mean(losses: Comparison) -> None:
    drawing = drawing_of(losses)
    vagram = losses.cells[0]
    color = drawing.style(vagram).color
    mean = drawn(curve_plots.mean_curves(drawing))
    np.testing.assert_allclose(line_data(mean, color), returns_of(vagram).mean(axis=0))
    band = next(c for c in mean.collections if to_hex(c.get_facecolor()[0]) == color)  # type: ignore[index]
    top = max(y for x, y in band.get_paths()[0].vertices if x == STEPS[-1])
    assert top == pytest.approx(returns_of(vagram)[:, -1].mean() + stats.sem(returns_of(vagram)[:, -1]))
    iqm = drawn(curve_plots.iqm_curves(drawing))
    np.testing.assert_allclose(line_data(iqm, color), stats.trim_mean(returns_of(vagram), 0.25, axis=0))


def with_metrics(cell: CellCurves, **values: Any) -> CellCurves:
    """The cell with curves of metrics: ``model__fit_epochs={seed: [...]}``."""
    curves = {
        name.replace("__", "/"): {seed: SeedCurve.of(STEPS, own) for seed, own in by_seed.items()}
        for name, by_seed in values.items()
    }
    return replace(cell, metrics=curves)


def test_the_dashboard_has_every_cell_in_one_panel_per_metric(losses: Comparison) -> None:
    seen = {seed: np.arange(3) * (seed + 1.0) for seed in range(8)}
    times = {0: [3.0, 1.0, 2.0], 4: [5.0, 5.0, 4.0]}  # of two trials
    cells = [with_metrics(cell, model__fit_epochs=seen, time__epoch_s=times) for cell in losses.cells[:-1]]
    drawing = drawing_of(comparison_of(*cells, losses.cells[-1]))
    returns, fits, time = curve_plots.dashboard(drawing)
    assert [plot.name for plot in (returns, fits, time)] == ["dashboard_returns", "dashboard_fits", "dashboard_time"]
    assert [line.name for line in returns.lines] == [cell.label for cell in losses.cells]
    assert [line.name for line in fits.lines] == [cell.label for cell in cells]  # the last one measured none
    assert len({line.color for line in returns.lines}) == 6
    assert [panel.title for panel in fits.panels] == ["Epochs of a fit"] and fits.panels[0].says.endswith(".")
    axes, color = drawn(fits), fits.lines[1].color
    np.testing.assert_allclose(line_data(axes, color), np.arange(3) * 4.5)
    band = next(own for own in axes.collections if to_hex(own.get_facecolor()[0]) == color)  # type: ignore[index]
    assert max(y for _, y in band.get_paths()[0].vertices) == pytest.approx(
        9 + stats.sem([2.0 * (s + 1) for s in range(8)])
    )
    ends = drawn(time).collections[0].get_paths()[0].vertices  # the trials' lowest and highest, not an error of two
    np.testing.assert_allclose(line_data(drawn(time), color), [4.0, 3.0, 3.0])
    assert {(100.0, 3.0), (100.0, 5.0), (200.0, 1.0), (300.0, 2.0), (300.0, 4.0)} <= {tuple(point) for point in ends}
    assert curve_plots.dashboard(drawing_of(losses)) == []  # nothing that the learning curves do not show


def test_axes_of_the_dashboard_are_logarithmic_where_it_takes_one(losses: Comparison) -> None:
    def axes_of(**values: Any) -> Axes:
        cell = with_metrics(losses.cells[0], **values)
        return drawn(curve_plots.dashboard(drawing_of(comparison_of(cell)))[-1])

    wide = axes_of(model__unexplained_real={seed: [1.0, 0.1, 0.01] for seed in range(8)})
    assert wide.get_yscale() == "log"
    wide.figure.canvas.draw()
    labels = [text.get_text() for text in wide.get_yticklabels()]
    assert "0.1" in labels and not any("$" in label for label in labels)
    for values in ([1.0, 0.9, 0.8], [1.0, 0.0, 0.5]):
        narrow = axes_of(model__unexplained_real={seed: values for seed in range(8)})
        assert narrow.get_yscale() == "linear"
    share = axes_of(model__fit_limit_reached={seed: [0.0, 0.0, 0.0] for seed in range(8)})
    assert share.get_ylim() == (-0.02, 1.02)


def test_plain_sac_is_dotted_and_nothing_else_is(losses: Comparison) -> None:
    drawing = drawing_of(losses)
    assert [bool(line.dashes) for line in drawing.lines] == [False, False, True]
    axes = drawn(curve_plots.mean_curves(drawing))
    dotted = [line for line in axes.lines if line.get_linestyle() != "-"]
    assert [to_hex(line.get_color()) for line in dotted] == [BASELINE[0]]
    assert "Plain SAC" in curve_plots.mean_curves(drawing).caption


def test_panels_share_the_scale_of_returns_but_not_across_environments(losses: Comparison) -> None:
    assert curve_plots.mean_curves(drawing_of(losses)).share_y
    cells = [replace(cell, axes={"env": f"env-{cell.axes['num_distractors']}"} | cell.axes) for cell in losses.cells]
    assert not curve_plots.mean_curves(drawing_of(comparison_of(*cells))).share_y


def test_final_returns_and_profiles_share_the_axis_of_returns(losses: Comparison) -> None:
    drawing = drawing_of(losses)
    assert final_plots.final_returns(drawing).share_x
    ranges = {tuple(drawn(final_plots.profiles(drawing), panel).lines[0].get_xdata()[[0, -1]]) for panel in range(2)}
    assert len(ranges) == 1


def test_intervals_of_few_seeds_are_grey() -> None:
    few = comparison_of(*(curve_cell(seed, 2, model_loss=loss) for seed, loss in enumerate(("vagram", "nll"))))
    many = comparison_of(*(curve_cell(seed, 5, model_loss=loss) for seed, loss in enumerate(("vagram", "nll"))))
    for comparison, grey in ((few, True), (many, False)):
        drawing = drawing_of(comparison)
        for plot in (curve_plots.iqm_curves(drawing), final_plots.profiles(drawing)):
            colors = {to_hex(band.get_facecolor()[0]) for band in drawn(plot).collections}  # type: ignore[index]
            assert colors == ({MUTED} if grey else {style.color for style in drawing.lines})
            assert ("Intervals of fewer than 5 seeds are grey" in plot.caption) == grey


def test_an_empty_panel_says_why() -> None:
    cells = [cell_of([], missing={0: "not reported yet"}, model_loss=loss) for loss in ("vagram", "nll")]
    axes = drawn(curve_plots.iqm_curves(drawing_of(comparison_of(*cells))))
    assert [text.get_text() for text in axes.texts] == ["no return yet: 2 seeds\nnot reported yet"]
    other = [replace(cell_of([1.0], model_loss="mse"), metrics={"model/validation_loss": {}}), *cells]
    plot = curve_plots.metric_curves(drawing_of(comparison_of(*other)), "model/validation_loss")
    assert plot.title == "Held-out model loss"
    assert "none of these cells measured it" in drawn(plot).texts[0].get_text()


def test_final_returns_show_every_seed(losses: Comparison) -> None:
    axes = drawn(final_plots.final_returns(drawing_of(losses)), panel=1)
    dots = np.concatenate([c.get_offsets()[:, 0] for c in axes.collections if not isinstance(c, LineCollection)])
    expected = [value for cell in losses.cells[3:] for value in cell.final_returns.values()]
    np.testing.assert_allclose(np.sort(dots), np.sort(expected))


def test_profiles_fall_from_one_to_zero_at_the_final_returns(losses: Comparison) -> None:
    drawing = drawing_of(losses)
    plot = final_plots.profiles(drawing)
    assert [panel.title for panel in plot.panels] == ["no distractors", "5 distractors"]
    axes = drawn(plot)
    vagram = losses.cells[0]
    (line,) = (line for line in axes.lines if to_hex(line.get_color()) == drawing.style(vagram).color)
    taus, share = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
    finals = np.array(list(vagram.final_returns.values()))
    np.testing.assert_allclose(share, (finals[:, None] > taus).mean(axis=0))
    assert (share[0], share[-1]) == (1.0, 0.0)


def test_improvement_compares_every_pair_and_colors_who_is_ahead() -> None:
    better, worse = cell_of([10.0, 11, 12, 13, 14], model_loss="nll"), cell_of([1.0, 2, 3, 4, 5], model_loss="vagram")
    comparison = comparison_of(worse, better)
    drawing = drawing_of(comparison)
    plot = final_plots.improvement(drawing)
    assert plot is not None
    axes = drawn(plot)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["vagram > nll"]
    dot = axes.lines[-1]
    assert list(dot.get_xdata()) == [0.0]
    assert to_hex(dot.get_color()) == drawing.style(better).color


def test_every_seed_has_its_curve_and_a_missing_one_its_mark() -> None:
    cell = curve_cell(num_seeds=4, model_loss="vagram")
    curves = {seed: curve for seed, curve in cell.returns.items() if seed != 3}
    curves[2] = SeedCurve(np.array(STEPS[:1]), cell.returns[2].values[:1])
    broken = replace(cell, returns=curves, missing={2: "became NaN in epoch 2", 3: "never reported"})
    drawing = drawing_of(comparison_of(broken))
    plot = curve_plots.seed_curves(drawing)
    axes = drawn(plot)
    own = [line for line in axes.lines if to_hex(line.get_color()) == drawing.style(broken).color]
    assert [len(line.get_xdata()) for line in own] == [3, 3, 1]  # type: ignore[arg-type]
    assert [text.get_text() for text in axes.texts] == [" 2"]
    assert "seed 2 became NaN in epoch 2, seed 3 never reported" in plot.panels[0].description


def test_a_reference_in_several_panels_is_shown_seed_by_seed_once() -> None:
    sizes = [curve_cell(size=size, model_loss="vagram") for size in ("4x200", "2x64")]
    drawing = drawing_of(comparison_of(*sizes, curve_cell(model_loss="none")))
    assert [len(panel.cells) for panel in drawing.panels] == [2, 2]
    titles = [panel.title for panel in curve_plots.seed_curves(drawing).panels]
    assert titles == ["size=4x200, vagram", "none (plain SAC)", "size=2x64, vagram"]


# -- how they look -----------------------------------------------------------------------------------------------


def styles_of(*methods: str, experiments: Sequence[str] = ("exp",)) -> dict[str, Any]:
    cells = [
        replace(cell_of([1.0], experiment=name, model_loss=method), label=f"{method} {name}")
        for method in methods
        for name in experiments
    ]
    return line_styles(comparison_of(*cells))


def test_a_method_has_one_color_in_every_report() -> None:
    few, many = styles_of("vagram", "nll"), styles_of("itervaml", "mse", "nll", "vagram", "none")
    assert few["vagram"] == many["vagram"] and few["nll"] == many["nll"]
    two = styles_of("vagram", "nll", experiments=("first", "second"))
    assert two["vagram (first)"].color == two["vagram (second)"].color == few["vagram"].color
    assert two["vagram (first)"].dashes != two["vagram (second)"].dashes


def test_lines_are_told_apart_also_when_there_are_more_than_colors() -> None:
    styles = styles_of(*(f"loss{number}" for number in range(30)), "vagram", "none")
    assert len({(style.color, style.dashes) for style in styles.values()}) == 32


def contrast(one: str, other: str) -> float:
    """Of two colors, after WCAG 2."""

    def luminance(color: str) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("light", "dark"), [*PALETTE, BASELINE])
def test_lines_stand_out_from_both_backgrounds(light: str, dark: str) -> None:
    assert contrast(light, "#ffffff") >= 3.0
    assert contrast(dark, "#14181d") >= 3.0


def test_steps_are_short() -> None:
    assert [format_steps(value) for value in (0, 500, 1500, 300_000, 2_000_000)] == ["0", "500", "1.5k", "300k", "2M"]


# -- files -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[Figure]:
    cells = [curve_cell(seed, model_loss=loss) for seed, loss in enumerate(("vagram", "nll", "none"))]
    with_loss = [replace(cell, metrics={"model/validation_loss": cell.returns}) for cell in cells]
    return draw_figures(comparison_of(*with_loss), tmp_path_factory.mktemp("figures"), ["model/validation_loss"])


def test_every_figure_is_png_and_pdf(figures: list[Figure]) -> None:
    names = [figure.name for figure in figures]
    assert names == [
        "learning_curves_iqm",
        "learning_curves_mean",
        "final_returns",
        "performance_profiles",
        "probability_of_improvement",
        "metric_model_validation_loss",
        "seeds",
        "dashboard_returns",
        "dashboard_fits",
    ]
    folder = figures[0].png.parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{n}.{kind}" for n in names for kind in ("png", "pdf")
    )
    for figure in figures:
        assert figure.png.read_bytes().startswith(b"\x89PNG")
        assert figure.pdf.read_bytes().startswith(b"%PDF")


def test_a_figure_says_what_was_run_and_what_its_bands_are(losses: Comparison) -> None:
    plot = curve_plots.iqm_curves(drawing_of(losses))
    sheet, _ = _sheet(plot, "Pendulum-v1 | n = 8 seeds")
    assert (
        sheet.get_suptitle().replace("\n", " ")
        == "Pendulum-v1 | n = 8 seeds | bands and intervals: 95 % bootstrap interval of the IQM"
    )


def test_titles_fit_their_panels_beside_long_labels() -> None:
    sizes = ("1x16 with layernorm and dropout", "1x16 with layernorm and neither")
    settings = itertools.product(sizes, (0, 10), ("pendulum_with_friction", "x" * 60), ("vagram", "mse with all of it"))
    cells = [
        curve_cell(seed, model_size=size, num_distractors=number, what=what, model_loss=f"{loss} and such a long label")
        for seed, (size, number, what, loss) in enumerate(settings)
    ]
    comparison = comparison_of(*cells)
    plots = plots_of(comparison)
    assert {"final_returns", "probability_of_improvement"} < {plot.name for plot in plots}
    for plot in plots:
        with style.context(["default", RC_PARAMS]):
            sheet, _ = _sheet(plot.widened, "")
            sheet.draw_without_rendering()
        titles = [axes.title for axes in sheet.axes if axes.get_title()]
        assert titles, plot.name
        boxes = [title.get_window_extent() for title in titles]
        for title, box in zip(titles, boxes, strict=True):
            where = (plot.name, title.get_text())
            assert box.x0 >= 0 and box.x1 <= sheet.bbox.x1, where
            beside = [other for other in boxes if other.y0 < box.y1 and box.y0 < other.y1 and other.x0 > box.x0]
            assert all(box.x1 < other.x0 for other in beside), where
    assert title_lines(f"10 distractors, {'x' * 40}", 2.0) == f"10 distractors,\n{'x' * 21}..."
    assert title_lines("no distractors", 0.0) == "no\ndistr..."


HARD_NAMES = ("$x_1$", "_a $", "<b>\\frac{a} & %#", "$\\broken{")


def test_names_with_special_characters_break_no_figure(tmp_path: Path) -> None:
    comparison = comparison_of(*(curve_cell(seed, model_loss=name) for seed, name in enumerate(HARD_NAMES)))
    for plot in plots_of(comparison)[:2]:
        figure = save_plot(plot, tmp_path, "a $task$ | $\\broken{")
        for panel in figure.panels:
            ElementTree.fromstring(panel.svg)
            ElementTree.fromstring(panel.wide)
    sheet, _ = _sheet(curve_plots.iqm_curves(drawing_of(comparison)), "")
    assert [text.get_text().lstrip("\N{ZERO WIDTH SPACE}") for text in sheet.legends[0].get_texts()] == list(HARD_NAMES)


def test_a_figure_comes_out_the_same_again(losses: Comparison, tmp_path: Path) -> None:
    plot = curve_plots.mean_curves(drawing_of(losses))
    one, other = (save_plot(plot, tmp_path / name) for name in ("a", "b"))
    assert one.png.read_bytes() == other.png.read_bytes()
    assert one.pdf.read_bytes() == other.pdf.read_bytes()
    assert one.panels == other.panels


def test_panels_are_svg_elements_without_anything_from_elsewhere(figures: list[Figure]) -> None:
    ids: list[str] = []
    for figure in figures:
        for panel in figure.panels:
            root = ElementTree.fromstring(panel.svg)
            assert root.tag.endswith("svg") and "width" not in root.attrib
            own = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
            ids += own
            used = re.findall(r"(?:href=\"|url\()#([^\")]+)", panel.svg)
            assert set(used) <= set(own)
            assert "http" not in panel.svg and "<style" not in panel.svg
            assert not re.search(r"#[0-9a-f]{6}", panel.svg)  # every color follows the page
            assert panel.description
    assert len(ids) == len(set(ids))


def test_colors_in_text_are_left_alone() -> None:
    svg = inline_svg('<?xml?><svg width="1pt" viewBox="0 0 1 1"><text style="fill: #1f2328">#1f2328</text></svg>', "p-")
    assert 'style="fill: currentColor">#1f2328<' in svg


def test_an_unknown_metric_is_refused(losses: Comparison, tmp_path: Path) -> None:
    cells = [replace(cell, metrics={"model/validation_loss": cell.returns}) for cell in losses.cells]
    with pytest.raises(InputError, match=r"'model/loss' is in none of the results; there are model/validation_loss\."):
        draw_figures(comparison_of(*cells), tmp_path, ["model/loss"])
    assert not list(tmp_path.iterdir())


NOTHING = {0: "never reported", 1: "never reported"}


@pytest.mark.parametrize(
    "cells",
    [
        [cell_of([1.0, 2.0], model_loss="vagram")],
        [cell_of([1.0], model_loss=loss) for loss in ("vagram", "nll")],
        [cell_of([], missing=NOTHING, model_loss=loss) for loss in ("vagram", "nll")],
        [cell_of([], missing=NOTHING, model_loss="vagram"), cell_of([1.0, 1.0], model_loss="nll")],
        [cell_of([5.0, 5.0], curves={0: ([10], [5.0]), 1: ([10], [5.0])}, model_loss=loss) for loss in ("mse", "nll")],
        [cell_of([1.0, 2.0], curves={0: ([10, 30], [1.0, 2.0]), 1: ([20], [2.0])}, model_loss="vagram")],
    ],
    ids=["one cell", "one seed", "nothing yet", "one of two", "one point", "other steps"],
)
@pytest.mark.filterwarnings("error")
def test_little_data_gives_figures_too(cells: list[CellCurves]) -> None:
    comparison = comparison_of(*cells)
    for plot in plots_of(comparison):
        for panel in range(len(plot.panels)):
            drawn(plot, panel)
