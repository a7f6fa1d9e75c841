"""What a sweep file defines: ``Sweep`` and its ``Scale``s."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vagram_ray.records.errors import SweepError as SweepError  # part of this module's interface
from vagram_ray.records.schema import MAX_EPOCHS, is_whole

if TYPE_CHECKING:
    from vagram_ray.records.results import SweepResults
    from vagram_ray.rllib import MBPOConfig

DEFAULT_SCALE = "laptop"
"""Scale that runs when the command line names none."""

MAX_SEEDS = 10_000
"""More than this is a slip of the keyboard."""


@dataclass(frozen=True)
class Scale:
    """How much of a sweep to run. Whatever is ``None`` or missing is as in the sweep itself.

    ``overrides`` maps ``MBPOConfig`` keys to values, which may be search spaces such as
    ``tune.grid_search([5, 10])`` and then take the place of the axis of that name. A key inside a
    dictionary is written with a dot: ``"env_config.gravity"``. ``variants`` take the place of the sweep's, axis by
    axis. An empty axis is none. ``num_samples`` is for random search spaces.
    """

    epochs: int | None = None
    seeds: int | Sequence[int] | None = None
    num_samples: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.epochs is not None:
            check_epochs(self.epochs)
        if self.seeds is not None:
            seed_tuple(self.seeds)
        if self.num_samples is not None and not is_whole(self.num_samples, 1, MAX_EPOCHS):
            raise ValueError(f"num_samples={self.num_samples!r} is not usable: it needs a whole number from 1.")
        if not isinstance(self.overrides, Mapping):
            raise ValueError(f"Scale.overrides={self.overrides!r} is not usable: it maps MBPOConfig keys to values.")
        check_variants(self.variants)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """An experiment: a configuration with search spaces, seeds, a length, and named scales of it.

    ``config`` may hold Tune's search spaces (``tune.grid_search``, ``tune.choice``, ...) anywhere
    except in ``seeds``. Grid searches are crossed. Each combination is a *cell*. Random search spaces
    are drawn ``num_samples`` times for each combination, by ``search_seed``.
    ``variants`` are axes whose values are named groups of settings, crossed with the others::

        variants={"model_size": {"4x200": {"num_layers": 4, "hidden_size": 200},
                                 "2x64": {"num_layers": 2, "hidden_size": 64}}}

    A variant may hold search spaces itself. What a scale or the command line overrides wins over a variant's value.
    Plain SAC (``model_loss="none"``) is one cell, however many settings of the model are varied.
    ``seeds`` is a number of seeds (``16`` means 0 to 15) or the seeds themselves. Every cell runs all of
    them. ``epochs`` counts RLlib training iterations, ``config.epoch_length`` environment steps each.
    ``checkpoint_every`` is a number of epochs. With ``None`` checkpoints come by time, as with ``"auto"`` in
    ``MBPOConfig.checkpointing``.

    A search has Tune's own objects: ``scheduler`` (``ASHAScheduler``, ``MedianStoppingRule``) ends poor trials early,
    ``stop`` (a dictionary such as ``{"env_steps": 5000}``, a function or a ``Stopper``) ends any, and ``search_alg``
    (``OptunaSearch`` or another ``Searcher``) chooses the values of the random search spaces, ``num_samples`` times,
    by what it has seen. They judge a trial by ``metric`` (``mode``: ``"max"`` or ``"min"``), over all seeds of its
    cell, which one trial then trains together. docs/tuning.md has the rest.

    Raises ``ValueError`` for a value that cannot work.
    """

    name: str
    config: MBPOConfig
    epochs: int
    seeds: int | Sequence[int] = 1
    description: str = ""
    scales: Mapping[str, Scale] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    num_samples: int = 1
    search_seed: int = 0
    scheduler: Any = None
    search_alg: Any = None
    stop: Any = None
    metric: str = "eval/episode_return_iqm"
    mode: str = "max"
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_epochs(self.epochs)
        seed_tuple(self.seeds)
        for key in ("num_samples", "checkpoint_every"):
            value = getattr(self, key)
            if not (value is None and key == "checkpoint_every") and not is_whole(value, 1, MAX_EPOCHS):
                raise ValueError(f"{key}={value!r} is not usable: {key} needs a whole number from 1 to {MAX_EPOCHS:,}.")
        if self.mode not in ("max", "min"):
            raise ValueError(f"mode={self.mode!r} is not usable: it is 'max' or 'min'.")
        if not isinstance(self.metric, str) or not self.metric:
            raise ValueError(f"metric={self.metric!r} is not usable: it is the name of a metric.")
        if not hasattr(self.config, "to_settings"):
            raise ValueError(f"config={self.config!r} is not usable: a sweep needs an MBPOConfig.")
        check_variants(self.variants)
        for name, scale in self.scales.items():
            if not isinstance(scale, Scale):
                raise ValueError(f"scales[{name!r}]={scale!r} is not usable: each scale is a Scale(...).")

    def run(
        self,
        scale: str | None = None,
        *,
        seeds: int | Sequence[int] | None = None,
        epochs: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        name: str | None = None,
        storage: str | Path = "results",
        restart: bool = False,
        max_concurrent: int | None = None,
        address: str | None = None,
        wandb: str = "auto",
        wandb_project: str = "vagram_ray",
        log: Sequence[str] = (),
        quiet: bool = False,
    ) -> SweepResults:
        """Run the sweep from a script or a notebook, as its command does; the same call again goes on with it.

        Ray is used as it is where this process has started it or connected to it. Otherwise it is started, or the
        cluster used that this machine is a node of, and it is let go at the end.

        Args:
            scale: One of ``scales``; the default is ``"laptop"``, or the sweep as written where it has none.
            seeds: In place of the scale's, as in ``Sweep``.
            epochs: In place of the scale's.
            overrides: Keys of ``MBPOConfig`` to values, as ``--set`` gives them; ``tune.grid_search`` makes an axis.
                A key inside a dictionary is written with a dot. The name of an axis of ``variants`` takes one of them.
            name: Of the results' folder; the default is that of sweep and scale.
            storage: Directory or URI for all results.
            restart: Start anew; a sweep that is there is kept under another name.
            max_concurrent: At most so many trials at a time.
            address: Connect to this Ray (``"auto"``, ``"HOST:PORT"``), or start one (``"local"``).
            wandb: ``"online"``, ``"offline"``, ``"disabled"``, or ``"auto"``: online when you are logged in.
            wandb_project: ``PROJECT`` or ``ENTITY/PROJECT``.
            log: Further files of each trial: ``"tensorboard"``, ``"csv"``, ``"json"``.
            quiet: Print nothing.

        Returns:
            What is recorded of all its launches. Seeds that did not come to their end are missing there.

        Raises:
            SweepError: The input cannot work.
            KeyboardInterrupt: Ctrl-C has stopped the trials in order.
        """
        in_python: Any = importlib.import_module("vagram_ray.sweep.in_python")  # a definition needs nothing of it
        results: SweepResults = in_python.run(
            self,
            quiet=quiet,
            scale=scale,
            seeds=seeds,
            epochs=epochs,
            assignments=dict(overrides or {}),
            name=name,
            storage=str(storage),
            restart=restart,
            max_concurrent=max_concurrent,
            address=address,
            wandb=wandb,
            wandb_project=wandb_project,
            log=(log,) if isinstance(log, str) else tuple(log),
        )
        return results

    def at_scale(self, name: str | None) -> tuple[Sweep, Mapping[str, Any]]:
        """The sweep with the seeds, epochs and variants of a scale, and that scale's overrides.

        ``None`` is the default scale, or the sweep as written when it defines no scales at all.

        Raises ``SweepError`` for a scale that the sweep does not have.
        """
        if name is None and not self.scales:
            return self, {}
        wanted = DEFAULT_SCALE if name is None else name
        if wanted not in self.scales:
            way_out = f"give --scale {' or '.join(self.scales)}" if self.scales else "leave --scale away"
            raise SweepError(f"The sweep {self.name!r} has no scale {wanted!r}; {way_out}.")
        scale = self.scales[wanted]
        variants = {axis: named for axis, named in {**self.variants, **scale.variants}.items() if named}
        sized = replace(
            self,
            variants=variants,
            epochs=self.epochs if scale.epochs is None else scale.epochs,
            seeds=self.seeds if scale.seeds is None else scale.seeds,
            num_samples=self.num_samples if scale.num_samples is None else scale.num_samples,
        )
        return sized, scale.overrides


def seed_tuple(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds themselves: a number N stands for 0 to N - 1.

    Raises ``ValueError`` for an empty, negative or repeated choice.
    """
    if isinstance(seeds, int):
        usable = is_whole(seeds, 1, MAX_SEEDS)
    else:
        usable = isinstance(seeds, Sequence) and not isinstance(seeds, str) and len(seeds) > 0
        usable = usable and all(map(is_whole, seeds)) and len(set(seeds)) == len(seeds)
    if usable:
        return tuple(range(seeds) if isinstance(seeds, int) else seeds)
    raise ValueError(
        f"seeds={seeds!r} is not usable: give a number of seeds from 1 to {MAX_SEEDS:,}, or different seeds of at "
        "least 0."
    )


