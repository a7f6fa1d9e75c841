"""``python -m vagram_ray.report PATH --wandb ENTITY/PROJECT``: the dashboard in W&B, of the runs logged there.

A *workspace* is saved: all panels of :mod:`vagram_ray.report.dashboard` with all cells, in which one goes on looking
while a sweep runs. Every line is a cell, the mean over its seeds with its standard error, over ``env_steps``, and what
each panel says stands beside it. Each call saves a new view and changes none.

The runs are found by what the sweep gave them: a tag with its id, the cell as group, job type ``seed``.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from vagram_ray.commands import InputError
from vagram_ray.records import SweepFolder
from vagram_ray.report.curves import CellCurves, Comparison
from vagram_ray.report.dashboard import X_AXIS, LinePanel, panel_sections
from vagram_ray.report.figure_style import cell_styles
from vagram_ray.sweep.wandb.runs import logged_name, sweep_tag
from vagram_ray.text import canonical

_GROUP_LIMIT, _TITLE_LIMIT = 128, 120
"""Characters of a run's group, as the sweep cuts it, and of a view's title."""
_MIN_LINES = 20
_OPEN = 2
"""Sections of the workspace that are open: the returns, and what explains them."""


@dataclass(frozen=True)
class LoggedCell:
    """A cell as W&B knows it."""

    sweep: str
    """The sweep's name."""
    group: str
    """The group of its runs."""
    cell: CellCurves
    sweep_id: str
    """The sweep's id, in the configuration of its runs."""

    @property
    def tag(self) -> str:
        """The tag that all runs of the sweep have: its name is not enough, a sweep that is started anew keeps it."""
        return sweep_tag(self.sweep_id)


def check_ready(target: str) -> None:
    """Refuse what cannot work before anything is read or drawn.

    Raises:
        InputError: The target is none, or the package or the login is missing.
    """
    parse_target(target)
    _check_package()
    _check_login()


def build_workspace(comparison: Comparison, target: str, console: Console) -> str:
    """Save a workspace with the comparison's panels. Returns its address.

    Args:
        comparison: What is compared, sweeps only, since nothing else has runs in W&B.
        target: ``ENTITY/PROJECT`` where the runs are.
        console: Told what the workspace cannot show.

    Raises:
        InputError: The target, the package or the login is missing, nothing in the comparison comes from a sweep, or
            W&B refuses. The message is one sentence.
    """
    check_ready(target)
    check_logged(comparison)
    entity, project = parse_target(target)
    logged = logged_cells(comparison)
    os.environ.setdefault("WANDB_SILENT", "true")  # the addresses are printed here
    if others := [facts.name for facts in comparison.experiments if facts.kind != "sweep"]:
        console.print(f"Not in W&B, because no sweep logged it: {', '.join(others)}.", soft_wrap=True)
    try:
        import wandb

        if project not in [each.name for each in wandb.Api().projects(entity)]:
            raise LookupError(f"{target!r} not found")  # saving would not say so
        workspace = make_workspace(comparison, logged, entity, project)
        workspace.save()
        return str(workspace.url)
    except Exception as error:  # a class of its own for every way of failing, some of them without a message
        raise InputError(
            f"W&B refused the workspace in {target!r} ({_reason(error)}); check the name, and that you may write there."
        ) from error


def check_logged(comparison: Comparison) -> None:
    """Refuse results of which nothing can be in W&B.

    Raises:
        InputError: None of them comes from a sweep.
    """
    if not any(facts.kind == "sweep" for facts in comparison.experiments):
        raise InputError("--wandb shows runs that sweeps have logged, and there is no sweep among the results.")


def parse_target(target: str) -> tuple[str, str]:
    """Entity and project.

    Raises:
        InputError: It is not ``ENTITY/PROJECT``.
    """
    entity, separator, project = target.partition("/")
    if not (entity and separator and project) or "/" in project:
        raise InputError(f"--wandb {target!r} is not usable: give ENTITY/PROJECT, where the sweep's runs are.")
    return entity, project


def logged_cells(comparison: Comparison) -> list[LoggedCell]:
    """The cells that a sweep has logged, once for each sweep whose seeds they hold, in order of the comparison."""
    logged = []
    for facts in comparison.experiments:
        if facts.kind == "sweep":
            own = [cell for cell in comparison.cells if facts.name in cell.experiment.split(" + ")]
            info = SweepFolder(facts.source).read()
            sweep = logged_name(info, facts.source.resolve())
            for entry in info["cells"]:
                match = next((cell for cell in own if _has_axes(cell, entry.get("axes", {}))), None)
                if match is not None:
                    logged.append(LoggedCell(sweep, entry["label"][:_GROUP_LIMIT], match, info.get("sweep_id", "")))
    place = {cell.label: position for position, cell in enumerate(comparison.cells)}
    return sorted(logged, key=lambda entry: place[entry.cell.label])


