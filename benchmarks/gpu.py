"""What a GPU makes of cohorts: updates per second over all seeds, as they are and recorded, beside what it could do.

    python -m benchmarks.gpu [--seeds 1 4 16 32] [--rounds 20] [--steps 1000] [--json FILE]

Hopper's dimensions with 15 distractors, SAC 2 x 256, batch 256, 20 updates per environment step, model 7 x (4 x 200).
Four questions: how fast the device multiplies and copies (the ceilings); what an environment step's updates cost with
each ``execution``, and how far from the floor of operations and bytes that is; what a fit's minibatch costs; and, with
the real environment where Gymnasium and MuJoCo are installed, what a whole environment step costs and how long 300,000
of them would take. Sides take turns. ``--device cpu --tiny`` shows that it runs; there is no recording on a CPU.
"""

from __future__ import annotations

import functools
import importlib.util
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks import timing
from benchmarks.agents import ACTION_DIM, make_agent
from benchmarks.sac_products import update_products
from vagram_ray.core.environments import SeedEnvironments
from vagram_ray.core.graphs import CudaRecorder
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.metrics import EpochMetrics
from vagram_ray.core.model_fitting import ModelFit
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates

OBS_DIM, NUM_DISTRACTORS = 26, 15
FIT_SIZES = (10_000, 100_000, 300_000)
TARGET_STEPS = 300_000
FIT_EVERY = 250
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

    def settings(self, **changes: Any) -> MBPOSettings:
        """The hyperparameters, with changes."""
        return MBPOSettings(**{**self.changes, **changes})

    def milliseconds(self, operation: Callable[[], object]) -> float:
        """One run, from an idle device to an idle device."""
        self.wait()
        return timing.time_once(lambda: (operation(), self.wait()))

    def wait(self) -> None:
        """Until the device has nothing to do."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def compare(self, case: str, sides: Mapping[str, Callable[[], object]], divisor: int = 1) -> list[timing.Samples]:
        """The sides in turns, after warm-up; milliseconds over ``divisor``."""
        for operation in sides.values():
            for _ in range(3):  # as it is, recorded, replayed
                operation()
        samples = {name: timing.Samples(case, name) for name in sides}
        for _ in range(self.rounds):
            for name, operation in sides.items():
                samples[name].milliseconds.append(self.milliseconds(operation) / divisor)
        return list(samples.values())

    def choices(self) -> tuple[str, ...]:
        """Values of ``execution`` that can be tried here."""
        return ("eager", "cuda_graphs") if self.is_cuda else ("eager",)


def ceilings(device: Device) -> dict[str, float]:
    """Float32 operations and bytes per second: a large product and a large copy, best of the rounds."""
    size, length = (256, 2**20) if device.tiny else (8192, 2**30) if device.is_cuda else (2048, 2**27)
    left, right = (torch.randn(size, size, device=device.device) for _ in range(2))
    source = torch.randn(length // 4, device=device.device)
    target = torch.empty_like(source)
    product, copy = device.compare(
        "ceilings", {"product": lambda: torch.mm(left, right), "copy": lambda: target.copy_(source)}
    )
    return {"flop_per_s": 2e3 * size**3 / product.least, "bytes_per_s": 2e3 * length / copy.least}


# -- an environment step's updates --------------------------------------------------------------------------------


def update_floor(settings: MBPOSettings, num_seeds: int, ceiling: Mapping[str, float]) -> float:
    """Milliseconds that one update of all seeds takes at least: its products, and each number moved once.

    Moved are weights and both of Adam's moments of actor and critics, the targets, each read and written, and the
    batch.
    """
    batch, hidden = settings.train_batch_size_per_learner, settings.critic_hidden_sizes
    flop = num_seeds * update_products(batch, OBS_DIM, ACTION_DIM, hidden)[1]
    actor, critic = (OBS_DIM, *hidden, 2 * ACTION_DIM), (OBS_DIM + ACTION_DIM, *hidden, 1)
    weights = [sum(i * o + o for i, o in zip(sizes[:-1], sizes[1:], strict=True)) for sizes in (actor, critic)]
    floats = 6 * weights[0] + 8 * 2 * weights[1] + batch * (2 * OBS_DIM + ACTION_DIM + 2)
    return 1e3 * max(flop / ceiling["flop_per_s"], 4 * num_seeds * floats / ceiling["bytes_per_s"])


def improve(agent: MBPOAgent) -> None:
    """An environment step's updates, sampling included."""
    agent._improve_policy(EpochMetrics(len(agent.seeds)))


