"""What work costs on a GPU that is not at hand: an assumption, or what was measured elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vagram_ray.sweep.estimates import Speed, measure_speed
from vagram_ray.sweep.machine import Machine
from vagram_ray.sweep.spec import SweepError

ASSUMED = Speed(flops_per_s=14e12, call_s=7e-6, activation_s=8e-12)
"""By the data sheet of an A100: 70 % of 19.5 TFLOP/s of float32, and 8 bytes per activation at 1 TB/s. By habit: what
a PyTorch call costs a core."""
_KEYS = ("flops_per_s", "call_s", "activation_s")


@dataclass(frozen=True)
class GpuSpeed:
    """Speed of a GPU, and where it is from."""

    speed: Speed
    origin: str
    """A part of a sentence."""
    env_step_given: bool = False
    """Whether the environments' speed is assumed too."""

    @classmethod
    def assumed(cls, tflops: float | None = None) -> GpuSpeed:
        """``ASSUMED``, or that with another speed of arithmetic."""
        speed = ASSUMED if tflops is None else replace(ASSUMED, flops_per_s=tflops * 1e12)
        return cls(speed, "nothing was measured on a GPU")

    def with_env_step(self, seconds: float) -> GpuSpeed:
        """The same with an environment step of so many seconds, in every environment."""
        return replace(self, speed=replace(self.speed, env_step_s=seconds), env_step_given=True)

    @property
    def source(self) -> str:
        """A sentence about all of it."""
        step = f"of {self.speed.env_step_s * 1e6:.3g} us" if self.env_step_given else "as fast as on this machine now"
        return f"times assume {_describe(self.speed)} on every GPU, and environment steps {step}; {self.origin}."

    @classmethod
    def read(cls, file: Path) -> GpuSpeed:
        """What ``measure`` has written on another machine.

        Raises:
            SweepError: It is no such file.
        """
        try:
            content = json.loads(file.read_text())
            speed = Speed(**{key: float(content[key]) for key in _KEYS})
            device = str(content.get("device", "a GPU"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SweepError(
                f"--gpu-speed {str(file)!r} is not usable ({type(error).__name__}): give a file that "
                "`python -m vagram_ray.sweep.placement --measure-speed FILE` has written on a machine with a GPU."
            ) from error
        if not min(speed.flops_per_s, speed.call_s, speed.activation_s) > 0:
            raise SweepError(f"--gpu-speed {str(file)!r} is not usable: speeds and costs are above 0.")
        return cls(speed, f"the GPU's was measured on {device}")


def speed_of(machine: Machine, file: Path | None = None) -> tuple[Speed, str]:
    """What work costs on a machine, and a sentence about it where that was not measured on it.

    Raises:
        SweepError: ``file`` is given and is none that ``measure`` has written.
    """
    import torch

    if machine.gpus and (file is not None or not machine.local or not torch.cuda.is_available()):
        gpu = GpuSpeed.assumed() if file is None else GpuSpeed.read(file)
        return gpu.speed, gpu.source
    return measure_speed(use_gpu=machine.gpus > 0), ""


def measure(file: Path) -> str:
    """Measure this machine's GPU and write what it costs; returns a sentence.

    Raises:
        SweepError: There is no GPU, or the file cannot be written.
    """
    import torch

    if not torch.cuda.is_available():
        raise SweepError("--measure-speed needs a GPU, and PyTorch finds none here: run it on a machine that has one.")
    speed, device = measure_speed(use_gpu=True), torch.cuda.get_device_name(0)
    try:
        file.write_text(json.dumps({"device": device, **{key: asdict(speed)[key] for key in _KEYS}}, indent=2) + "\n")
    except OSError as error:
        raise SweepError(f"--measure-speed {str(file)!r} cannot be written: {error.strerror}.") from error
    return f"{device}: {_describe(speed)}; written to {file}."


def _describe(speed: Speed) -> str:
    return (
        f"{speed.flops_per_s / 1e12:.3g} TFLOP/s of float32, {speed.call_s * 1e6:.3g} us per PyTorch call and "
        f"{speed.activation_s * 1e12:.3g} ps per activation"
    )
