"""Measure the memory of this process, and return what the C library keeps to the system."""

import ctypes
import resource

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it: malloc_trim(3)


def give_back_free_memory() -> None:
    """Return free memory to the system; do nothing if the C library has no such call.

    Threads that end leave gaps in glibc's arenas. These grew by 10 KiB per slide over thousands of
    slides (`make soak`), although no more memory was in use.
    """
    if _trim is not None:
        _trim(0)


def most_memory_used() -> int:
    """Return the most memory that this process has had at once so far, in bytes (getrusage(2))."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB
