"""The cycle collector and the allocator, told how these processes live: much that stays, and much that goes without a
cycle and comes again at the same size."""

from __future__ import annotations

import ctypes
import gc

# Young objects before a look; looks before the next older generation is looked at.
THRESHOLDS = (50_000, 20, 100)
# mallopt's numbers of glibc, and what is asked of it in bytes.
_M_TRIM_THRESHOLD, KEPT_BYTES = -1, 64 * 1024 * 1024
_M_MMAP_THRESHOLD, MAPPED_BYTES = -3, 16 * 1024 * 1024


def settle_heap() -> None:
    """Called once a process has loaded what it needs. What is there now stays, so it is never looked at again; what
    requests make goes by reference count. Looking less often saved a third of the ingest door's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Bodies and batches of up to a megabyte are made and freed all the time. By default glibc gives such memory back
    to the system at once, and to get it anew costs a page fault every 4 KiB: two thirds of what a producer's batch
    took. Elsewhere than on glibc nothing is done."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
