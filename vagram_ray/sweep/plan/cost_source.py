"""Where a plan's costs come from: a probe on this machine, or a file that was written on one with the GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vagram_ray.sweep.plan.costs import Costs, work_key
from vagram_ray.sweep.plan.machine import Machine, processor_name
from vagram_ray.sweep.plan.probe import Prober, Sized
from vagram_ray.sweep.spec import SweepError
from vagram_ray.text import plural

if TYPE_CHECKING:
    from vagram_ray.sweep.plan.plan import SweepPlan

NOT_MEASURED = (
    "times are unknown, as nothing was measured on such a GPU: give --gpu-speed FILE, which `python -m "
    "vagram_ray.sweep.plan.placement CONFIG.py --measure-speed FILE` writes on a machine that has one."
)


class CostSource:
    """Tells a plan what the work of its cells costs on the machine that the plan is for.

    Args:
        machine: Which it is.
        extensions: What a trial imports first.
        file: Costs that ``write_costs`` has written on a machine with a GPU.

    Attributes:
        note: A sentence about what is not known, or was not measured there; empty otherwise.

    Raises:
        SweepError: ``file`` is none that ``write_costs`` has written.
    """

    def __init__(self, machine: Machine, extensions: Sequence[str] = (), file: Path | None = None) -> None:
        self._machine, self._extensions = machine, tuple(extensions)
        self._read = None if file is None else _read_costs(file)
        self.note = ""

    def __call__(self, work: Sequence[Sized], on_gpu: bool) -> list[Costs | None]:
        """The costs of each workload on a core or on a GPU, None where they are not known."""
        import torch

        if not on_gpu:
            found = self._measured(work, processor_name(), "cpu")
            elsewhere = "" if self._machine.local else "times were measured on this machine, not on the cluster's."
            self.note = self.note or elsewhere
            return found
        if self._read is not None:
            return self._from_file(work, *self._read)
        if self._machine.local and torch.cuda.is_available():
            return self._measured(work, torch.cuda.get_device_name(0), "cuda")
        self.note = NOT_MEASURED
        return [None] * len(work)

    def _measured(self, work: Sequence[Sized], name: str, device: str) -> list[Costs | None]:
        prober = Prober(name, self._extensions, device)
        found = prober(work)
        self.note = prober.note
        return found

    def _from_file(self, work: Sequence[Sized], device: str, costs: Mapping[str, Costs]) -> list[Costs | None]:
        found = [costs.get(work_key(*each)) for each in work]
        lacking = sum(each is None for each in found)
        unknown = f", but not those of {lacking} of {len(found)} cells: measure this sweep file there"
        self.note = f"times were measured on {device}{unknown if lacking else ''}."
        return found


def _read_costs(file: Path) -> tuple[str, dict[str, Costs]]:
    try:
        content = json.loads(file.read_text())
        return str(content["device"]), {key: Costs.from_content(each) for key, each in content["costs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SweepError(
            f"--gpu-speed {str(file)!r} is not usable ({type(error).__name__}): give a file that `python -m "
            "vagram_ray.sweep.plan.placement CONFIG.py --measure-speed FILE` has written on a machine with a GPU."
        ) from error


def write_costs(plans: Sequence[SweepPlan], file: Path) -> str:
    """Measure the cells of plans on this machine's GPU and write what they cost; returns a sentence.

    Raises:
        SweepError: There is no GPU, or the file cannot be written.
    """
    import torch

    if not torch.cuda.is_available():
        raise SweepError("--measure-speed needs a GPU, and PyTorch finds none here: run it on a machine that has one.")
    device, notes = torch.cuda.get_device_name(0), []
    costs: dict[str, Costs] = {}
    for plan in plans:
        prober = Prober(device, plan.config.extensions, "cuda")
        work = plan.work()
        costs |= {work_key(*each): found for each, found in zip(work, prober(work), strict=True) if found is not None}
        notes += [f" Note: {prober.note}"] if prober.note else []
    content = {"device": device, "costs": {key: asdict(each) for key, each in costs.items()}}
    try:
        file.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise SweepError(f"--measure-speed {str(file)!r} cannot be written: {error.strerror}.") from error
    return f"{device}: {plural(len(costs), 'size')} measured and written to {file}.{''.join(notes)}"
