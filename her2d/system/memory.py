"""The memory of this process: how much it is, what it may hold, and giving back what is free."""

import ctypes
import mmap
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


def may_generate_code() -> bool:
    """Return whether this process may run code that it has written to memory, as compilers do.

    systemd's `MemoryDenyWriteExecute=` and security modules forbid it. It is found out with a page.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return False
    page.close()
    return True
