"""What a GPU makes of updates, fits and cohorts: as they are, recorded, compiled, and with TF32 products.

    python -m benchmarks.gpu [--minutes 9] [--rounds 10] [--json FILE]

Hopper's dimensions with 15 distractors. The tables come in this order, each row as soon as it is measured: SAC updates
of one seed; a minibatch of model fitting; updates of cohorts; memory against its estimate. Then details: the device's
ceilings, fit epochs of growing buffers, and, where Gymnasium and MuJoCo are installed, whole environment steps with the
hours of 300,000. What does not fit into the time is left out with a line, a row that fails is told and the rest goes
on, and an interruption loses only what had not been measured. "compiled" is an experiment that no setting offers:
``torch.compile`` of the losses inside the recorded graph. ``--device cpu --tiny`` shows that it runs; there is no
recording on a CPU. Times are of the clock, from an idle device to an idle device.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch

from benchmarks import timing
from benchmarks.agents import make_agent
from benchmarks.gpu_report import Report, Row
from benchmarks.memory import Case
from benchmarks.tensor_counter import TensorCounter
from vagram_ray.core import sac_losses
from vagram_ray.core.execution import precision_of_products
from vagram_ray.core.graphs import CudaRecorder
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.model_fitting import ModelFit
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.sweep.plan.memory import CUDA_BYTES, gpu_bytes

OBS_DIM, NUM_DISTRACTORS = 26, 15
WIDTHS = (64, 128, 256)
ENSEMBLES = ((4, 200), (2, 64))  # layers, width
COHORTS = (1, 8, 16)
MEMORY = ((1, 100_000), (16, 100_000))  # seeds, transitions
FIT_SIZES = (10_000, 100_000, 300_000)
TARGET_STEPS, FIT_EVERY = 300_000, 250
WARM_UP = 3  # as it is, recorded, replayed
ROW_SECONDS = 20.0
"""After which a row gets no further rounds."""
COMPILER = "inductor"
WAYS: dict[str, dict[str, Any]] = {
    "eager": {"execution": "eager"},
    "recorded": {"execution": "cuda_graphs"},
    "recorded, high": {"execution": "cuda_graphs", "matmul_precision": "high"},
    "recorded, compiled": {"execution": "cuda_graphs"},
}
TINY: dict[str, Any] = {
    "actor_hidden_sizes": (8, 8), "critic_hidden_sizes": (8, 8), "train_batch_size_per_learner": 16, "utd_ratio": 2,
    "num_layers": 2, "hidden_size": 8, "ensemble_size": 3, "num_elites": 2, "model_batch_size": 16,
    "model_max_epochs": 2,
}  # fmt: skip


class Device:
    """The device under test and the sizes of everything."""

    def __init__(self, name: str, rounds: int, tiny: bool) -> None:
        self.device, self.rounds, self.tiny = torch.device(name), rounds, tiny
        self.changes = TINY if tiny else {}

    @property
    def is_cuda(self) -> bool:
        """Whether there are graphs."""
        return self.device.type == "cuda"

    @property
    def name(self) -> str:
        """For people."""
        return torch.cuda.get_device_name(self.device) if self.is_cuda else "CPU"

    @property
    def ways(self) -> tuple[str, ...]:
        """Those of ``WAYS`` that can be tried here."""
        return tuple(WAYS) if self.is_cuda else ("eager",)

    def settings(self, **changes: Any) -> MBPOSettings:
        """The hyperparameters, with changes; those of the tiny sizes win."""
        return MBPOSettings(**{**changes, **self.changes})

    def milliseconds(self, operation: Callable[[], object]) -> float:
        """One run, from an idle device to an idle device."""
        self.wait()
        return timing.time_once(lambda: (operation(), self.wait()))

    def wait(self) -> None:
        """Until the device has nothing to do."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def median(self, operation: Callable[[], object], prepared: contextlib.AbstractContextManager[Any]) -> float:
        """Milliseconds of an operation that is warmed up in a context."""
        with prepared:
            for _ in range(WARM_UP):
                operation()
        found, since = [], time.monotonic()
        while not found or (len(found) < self.rounds and time.monotonic() < since + ROW_SECONDS):
            found.append(self.milliseconds(operation))
        return statistics.median(found)