def check_epochs(epochs: Any) -> None:
    """Raise ``ValueError`` unless ``epochs`` is a whole number of at least 1."""
    if not is_whole(epochs, 1, MAX_EPOCHS):
        raise ValueError(f"epochs={epochs!r} is not usable: epochs needs a whole number from 1 to {MAX_EPOCHS:,}.")


def check_variants(variants: Any) -> None:
    """Raise ``ValueError`` unless ``variants`` maps names of axes to names of variants to settings."""
    for axis, named in variants.items() if isinstance(variants, Mapping) else [("", None)]:
        groups = named.values() if isinstance(axis, str) and isinstance(named, Mapping) else [None]
        if not all(isinstance(settings, Mapping) for settings in groups):
            raise ValueError(
                f"variants={variants!r} is not usable: it maps an axis to named groups of settings, for example "
                "{'model_size': {'2x64': {'num_layers': 2, 'hidden_size': 64}}}."
            )


LONGEST_NAME = 100
"""Characters of a sweep's name."""


def check_name(name: Any) -> None:
    """Raise ``ValueError`` unless ``name`` can be the name of a folder on any system."""
    usable = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=,-]*", name)
    if not usable or len(name) > LONGEST_NAME:
        shown = name[:40] + "..." if isinstance(name, str) and len(name) > LONGEST_NAME else name
        raise ValueError(
            f"name={shown!r} is not usable: a sweep's name becomes a folder, so use letters, digits and . _ - only, at "
            f"most {LONGEST_NAME}."
        )


def describe(error: BaseException) -> str:
    """One line about an exception. Settings errors are ``ValueError``s and sentences already."""
    text = " ".join(str(error).split())
    if not isinstance(error, ValueError) or isinstance(error, UnicodeError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if text.endswith((".", "?", "!")) else f"{text}."
