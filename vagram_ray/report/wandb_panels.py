"""Which panels a W&B workspace or report shows: the sections of logged metrics, as far as the results have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vagram_ray.report.curves import Comparison

X_AXIS = "env_steps"


class LinePanel(NamedTuple):
    """Curves of one or several metrics over ``env_steps``."""

    title: str
    metrics: tuple[str, ...]
    log_y: bool = False


class PanelSection(NamedTuple):
    """Panels under one heading."""

    name: str
    panels: tuple[LinePanel, ...]


_FURTHER_SECTIONS = (
    PanelSection(
        "Model",
        (
            LinePanel("Held-out model loss", ("model/validation_loss",)),
            LinePanel("Held-out squared error, unweighted", ("model/validation_delta_mse",), log_y=True),
            LinePanel("Training loss of the last fit epoch", ("model/train_loss",)),
            LinePanel("Fit epochs", ("model/fit_epochs",)),
            LinePanel("Share of fits that the limit ended", ("model/fit_limit_reached",)),
            LinePanel("Imagined reward", ("model/imagined_reward",)),
            LinePanel("Imagined terminations", ("model/imagined_termination_share",)),
            LinePanel("Rollout length: limit and mean", ("model/rollout_length", "model/imagined_rollout_length")),
            LinePanel("Rollouts ended by disagreement", ("model/truncated_rollouts_share",)),
            LinePanel("Share of real transitions in a batch", ("sac/real_ratio",)),
        ),
    ),
    PanelSection(
        "What the value and the model attend to",
        (
            LinePanel("Value gradients: norm and clip threshold",
                      ("model/value_gradient_norm", "model/value_gradient_clip"), log_y=True),
            LinePanel("Weight of real and distractor dimensions",
                      ("model/weight_real", "model/weight_distractors"), log_y=True),
            LinePanel("Share of the value's sensitivity in the distractors", ("model/sensitivity_distractors_share",)),
            LinePanel("Unexplained share of real dimensions", ("model/unexplained_real",), log_y=True),
            LinePanel("Unexplained share of the reward", ("model/unexplained_reward",), log_y=True),
            LinePanel("Unexplained share of distractors", ("model/unexplained_distractors",), log_y=True),
        ),
    ),
    PanelSection(
        "SAC",
        (
            LinePanel("Mean value", ("sac/value",)),
            LinePanel("Squared Bellman error", ("sac/critic_loss",), log_y=True),
            LinePanel("Actor loss", ("sac/actor_loss",)),
            LinePanel("Entropy", ("sac/entropy",)),
            LinePanel("Temperature", ("sac/alpha",), log_y=True),
        ),
    ),
)  # fmt: skip
_COST = PanelSection(
    "Time",
    (
        LinePanel("Seconds per epoch", ("time/epoch_s",)),
        LinePanel("Seconds of its parts", ("time/env_s", "time/model_fit_s", "time/rollout_s", "time/sac_s")),
        LinePanel("Environment steps a second, all seeds", ("perf/env_steps_per_s",)),
        LinePanel("Updates a second, all seeds", ("perf/updates_per_s",)),
    ),
)
"""Of the whole trial, and so in no seed's records: always there."""


def metric_titles() -> dict[str, str]:
    """Metrics in words: those that have a panel of their own."""
    panels = (panel for section in (*_FURTHER_SECTIONS, _COST) for panel in section.panels)
    return {panel.metrics[0]: panel.title for panel in panels if len(panel.metrics) == 1}


def panel_sections(comparison: Comparison) -> list[PanelSection]:
    """All sections, the returns first. Metrics that no cell has are left out."""
    known = {name for cell in comparison.cells for name in cell.metrics} | {comparison.return_metric}
    returns = PanelSection("Returns", return_panels(comparison))
    sections = [_with_known(section, known) for section in (returns, *_FURTHER_SECTIONS)]
    return [section for section in (*sections, _COST) if section.panels]


def return_panels(comparison: Comparison) -> tuple[LinePanel, ...]:
    """The return of the paper's figures first, then what belongs to it."""
    names = dict.fromkeys((comparison.return_metric, "eval/episode_return", "train/episode_return"))
    titles = {"eval/episode_return": "Return of the deterministic policy", "train/episode_return": "Return in training"}
    returns = tuple(LinePanel(titles.get(name, name), (name,)) for name in names)
    return (*returns, LinePanel("Episode length of the deterministic policy", ("eval/episode_length",)))


def _with_known(section: PanelSection, known: set[str]) -> PanelSection:
    def kept() -> Iterator[LinePanel]:
        for panel in section.panels:
            metrics = tuple(name for name in panel.metrics if name in known)
            if metrics:
                yield panel._replace(metrics=metrics)

    return section._replace(panels=tuple(kept()))
