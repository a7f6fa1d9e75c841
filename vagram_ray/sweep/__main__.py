"""``python -m vagram_ray.sweep CONFIG.py``."""

from __future__ import annotations

from typing import Any

from vagram_ray.sweep.commandline import main as command
from vagram_ray.sweep.run.interruption import leave_at_once_on_signals


def main(**options: Any) -> None:
    """The command, and the end of this process, which a signal makes come at once."""
    try:
        command(**options)
    finally:
        leave_at_once_on_signals()


if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.sweep")