# -- one agent's work ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def compiled_losses() -> Iterator[None]:
    """Within, SAC's losses are functions that the compiler made, differentiated by it, too."""
    with contextlib.ExitStack() as stack:
        for name in ("critic_loss", "actor_loss"):
            made = torch.compile(getattr(sac_losses, name), backend=COMPILER, dynamic=False)
            stack.enter_context(mock.patch.object(sac_losses, name, made))
        yield


def preparation(way: str) -> contextlib.AbstractContextManager[None]:
    """What the first runs of a way need; recordings keep what they were made of."""
    return compiled_losses() if "compiled" in way else contextlib.nullcontext()


def update_ms(device: Device, way: str, num_seeds: int, width: int) -> float:
    """Milliseconds of a SAC update of all seeds, a share of an environment step's, sampling included."""
    sizes = {"actor_hidden_sizes": (width, width), "critic_hidden_sizes": (width, width)}
    settings = device.settings(model_loss="none", **WAYS[way], **sizes)
    agent = make_agent(settings, num_seeds, 10_000, OBS_DIM, device.device)

    def improve() -> None:
        with precision_of_products(settings.matmul_precision, device.device):
            agent._improve_policy(EpochMetrics(num_seeds))

    return device.median(improve, preparation(way)) / settings.utd_ratio


def update_row(device: Device, way: str, num_seeds: int, width: int) -> list[Row]:
    """A row of the updates' tables."""
    ms = update_ms(device, way, num_seeds, width)
    found: Row = {"networks": f"2 x {width}", "seeds": num_seeds, "way": way, "ms": ms}
    return [found | {"updates_per_s": 1e3 * num_seeds / ms}]


def make_fit(device: Device, settings: MBPOSettings, num_seeds: int, transitions: int) -> Callable[[], ModelFit]:
    """Prepares a fit, recorded if the settings ask for it."""
    agent = make_agent(settings, num_seeds, transitions, OBS_DIM, device.device)
    recorder = CudaRecorder(device.device) if settings.execution == "cuda_graphs" else None
    data, values = agent.replay.layout.split(agent.replay.rows), ValueEstimates(agent.sac)
    streams = agent._streams["fit"]
    return lambda: ModelFit(agent.dynamics, agent.model_optimizer, data, values, settings, streams, recorder)