def make_workspace(comparison: Comparison, logged: Sequence[LoggedCell], entity: str, project: str) -> Any:
    """The workspace, not yet saved."""
    from wandb_workspaces import expr
    from wandb_workspaces import workspaces as ws
    from wandb_workspaces.reports import v2 as wr

    sweeps = list(dict.fromkeys(entry.sweep for entry in logged))
    colors = {label: style.color for label, style in cell_styles(comparison).items()}
    groupby: list[Any] = [expr.Metric("Group")]
    paths: dict[object, object] = {entry.group: colors[entry.cell.label] for entry in logged}
    num_sweeps = len({(entry.sweep, entry.sweep_id) for entry in logged})
    if num_sweeps > 1:  # they may have cells of the same name, which are not the same line, or be of one name
        key = "sweep_name" if len(sweeps) == num_sweeps else "sweep_id"
        groupby.insert(0, expr.Config(key))
        own = {entry: entry.sweep if key == "sweep_name" else entry.sweep_id for entry in logged}
        paths = {ws.GroupPath(name, entry.group): colors[entry.cell.label] for entry, name in own.items()}
    sections = [
        ws.Section(
            name=section.title,
            panels=[*map(_line_plot, section.panels), wr.MarkdownPanel(markdown=_in_words(section.panels))],
            is_open=position < _OPEN,
            layout_settings=ws.SectionLayoutSettings(columns=min(3, 1 + len(section.panels)), rows=2),
            panel_settings=ws.SectionPanelSettings(x_axis=X_AXIS),
        )
        for position, section in enumerate(panel_sections(comparison))
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=_title(sweeps),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=X_AXIS, max_runs=max(_MIN_LINES, len(logged))),
        runset_settings=ws.RunsetSettings(filters=run_filter(logged), groupby=groupby, group_colors=paths),
    )


def run_filter(logged: Iterable[LoggedCell]) -> str:
    """The filter expression for the runs of these cells' seeds."""
    entries = list(logged)
    groups = dict.fromkeys(entry.group for entry in entries)
    tags = dict.fromkeys(entry.tag for entry in entries)
    return (
        f"Metric('Group') in [{', '.join(map(_literal, groups))}] and "
        f"Metric('Tags') in [{', '.join(map(_literal, tags))}] and Metric('JobType') in ['seed']"
    )


def _literal(text: str) -> str:
    """``text`` as a string in a filter expression, with escapes for all that is no letter or digit.

    wandb-workspaces rewrites =, < and > in the whole expression, inside of quotes too, before it is parsed.
    """

    def escaped(character: str) -> str:
        if character.isascii() and character.isalnum():
            return character
        return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"

    return f"'{''.join(map(escaped, text))}'"


def _line_plot(panel: LinePanel) -> Any:
    from wandb_workspaces.reports import v2 as wr

    return wr.LinePlot(
        title=panel.title,
        x=X_AXIS,
        y=[panel.metric],
        log_y=panel.log_y or None,
        range_y=(0.0, 1.0) if panel.share else (None, None),
        title_x="environment steps per seed",
        groupby_aggfunc="mean",
        groupby_rangefunc=panel.spread,
    )


def _in_words(panels: Iterable[LinePanel]) -> str:
    """What the panels say, as Markdown."""
    return "\n".join(f"- **{panel.title}** (`{panel.metric}`): {panel.says}" for panel in panels)


def _title(sweeps: Sequence[str]) -> str:
    # wandb-workspaces takes every symbol, the equals sign too, for an emoji, and refuses it.
    title = "".join("-" if unicodedata.category(sign)[0] in "SC" else sign for sign in ", ".join(sweeps))
    return title if len(title) <= _TITLE_LIMIT else f"{title[: _TITLE_LIMIT - 3]}..."


def _has_axes(cell: CellCurves, axes: Mapping[str, Any]) -> bool:
    own = {axis: cell.axes[axis] for axis in axes if axis in cell.axes}
    return canonical(own) == canonical(axes)


def _check_package() -> None:
    try:
        import wandb_workspaces.reports.v2
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--wandb needs the package wandb-workspaces ({_reason(error)}): pip install 'vagram_ray[workspace]'."
        ) from error


def _check_login() -> None:
    from vagram_ray.sweep.wandb.mode import key_problem

    if problem := key_problem():
        raise InputError(f"--wandb cannot reach W&B: {problem} Run `wandb login` first.")


def _reason(error: Exception) -> str:
    """The first line of an error's message, for pydantic's errors that of the one below."""
    errors = getattr(error, "errors", None)
    if callable(errors) and (found := errors()):
        return str(found[0].get("msg", error)).rstrip(".")
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
