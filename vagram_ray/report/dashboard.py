"""The panels of the dashboard: title, metric, and what the panel says. The one list of them.

W&B's workspace (:mod:`vagram_ray.report.wandb_workspace`), the report's page, its titles of metrics and the table in
docs/wandb.md are made of it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from vagram_ray.report.curves import Comparison

X_AXIS = "env_steps"
PREFIX = "dashboard_"
"""Of the names of the report's figures that show a section."""


class LinePanel(NamedTuple):
    """Curves of one metric over ``env_steps``: the mean over the seeds of every cell, with an interval."""

    title: str
    metric: str
    says: str
    """What it shows, in a sentence."""
    log_y: bool = False
    share: bool = False
    """Whether it lies between 0 and 1, and the axis goes from one to the other."""

    @property
    def spread(self) -> Literal["stderr", "minmax"]:
        """The interval: the mean's standard error, or the lowest and highest trial where all seeds of one share it."""
        return "minmax" if self.metric.startswith(("time/", "perf/")) else "stderr"


class PanelSection(NamedTuple):
    """Panels under one heading."""

    name: str
    title: str
    panels: tuple[LinePanel, ...]

    @property
    def figure(self) -> str:
        """Name of the report's figure of this section."""
        return f"{PREFIX}{self.name}"


RETURNS = PanelSection(
    "returns",
    "Returns",
    (
        LinePanel("Return of the deterministic policy", "eval/episode_return",
                  "How good the policy is: higher is better."),
        LinePanel("Return in training", "train/episode_return", "The same with the noise of exploration."),
        LinePanel("Length of an evaluation's episode", "eval/episode_length",
                  "Steps until it ends; short ones often mean a fall."),
    ),
)  # fmt: skip
ATTENTION = PanelSection(
    "attention",
    "What the value attends to, and what the model has learned",
    (
        LinePanel("Share of the value's sensitivity in distractors", "model/sensitivity_distractors_share",
                  "0: the value ignores the distractors; 1: it depends on nothing else. It has no unit.", share=True),
        LinePanel("Unexplained by the model: real dimensions", "model/unexplained_real",
                  "0: the model predicts the change perfectly; 1: no better than the mean change.", log_y=True),
        LinePanel("Unexplained by the model: distractors", "model/unexplained_distractors",
                  "The same of the distractors; beside the real dimensions it tells where the model's capacity goes.",
                  log_y=True),
        LinePanel("Unexplained by the model: reward", "model/unexplained_reward",
                  "0: the model predicts the reward perfectly; 1: no better than the mean reward.", log_y=True),
        LinePanel("Norm of the value's gradient", "model/value_gradient_norm",
                  "How steep the value is in the next state, before clipping.", log_y=True),
    ),
)  # fmt: skip
_FITS = PanelSection(
    "fits",
    "Fits of the model",
    (
        LinePanel("Epochs of a fit", "model/fit_epochs", "How long a fit goes on until it no longer improves."),
        LinePanel("Share of fits that the limit ended", "model/fit_limit_reached",
                  "Fits that model_max_epochs ended early: well above 0, that loss is at a disadvantage.", share=True),
        LinePanel("Held-out squared error, unweighted", "model/validation_delta_mse",
                  "On transitions that the fit did not see, in the same unit for every loss.", log_y=True),
        LinePanel("Held-out model loss", "model/validation_loss",
                  "What the fit minimises; losses do not compare with each other."),
        LinePanel("Training loss of the last fit epoch", "model/train_loss",
                  "The same on the transitions of the fit; far below the held-out one it has overfitted."),
    ),
)  # fmt: skip
_ROLLOUTS = PanelSection(
    "rollouts",
    "Imagined rollouts",
    (
        LinePanel("Limit of a rollout's length", "model/rollout_length", "Most imagined steps in a row."),
        LinePanel("Length that rollouts reach", "model/imagined_rollout_length",
                  "Their mean length; terminations and disagreement end them early."),
        LinePanel("Rollouts ended by disagreement", "model/truncated_rollouts_share",
                  "Share that ended because the ensemble disagrees.", share=True),
        LinePanel("Imagined reward", "model/imagined_reward",
                  "Mean reward of imagined steps; far above the real one the policy exploits the model."),
        LinePanel("Imagined terminations", "model/imagined_termination_share",
                  "Share of imagined steps that end an episode."),
        LinePanel("Share of real transitions in a batch", "sac/real_ratio",
                  "The rest of each batch of SAC is imagined.", share=True),
    ),
)  # fmt: skip
_SAC = PanelSection(
    "sac",
    "SAC",
    (
        LinePanel("Mean value", "sac/value", "What the critics expect; without bound they diverge."),
        LinePanel("Squared Bellman error", "sac/critic_loss", "What the critics minimise.", log_y=True),
        LinePanel("Actor loss", "sac/actor_loss",
                  "What the policy minimises: temperature times log-probability minus value."),
        LinePanel("Entropy of the policy", "sac/entropy", "How much it explores, in nats."),
        LinePanel("Temperature", "sac/alpha", "The weight of the entropy.", log_y=True),
    ),
)  # fmt: skip
_TIME = PanelSection(
    "time",
    "Time",
    (
        LinePanel("Seconds of an epoch", "time/epoch_s",
                  "Of a whole trial, all its seeds together; so are all panels here."),
        LinePanel("Seconds of fitting the model", "time/model_fit_s", "With the measurements after each fit."),
        LinePanel("Seconds of updates", "time/sac_s", "SAC's gradient updates."),
        LinePanel("Seconds of imagining", "time/rollout_s", "The model's rollouts."),
        LinePanel("Seconds in the environment", "time/env_s", "Choosing actions and stepping."),
        LinePanel("Seconds of evaluation", "time/evaluation_s", "It comes after the epoch."),
        LinePanel("Environment steps a second", "perf/env_steps_per_s", "Summed over the trial's seeds."),
        LinePanel("Updates a second", "perf/updates_per_s", "Summed over the trial's seeds."),
    ),
)  # fmt: skip
SECTIONS = (RETURNS, ATTENTION, _FITS, _ROLLOUTS, _SAC, _TIME)


def metric_titles() -> dict[str, str]:
    """Metrics in words."""
    return {panel.metric: panel.title for section in SECTIONS for panel in section.panels}


def panel_sections(comparison: Comparison) -> list[PanelSection]:
    """All sections, the returns first. Metrics that no cell has are left out, unless nothing has been measured yet."""
    known = {name for cell in comparison.cells for name in cell.metrics}
    returns = RETURNS._replace(panels=_return_panels(comparison))
    sections = [returns, *SECTIONS[1:]]
    if known:
        known.add(comparison.return_metric)
        sections = [own._replace(panels=tuple(p for p in own.panels if p.metric in known)) for own in sections]
    return [section for section in sections if section.panels]


def _return_panels(comparison: Comparison) -> tuple[LinePanel, ...]:
    """The return of the paper's figures first."""
    metric = comparison.return_metric
    first = [panel for panel in RETURNS.panels if panel.metric == metric]
    others = [panel for panel in RETURNS.panels if panel.metric != metric]
    return (*(first or [LinePanel(metric, metric, "The return of the comparison.")]), *others)
