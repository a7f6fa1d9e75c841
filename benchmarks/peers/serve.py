"""How a peer answers: a number of runs comes in on a line, a JSON list of milliseconds of processor time goes out."""

import json
import sys
import time
from collections.abc import Callable


def serve(operation: Callable[[], object]) -> None:
    """Answer until asked for no run."""
    for line in sys.stdin:
        if not int(line):
            return
        print(json.dumps([_time_once(operation) for _ in range(int(line))]), flush=True)


def _time_once(operation: Callable[[], object]) -> float:
    start = time.process_time()
    operation()
    return 1e3 * (time.process_time() - start)