def updates(device: Device, num_seeds: int, ceiling: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each way of executing an environment step's updates, and the products alone."""
    sides: dict[str, Callable[[], object]] = {}
    for choice in device.choices():
        settings = device.settings(model_loss="none", execution=choice)
        agent = make_agent(settings, num_seeds, 10_000, OBS_DIM, device.device)
        sides[f"execution={choice}"] = functools.partial(improve, agent)
    count = settings.utd_ratio
    with device.device:
        products, _ = update_products(
            settings.train_batch_size_per_learner, OBS_DIM, ACTION_DIM, settings.critic_hidden_sizes, num_seeds
        )
    if device.is_cuda:
        recorder = CudaRecorder(device.device)
        recorder.warm_up(products)
        products, _ = recorder.record(products)
    sides["products alone"] = lambda: [products() for _ in range(count)]
    floor = update_floor(settings, num_seeds, ceiling)
    return [
        {
            "seeds": num_seeds,
            "side": sample.side,
            "median_ms_per_env_step": sample.median,
            "least_ms_per_env_step": sample.least,
            "updates_per_s": 1e3 * num_seeds * count / sample.median,
            "share_of_ceiling": count * floor / sample.median,
        }
        for sample in device.compare(f"{num_seeds} seeds", sides)
    ]


# -- a fit ---------------------------------------------------------------------------------------------------------


def one_fit_epoch(fit: ModelFit) -> None:
    """Every minibatch, and the validation."""
    fit._train_epoch(fit.cohort)
    fit._validate(fit.cohort)


def fit_epochs(device: Device, loss: str, num_seeds: int, env_steps: int) -> list[dict[str, Any]]:
    """A fit epoch with its validation, as it is and recorded, and what comes before the first one."""
    recorder = CudaRecorder(device.device) if device.is_cuda else None
    sides: dict[str, Callable[[], object]] = {}
    for name, used in {"execution=eager": None, "execution=cuda_graphs": recorder}.items():
        if name != "execution=eager" and used is None:
            continue
        settings = device.settings(model_loss=loss)
        agent = make_agent(settings, num_seeds, env_steps, OBS_DIM, device.device)
        data, values = agent.replay.layout.split(agent.replay.rows), ValueEstimates(agent.sac)
        streams = agent._streams["fit"]
        prepare = functools.partial(
            ModelFit, agent.dynamics, agent.model_optimizer, data, values, settings, streams, used
        )
        prepared_ms = statistics.median(device.milliseconds(prepare) for _ in range(3))
        fit = prepare()
        sides[name] = functools.partial(one_fit_epoch, fit)
    minibatches = -(-fit.split.train.shape[-1] // settings.model_batch_size)
    return [
        {
            "loss": loss,
            "seeds": num_seeds,
            "transitions": env_steps,
            "side": sample.side,
            "median_ms_per_epoch": sample.median,
            "median_ms_per_minibatch": sample.median / minibatches,
            "median_ms_to_prepare": prepared_ms,
        }
        for sample in device.compare(loss, sides)
    ]


# -- everything ----------------------------------------------------------------------------------------------------


def train_into(result: dict[str, Any], agent: MBPOAgent, envs: SeedEnvironments) -> None:
    """An epoch, whose metrics go to ``result``."""
    result.update(agent.train_epoch(envs))


def whole_steps(device: Device, num_seeds: int, env_steps: int, choice: str) -> dict[str, Any]:
    """Train on the real environment for ``env_steps`` steps after the warm-up; milliseconds per environment step."""
    from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv

    warm_up, length = (60, 20) if device.tiny else (5000, FIT_EVERY)
    settings = device.settings(
        model_loss="vagram", execution=choice, num_steps_sampled_before_learning_starts=warm_up,
        epoch_length=length, model_train_freq=length, real_ratio=(0, 1, 1.0, 0.05),
    )  # fmt: skip
    spec = EnvironmentSpec("Hopper-v4", NUM_DISTRACTORS)
    envs = SeedVectorEnv(spec, range(num_seeds))
    agent = MBPOAgent(
        settings, seeds=range(num_seeds), obs_dim=envs.obs_dim, action_dim=envs.action_dim,
        termination=spec.termination(), device=device.device,
    )  # fmt: skip
    agent.train_epoch(envs)  # the warm-up, and all that is done once
    total, fit_s, epochs = [], [], []
    for _ in range(max(1, env_steps // length)):
        result: dict[str, Any] = {}
        total.append(device.milliseconds(functools.partial(train_into, result, agent, envs)) / length)
        fit_s.append(float(result["time/model_fit_s"][0]))
        epochs.append(float(result["model/fit_epochs"].max()))
    envs.close()
    fit = [1e3 * seconds / length for seconds in fit_s]
    return {
        "seeds": num_seeds, "execution": choice, "env_steps": length * len(total),
        "median_ms_per_env_step": statistics.median(total), "of_it_model_fit": statistics.median(fit),
        "median_fit_epochs": statistics.median(epochs),
    }  # fmt: skip


def projected_hours(whole: Mapping[str, Any], fits: Sequence[Mapping[str, Any]]) -> float | None:
    """Hours of ``TARGET_STEPS``: the steps as measured without their fits, and fits that grow with the buffer.

    A fit's preparation and its epochs are interpolated between the measured sizes. It takes as many epochs as those of
    the run did for the seed that took most, all of them with all seeds. The metrics of a fit are left out.
    """
    side = f"execution={whole['execution']}"
    measured = sorted((f for f in fits if f["side"] == side), key=lambda f: f["transitions"])
    if len(measured) < 2:
        return None

    def mean_over_run(name: str) -> float:
        first, last = measured[0], measured[-1]
        share = (TARGET_STEPS / 2 - first["transitions"]) / (last["transitions"] - first["transitions"])
        return float(first[name] + (last[name] - first[name]) * share)

    fit_ms = mean_over_run("median_ms_to_prepare") + whole["median_fit_epochs"] * mean_over_run("median_ms_per_epoch")
    steps_ms = TARGET_STEPS * (whole["median_ms_per_env_step"] - whole["of_it_model_fit"])
    return (steps_ms + TARGET_STEPS / FIT_EVERY * fit_ms) / 3.6e6


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables, write JSON."""
    parser = timing.parser(__doc__, rounds=20)
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4, 16, 32], help="sizes of cohorts")
    parser.add_argument("--steps", type=int, default=1000, help="environment steps of the whole run")
    arguments = parser.parse_args(argv)
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; --device cpu measures the CPU.")
    timing.prepare(arguments)
    device = Device(arguments.device, arguments.rounds, arguments.tiny)
    most = min(16, max(arguments.seeds))
    found = ceilings(device)
    print(f"{device.name}: {found['flop_per_s'] / 1e12:.2f} TFLOP/s float32, {found['bytes_per_s'] / 1e12:.3f} TB/s")
    parts: dict[str, list[dict[str, Any]]] = {"updates": [], "fits": [], "whole": []}

    def keep(part: str, title: str, rows: list[dict[str, Any]]) -> None:
        parts[part] = rows  # written at once: a later part may fail, and time on a GPU is dear
        print_rows(title, rows)
        timing.write_json(arguments.json, "gpu", [], device=device.name, ceilings=found, **parts)

    steps = [row for num_seeds in arguments.seeds for row in updates(device, num_seeds, found)]
    keep("updates", "An environment step's updates", steps)
    sizes, losses = ((200,), ("vagram",)) if device.tiny else (FIT_SIZES, ("vagram", "nll"))
    fits = [row for loss in losses for size in sizes for row in fit_epochs(device, loss, most, size)]
    keep("fits", "A fit epoch", fits)
    if importlib.util.find_spec("mujoco") is not None:
        whole, vagram = [], [fit for fit in fits if fit["loss"] == "vagram"]
        for choice in device.choices():
            row = whole_steps(device, most, 40 if device.tiny else arguments.steps, choice)
            whole.append(row | {f"hours_for_{TARGET_STEPS}": projected_hours(row, vagram)})
        keep("whole", "Whole environment steps, Hopper with distractors", whole)


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of rows with equal keys."""
    print(title)
    cells = [[*rows[0]], *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if value < 1e4 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