def minibatch_row(device: Device, way: str, layers: int, width: int, loss: str = "vagram") -> list[Row]:
    """A minibatch of one seed's seven members, a share of an epoch's."""
    settings = device.settings(model_loss=loss, num_layers=layers, hidden_size=width, **WAYS[way])
    fit = make_fit(device, settings, 1, 200 if device.tiny else 10_000)()
    if "compiled" in way:
        fit._losses = torch.compile(fit._losses, backend=COMPILER, dynamic=False)  # type: ignore[method-assign]

    def epoch() -> None:
        with precision_of_products(settings.matmul_precision, device.device):
            fit._train_epoch(fit.cohort)

    minibatches = -(-fit.split.train.shape[-1] // settings.model_batch_size)
    ms = device.median(epoch, contextlib.nullcontext()) / minibatches
    return [{"members": f"{settings.ensemble_size} x ({layers} x {width})", "loss": loss, "way": way, "ms": ms}]


def memory_row(device: Device, way: str, num_seeds: int, stored: int) -> list[Row]:
    """The most that PyTorch allocated for a cohort that fits, imagines and updates, beside the estimate."""
    changes = {"model_loss": "vagram", "model_patience": 1, "model_max_epochs": 3}
    case = Case("", num_seeds, stored, changes | WAYS[way] | device.changes)
    if device.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case.run(str(device.device))
        measured = torch.cuda.max_memory_allocated() - before
        expected = gpu_bytes(case.workload, num_seeds, 1) - CUDA_BYTES
    else:
        with TensorCounter() as counter:
            case.run()
        measured, expected = counter.peak, case.estimate()
    found: Row = {"seeds": num_seeds, "stored": case.stored, "way": way, "MB": measured / 1e6}
    return [found | {"estimated_MB": expected / 1e6, "estimated/measured": expected / measured}]


# -- details -------------------------------------------------------------------------------------------------------


def ceiling_rows(device: Device) -> list[Row]:
    """A large product in each precision, and a large copy."""
    size, length = (256, 2**20) if device.tiny else (8192, 2**30)
    left, right = (torch.randn(size, size, device=device.device) for _ in range(2))
    source = torch.randn(length // 4, device=device.device)
    target = torch.empty_like(source)
    rows = []
    for precision in ("highest", "high"):
        with precision_of_products(precision, device.device):
            ms = device.median(lambda: torch.mm(left, right), contextlib.nullcontext())
        rows.append({"what": f"product, {precision}", "per_s": 2e3 * size**3 / ms, "unit": "FLOP"})
    ms = device.median(lambda: target.copy_(source), contextlib.nullcontext())
    return [*rows, {"what": "copy", "per_s": 2e3 * length / ms, "unit": "bytes"}]


def fit_row(device: Device, way: str, num_seeds: int, transitions: int) -> list[Row]:
    """A fit epoch with its validation, and what comes before the first one."""
    settings = device.settings(model_loss="vagram", **WAYS[way])
    prepare = make_fit(device, settings, num_seeds, transitions)
    prepare_ms = statistics.median(device.milliseconds(prepare) for _ in range(3))
    fit = prepare()

    def epoch() -> None:
        fit._train_epoch(fit.cohort)
        fit._validate(fit.cohort)

    found: Row = {"seeds": num_seeds, "transitions": transitions, "way": way, "prepare_ms": prepare_ms}
    return [found | {"epoch_ms": device.median(epoch, contextlib.nullcontext())}]


def whole_row(device: Device, way: str, num_seeds: int, env_steps: int, fits: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Training on the real environment: milliseconds per environment step of all seeds, and the projected hours."""
    from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv

    warm_up, length = (60, 20) if device.tiny else (5000, FIT_EVERY)
    settings = device.settings(
        model_loss="vagram", num_steps_sampled_before_learning_starts=warm_up, epoch_length=length,
        model_train_freq=length, real_ratio=(0, 1, 1.0, 0.05), **WAYS[way],
    )  # fmt: skip
    spec = EnvironmentSpec("Hopper-v4", NUM_DISTRACTORS)
    envs = SeedVectorEnv(spec, range(num_seeds))
    agent = MBPOAgent(
        settings, seeds=range(num_seeds), obs_dim=envs.obs_dim, action_dim=envs.action_dim,
        termination=spec.termination(), device=device.device,
    )  # fmt: skip
    agent.train_epoch(envs)  # the warm-up, and all that is done once
    total, fit_ms, epochs = [], [], []
    for _ in range(max(1, env_steps // length)):
        result: dict[str, Any] = {}
        total.append(device.milliseconds(lambda result=result: result.update(agent.train_epoch(envs))) / length)
        fit_ms.append(1e3 * float(result["time/model_fit_s"][0]) / length)
        epochs.append(float(result["model/fit_epochs"].max()))
    envs.close()
    row: Row = {"seeds": num_seeds, "way": way, "step_ms": statistics.median(total)}
    row |= {"fit_ms": statistics.median(fit_ms), "fit_epochs": statistics.median(epochs)}
    return [row | {f"hours_for_{TARGET_STEPS}": projected_hours(row, fits)}]


def projected_hours(whole: Mapping[str, Any], fits: Sequence[Mapping[str, Any]]) -> float | None:
    """Hours of ``TARGET_STEPS``: the steps as measured without their fits, and fits that grow with the buffer.

    A fit's preparation and its epochs are interpolated between the measured sizes. It takes as many epochs as those of
    the run did for the seed that took most, all of them with all seeds. The metrics of a fit are left out.
    """
    measured = sorted((fit for fit in fits if fit["way"] == whole["way"]), key=lambda fit: fit["transitions"])
    if len(measured) < 2:
        return None

    def mean_over_run(name: str) -> float:
        first, last = measured[0], measured[-1]
        share = (TARGET_STEPS / 2 - first["transitions"]) / (last["transitions"] - first["transitions"])
        return float(first[name] + (last[name] - first[name]) * share)

    fit_ms = mean_over_run("prepare_ms") + whole["fit_epochs"] * mean_over_run("epoch_ms")
    steps_ms = TARGET_STEPS * (whole["step_ms"] - whole["fit_ms"])
    return (steps_ms + TARGET_STEPS / FIT_EVERY * fit_ms) / 3.6e6


# -- everything ----------------------------------------------------------------------------------------------------


def measure(device: Device, report: Report, env_steps: int) -> None:
    """All tables, what matters most first."""
    of, tiny = functools.partial, device.tiny
    widths, cohorts, sizes = (8,) if tiny else WIDTHS, (1, 2) if tiny else COHORTS, (100, 200) if tiny else FIT_SIZES
    ensembles, memory = ((2, 8),) if tiny else ENSEMBLES, ((1, 1_000),) if tiny else MEMORY
    most, ways = cohorts[-1], device.ways
    plain = [way for way in ways if way in ("eager", "recorded")]
    report.add("updates", "SAC updates of one seed, batch 256", [
        of(update_row, device, way, 1, width) for width in widths for way in ways
    ])  # fmt: skip
    report.add("minibatches", "A minibatch of model fitting, batch 256", [
        of(minibatch_row, device, way, *size) for size in ensembles for way in ways
    ])  # fmt: skip
    report.add("cohorts", "SAC updates of cohorts", [
        of(update_row, device, way, seeds, widths[-1]) for seeds in cohorts for way in plain
    ])  # fmt: skip
    report.add("memory", "Memory of a cohort, 7 x (4 x 200) and 2 x 256", [
        of(memory_row, device, way, *case) for case in memory for way in plain
    ])  # fmt: skip
    report.add("ceilings", "What the device can do", [of(ceiling_rows, device)])
    fits = report.add("fits", "Fit epochs of growing buffers", [
        of(fit_row, device, way, most, size) for way in plain for size in sizes
    ])  # fmt: skip
    if importlib.util.find_spec("mujoco") is not None:
        report.add("whole", "Whole environment steps, Hopper with distractors", [
            of(whole_row, device, way, most, env_steps, fits) for way in plain
        ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON; 1 if a row failed."""
    parser = timing.parser(__doc__, rounds=10)
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=9.0, help="no row begins after so many (default %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="environment steps of the whole run")
    arguments = parser.parse_args(argv)
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; --device cpu measures the CPU.")
    timing.prepare(arguments)
    device = Device(arguments.device, arguments.rounds, arguments.tiny)
    report = Report(arguments.json, arguments.minutes, device.name, after_row=lambda: tidy_up(device))
    try:
        measure(device, report, 40 if device.tiny else arguments.steps)
    except KeyboardInterrupt:
        print("Interrupted: what stands above was measured.")
        return 130
    return 1 if report.failures else 0


def tidy_up(device: Device) -> None:
    """Give the memory of a row's agents back, so that the next row has all of it."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    if device.is_cuda and device.device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as an interruption from the keyboard
    sys.exit(main())
