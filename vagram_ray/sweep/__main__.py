"""``python -m vagram_ray.sweep CONFIG.py``."""

from __future__ import annotations

import atexit
from typing import Any

from vagram_ray.sweep.commandline import main as command
from vagram_ray.sweep.run.interruption import end_process, leave_at_once_on_signals


def main(**options: Any) -> None:
    """The command, and the end of this process, which a signal makes come at once.

    Python's last steps, in which it heeds no signal, are left out: nothing that was begun is left for them.
    """
    status = 1
    atexit.register(end_process, lambda: status)  # registered first, so it runs last
    leave_at_once_on_signals()  # a sweep takes these handlers' place, and gives it back
    try:
        command(**options)
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        raise


if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.sweep")
