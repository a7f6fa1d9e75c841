"""Trials that report made-up numbers: in processes of Ray's, or from inside the driver in place of its actors."""

from __future__ import annotations

import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import tune

SEEDS_PER_CELL = 10
SLOTS = 16
"""Trials at a time that are no processes."""
METRICS = 40


def make_made_up_plan(trials: int, epochs: int) -> Any:
    """The plan of a sweep with a cell for every ``SEEDS_PER_CELL`` trials."""
    from dataclasses import replace

    from vagram_ray.rllib import MBPOConfig
    from vagram_ray.sweep.plan.machine import local_machine
    from vagram_ray.sweep.plan.plan import make_plan
    from vagram_ray.sweep.spec import Sweep

    cells = max(1, trials // SEEDS_PER_CELL)
    config = MBPOConfig().environment("Pendulum-v1").training(utd_ratio=tune.grid_search(list(range(1, cells + 1))))
    sweep = Sweep(name="made-up", config=config, seeds=trials // cells, epochs=epochs)
    plan = make_plan(sweep, local_machine(), scale="", seeds_per_trial=1)
    assert len(plan.trials) == trials, f"{trials} is no multiple of {SEEDS_PER_CELL}"
    return replace(plan, config=MadeUpConfig(dict(plan.cells[0].settings)))


def made_up_result(epoch: int, seeds: list[int]) -> dict[str, Any]:
    """A result like that of ``MBPO``, whose return gets better."""
    value = -1000.0 / epoch
    names = [f"metric_{index}" for index in range(METRICS - 1)]
    numbers = dict.fromkeys(names, value)
    return {
        "env_steps": 1000 * epoch,
        "time": {"sac_s": 1.0, "model_s": 0.5},
        "perf": {"env_steps_per_s": 500.0},
        "seeds": {
            f"seed_{seed}": {"eval": {"episode_return": value - seed}, "model": numbers, "failed": 0} for seed in seeds
        },
    }


class MadeUp(tune.Trainable):
    """An algorithm that does nothing."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the seeds."""
        self._seeds = list(config["seeds"])

    def step(self) -> dict[str, Any]:
        """A result."""
        return made_up_result(self.iteration + 1, self._seeds)


@dataclass(frozen=True)
class MadeUpConfig:
    """The settings of ``MBPO`` for an algorithm that does not look at them."""

    settings: dict[str, Any]
    algo_class: type = MadeUp
    checkpoints_kept: int = 2

    def to_dict(self) -> dict[str, Any]:
        """As plain values, which a process can have without importing RLlib."""
        return dict(self.settings)


class _Call:
    """A method of an actor."""

    def remote(self, **options: Any) -> dict[str, Any]:
        """What Tune asks every new actor for: when and where it runs."""
        return {}


class _Process:
    """In place of a handle of a Ray actor."""

    get_auto_filled_metrics = _Call()


class ActorsInside:
    """In place of Ray's actors: their answers are made here, one event at a time, ``SLOTS`` trials at a time."""

    def __init__(self, resource_manager: Any) -> None:
        self._resource_manager = resource_manager
        self._waiting: deque[tuple[Any, dict[str, Any]]] = deque()
        self._live_actors_to_ray_actors_resources: dict[Any, tuple[Any, None]] = {}
        self._epochs: dict[Any, int] = {}
        self._configs: dict[Any, dict[str, Any]] = {}
        self._events: deque[tuple[Any, Callable[[], None]]] = deque()
        self._tracked_actors_to_task_futures: dict[Any, set[Any]] = {}
        self._actor_task_events = self

    def get_futures(self) -> set[Any]:
        """What it waits for: there are no futures here."""
        return set()

    def next(self, timeout: float | None = None) -> bool:
        """Handle one event."""
        while self._waiting and len(self._epochs) < SLOTS:
            actor, config = self._waiting.popleft()
            self._live_actors_to_ray_actors_resources[actor] = (_Process(), None)
            self._epochs[actor], self._configs[actor] = 0, config
            self._events.append((actor, lambda actor=actor: actor._on_start(actor)))
        if not self._events:
            return False
        _, event = self._events.popleft()
        event()
        return True

    def add_actor(self, cls: Any, kwargs: dict[str, Any], resource_request: Any, **callbacks: Any) -> Any:
        """A trial waits to be started."""
        from ray.air.execution._internal import TrackedActor

        actor = TrackedActor(uuid.uuid4().int, **callbacks)
        self._waiting.append((actor, kwargs["config"]))
        return actor

    def schedule_actor_task(
        self, tracked_actor: Any, method_name: str, args: Any = (), kwargs: Any = None, on_result: Any = None,
        on_error: Any = None, _return_future: bool = False,
    ) -> Any:  # fmt: skip
        """``train`` gives a result, all else nothing."""
        if method_name == "train":
            self._events.append((tracked_actor, lambda: on_result(tracked_actor, self._train(tracked_actor))))
        return object() if _return_future else None

    def _train(self, actor: Any) -> dict[str, Any]:
        self._epochs[actor] += 1
        epoch = self._epochs[actor]
        config = self._configs[actor]
        autofilled = {
            "done": False, "training_iteration": epoch, "time_this_iter_s": 1.0, "time_total_s": float(epoch),
            "timestamp": 0, "pid": 0, "hostname": "", "node_ip": "", "config": config,
        }  # fmt: skip
        return made_up_result(epoch, list(config["seeds"])) | autofilled

    def remove_actor(self, tracked_actor: Any, kill: bool = False, stop_future: Any = None) -> bool:
        """A trial's process ends."""
        if self._live_actors_to_ray_actors_resources.pop(tracked_actor, None) is None:
            return False
        del self._epochs[tracked_actor], self._configs[tracked_actor]
        self._events.append((tracked_actor, lambda: tracked_actor._on_stop(tracked_actor)))
        return True

    def clear_actor_task_futures(self, tracked_actor: Any) -> None:
        """What it was doing will not be heard of."""
        self._events = deque(event for event in self._events if event[0] != tracked_actor)

    def is_actor_started(self, tracked_actor: Any) -> bool:
        """Whether it runs."""
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: Any) -> bool:
        """None of them does."""
        return False

    def get_live_actors_resources(self) -> dict[str, float]:
        """CPUs in use."""
        return dict(Counter(CPU=len(self._epochs)))

    def cleanup(self) -> None:
        """Nothing is left."""

    @property
    def num_live_actors(self) -> int:
        """How many run."""
        return len(self._epochs)

    @property
    def num_pending_actors(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def num_total_actors(self) -> int:
        """All of them."""
        return self.num_live_actors + self.num_pending_actors

    @property
    def num_actor_tasks(self) -> int:
        """What they are doing."""
        return len(self._events)
