"""One setting of the C library's allocator that this workload depends on."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BELOW_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks of up to 1 GiB instead of returning them to the kernel at once.

    Every update allocates and frees the same few activations. Above 128 KiB glibc maps and unmaps fresh pages
    for each of them, and the page faults take a share of every update (``docs/performance.md``). Peak memory
    is unchanged. Freed memory stays with the process.

    Returns:
        Whether the setting was made (False where the C library is not glibc).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # The mmap threshold's largest accepted value is half an arena's heap (32 MiB on 64-bit systems).
    return all(
        [
            mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024) == 1,
            mallopt(M_TRIM_THRESHOLD, KEEP_BELOW_BYTES) == 1,
        ]
    )
