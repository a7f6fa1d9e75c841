"""How figures look: one color per method in all panels of all figures, plain SAC dotted, ink that can be recolored.

Colors are those of Okabe and Ito (color-blind safe) and of Tol, dark enough for white paper. Each has a lighter twin
for dark backgrounds, which the page swaps in. Lines that share a method (a second experiment, another model size) share
its color and differ in their dashes, and so do methods beyond the number of colors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vagram_ray.report.curves import CellCurves, Comparison
from vagram_ray.text import format_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, ALARM = "#1f2328", "#6e7781", "#c4211f"
"""Colors of text and axes, of what stands back, and of what is wrong."""
PALETTE = (
    ("#0072b2", "#58b4e8"),  # blue
    ("#d55e00", "#ff8f47"),  # vermilion
    ("#009e73", "#3fcf9f"),  # green
    ("#aa4499", "#e08fd0"),  # purple
    ("#a67c00", "#e3bd3a"),  # ochre
    ("#882255", "#e87ba4"),  # wine
    ("#2c6e7f", "#7ccfe0"),  # petrol
    ("#6a51a3", "#b3a0ee"),  # violet
)
"""Colors of lines on light and on dark backgrounds."""
BASELINE = (MUTED, "#9da7b3")
"""Color of plain SAC, which is a reference and no competitor."""
_FIXED = {"vagram": 0, "nll": 1, "mse": 2}
"""The losses of the paper's figures have the same color in every report."""
_BASELINES = ("none", "sac")
_DOTS = (1.0, 1.4)
_PALEST = 0.6
"""Share of white in the last panel's cells, where the cells of all panels are in one plot."""
NICE_STEPS = [1, 2, 2.5, 5, 10]
"""Of ticks, in any power of ten."""
_DASHES: tuple[tuple[float, ...], ...] = ((), (4.5, 1.6), (4.5, 1.4, 1.0, 1.4), (2.2, 1.2), (7.0, 1.4, 1.0, 1.4))

RC_PARAMS: dict[str, Any] = {
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "grid.color": MUTED,
    "grid.alpha": 0.22,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,  # fonts that journals accept
    "svg.fonttype": "none",  # text stays text
}


@dataclass(frozen=True)
class LineStyle:
    """How a method is drawn. ``color`` is the one for light backgrounds."""

    name: str
    """As in tables and sentences."""
    color: str
    dashes: tuple[float, ...] = ()
    """Lengths of dash and gap in line widths. Empty is a solid line."""
    width: float = 1.7
    baseline: bool = False
    """Whether this is plain SAC, a method without a model."""

    @property
    def label(self) -> str:
        """The text of the legend."""
        return f"{self.name} (plain SAC)" if self.name == "none" else self.name

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of ``Axes.plot``."""
        return {"color": self.color, "linewidth": self.width, "linestyle": (0, self.dashes) if self.dashes else "-"}


def line_styles(comparison: Comparison) -> dict[str, LineStyle]:
    """Style of every line of a comparison, by its name."""
    methods: dict[str, str] = {}
    for cell in comparison.cells:
        methods.setdefault(comparison.line_name(cell), _method(comparison, cell))
    colors = _colors([methods[name] for name in comparison.lines])
    seen: dict[str, int] = {}
    styles = {}
    for name in comparison.lines:
        method = methods[name]
        color = colors[method]
        variant = seen[color] = seen.get(color, -1) + 1
        baseline = method.lower() in _BASELINES
        dots = (_DOTS[0], _DOTS[1] * (1 + variant))
        dashes = dots if baseline else _DASHES[variant % len(_DASHES)]
        styles[name] = LineStyle(name, color, dashes, baseline=baseline)
    return styles


def cell_styles(comparison: Comparison) -> dict[str, LineStyle]:
    """Style of every cell by its label, where all cells are in one plot: its line's, paler from panel to panel."""
    styles, panels = line_styles(comparison), comparison.panels()
    place = {cell.label: number for number, panel in reversed([*enumerate(panels)]) for cell in panel.cells}
    last = max(1, len(panels) - 1)
    own = {cell.label: styles[comparison.line_name(cell)] for cell in comparison.cells}
    return {
        label: replace(style, name=label, color=_paler(style.color, _PALEST * place[label] / last))
        for label, style in own.items()
    }


def _paler(color: str, share: float) -> str:
    """A color mixed with this share of white."""
    parts = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(part + share * (255 - part)):02x}" for part in parts)


def _method(comparison: Comparison, cell: CellCurves) -> str:
    """The key of a line's color: its value on the first of the method's axes, else its name."""
    for axis in comparison.method_axes:
        if axis in cell.axes and axis in ("model_loss", "algorithm", "method", "agent", "dynamics_model"):
            return format_value(cell.axes[axis])
    return comparison.line_name(cell)


def _colors(methods: list[str]) -> dict[str, str]:
    """Color of each method: the fixed ones, then those of the palette that nobody has, then the palette again."""
    distinct = list(dict.fromkeys(methods))
    places = {method: _FIXED[method] for method in distinct if method in _FIXED}
    others = [method for method in distinct if method not in places and method.lower() not in _BASELINES]
    free = [place for place in range(len(PALETTE)) if place not in places.values()] or list(range(len(PALETTE)))
    places |= {method: free[number % len(free)] for number, method in enumerate(others)}
    return {method: PALETTE[places[method]][0] if method in places else BASELINE[0] for method in distinct}


def css_variables() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Names of the page's variables for the colors of lines, with their values on light and on dark backgrounds."""
    names = [f"--line-{place}" for place in range(len(PALETTE))]
    light = dict(zip(names, (color for color, _ in PALETTE), strict=True)) | {"--line-baseline": BASELINE[0]}
    dark = dict(zip(names, (color for _, color in PALETTE), strict=True)) | {"--line-baseline": BASELINE[1]}
    return light, dark


def css_color(color: str) -> str:
    """The CSS variable of a color, which follows the background."""
    light, _ = css_variables()
    named = {value: f"var({name})" for name, value in light.items()}
    # The grey of axes is that of plain SAC: both stand back.
    return {INK: "currentColor", ALARM: "var(--alarm)", **named}.get(color, color)


def format_steps(value: float, _position: object = None) -> str:
    """``500``, ``1.5k``, ``300k``, ``2M``."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def steps_axis(axes: Axes) -> None:
    """Environment steps on the x axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, steps=NICE_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(format_steps))
    axes.set_xlabel("environment steps")
