"""A plan as the plain data that ``sweep.json`` keeps of it, with what each trial asks Ray for.

A trial may ask for another share of a GPU after the sweep has gone on elsewhere: its ``resources`` in ``sweep.json``
are those of the last time that it ran.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from vagram_ray.records.folder import SweepFolder
from vagram_ray.records.recorded import ACCELERATOR_TYPE, CPU, GPU, recorded_resources, split_settings
from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan
from vagram_ray.sweep.plan.shares import ACCELERATOR
from vagram_ray.text import format_value

Resources = Mapping[str, Mapping[str, Any]]
"""Requested resources, by name of the trial."""


def plan_content(
    plan: SweepPlan, running: Collection[str] | None = None, recorded: Resources | None = None
) -> dict[str, Any]:
    """What ``sweep.json`` says of a plan.

    Args:
        plan: The whole sweep.
        running: Names of the trials that now run, by default all.
        recorded: What each trial asked for when it last ran, as far as that is known.
    """
    now = {
        trial.name: trial_resources(plan, trial) for trial in plan.trials if running is None or trial.name in running
    }
    resources = {**(recorded or {}), **now}
    shared, own = split_settings([cell.settings for cell in plan.cells])
    return {
        "name": plan.name,
        "description": plan.description,
        "scale": plan.scale,
        "replaced_task": plan.replaced,
        "epochs": plan.epochs,
        "seeds": list(plan.seeds),
        "return_metric": plan.return_metric,
        "slots": plan.slots,
        "resources": dict(plan.resources),
        "overrides": _plain(plan.overrides),
        "settings": shared,
        "cells": [
            {
                "index": cell.index,
                "label": cell.label,
                "axes": _plain(cell.axes),
                "settings": settings,
                "trials": [trial.name for trial in plan.cell_trials(cell)],
                "epoch_length": cell.workload.settings.epoch_length,
                "warmup_steps": cell.workload.warmup_steps,
            }
            for cell, settings in zip(plan.cells, own, strict=True)
        ],
        "trials": [_trial_content(trial, resources.get(trial.name)) for trial in plan.trials],
        **({} if plan.tuning is None else {"tuning": plan.tuning.identity}),
    }


def trial_resources(plan: SweepPlan, trial: TrialPlan) -> dict[str, float | str]:
    """CPUs and GPUs of a trial of the plan, and the accelerator that it has to come to, if any."""
    request = plan.cells[trial.cell.index].workload.request
    gpus = plan.sharing.share if plan.sharing else request.get(GPU, 0.0)
    amounts = {CPU: float(request.get(CPU, 0.0)), GPU: float(gpus)}
    kinds = [
        name.removeprefix(ACCELERATOR) for name, number in request.items() if name.startswith(ACCELERATOR) and number
    ]
    return {**amounts, **({ACCELERATOR_TYPE: kinds[0]} if kinds else {})}


def rewrite_plan(folder: SweepFolder, plan: SweepPlan, running: Collection[str]) -> None:
    """Put a plan that has changed while the sweep runs into ``sweep.json``. What else stands there stays.

    So does what trials asked for, but for those that run from now on.
    """
    folder.update(lambda old: plan_content(plan, running, recorded_resources(old)))


def _trial_content(trial: TrialPlan, resources: Mapping[str, Any] | None) -> dict[str, Any]:
    content = {"name": trial.name, "cell": trial.cell.index, "seeds": list(trial.seeds)}
    return content if resources is None else {**content, "resources": dict(resources)}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=format_value))
    return plain
