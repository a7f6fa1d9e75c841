"""Running a sweep from a script or a notebook: ``Sweep.run``."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vagram_ray.commands import MIN_WIDTH, make_console
from vagram_ray.sweep.launch import plan_and_run
from vagram_ray.sweep.request import Request
from vagram_ray.sweep.spec import Sweep, SweepError

if TYPE_CHECKING:
    from vagram_ray.records.results import SweepResults


def run(sweep: Sweep, *, quiet: bool, **asked: Any) -> SweepResults:
    """Plan and run a sweep for a script or a notebook, and end the Ray that was started for it.

    What the run has set for this process is set back at its end: environment variables of W&B and Ray, and logging.

    Args:
        sweep: Any, at no scale.
        quiet: Print nothing.
        **asked: Of ``Request``.

    Raises:
        SweepError: The input cannot work, or Ray has died.
        KeyboardInterrupt: Ctrl-C has stopped the trials; what they have done is recorded.
        SystemExit: Another signal has.
    """
    from vagram_ray.records.results import SweepResults
    from vagram_ray.sweep.run.interruption import Interruption, stop_on_signals
    from vagram_ray.sweep.run.local_ray import end_own_ray

    request = Request(sweep=sweep, **asked, **_origin(sweep.name))
    console = _console(quiet)
    in_main_thread = threading.current_thread() is threading.main_thread()  # signals are heard of there alone
    signals = stop_on_signals(console) if in_main_thread else nullcontext(Interruption())
    with _settings_of_the_process(), signals as interruption:
        before = "ray" in sys.modules and sys.modules["ray"].is_initialized()
        try:
            launched = plan_and_run(request, console, interruption)
        except SweepError as error:  # told of an option of the command, which is an argument here
            raise SweepError(error.message.removeprefix("--")) from error
        finally:
            if not before and "ray" in sys.modules and sys.modules["ray"].is_initialized():
                end_own_ray()
    if interruption.signal_number == signal.SIGINT:
        raise KeyboardInterrupt
    if interruption.happened:
        raise SystemExit(interruption.exit_status)
    if launched.ray_lost:
        raise SweepError("Ray has died, and the sweep with it: restart this process, and run it again to go on.")
    return SweepResults.load(launched.folder)


@contextmanager
def _settings_of_the_process() -> Iterator[None]:
    environment, raising = _own_variables(), logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in ("ray.tune", "optuna")}
    try:
        yield
    finally:
        for name in _own_variables().keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        logging.raiseExceptions = raising
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _own_variables() -> dict[str, str]:
    """What the environment has of W&B's, Ray's and Tune's variables. Ray itself goes on with its first token."""
    names = (name for name in os.environ if name.startswith(("WANDB_", "RAY_", "TUNE_")) and name != "RAY_AUTH_TOKEN")
    return {name: os.environ[name] for name in names}


def _origin(name: str) -> dict[str, Any]:
    """The script of this process and the command that runs it; in a notebook neither."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script is None or "ipykernel" in sys.modules or not os.path.isfile(script):
        return {"command": f"Sweep.run() of the sweep {name}"}
    return {"config_file": Path(script), "command": shlex.join(["python", *sys.argv])}


def _console(quiet: bool) -> Console:
    """Where progress goes: the terminal, lines below a notebook's cell, or nowhere."""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    if quiet:
        return Console(**plain, quiet=True)
    if "ipykernel" in sys.modules:  # a live table would need a widget of the notebook's
        return Console(**plain, force_jupyter=False, force_terminal=False, width=MIN_WIDTH)
    return make_console()
