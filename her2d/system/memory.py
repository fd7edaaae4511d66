"""Memory that the C library keeps for later, given back to the system between slides."""

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own: malloc_trim(3)


def give_back_free_memory() -> None:
    """Return what is free to the system; does nothing where the C library has no such call.

    Threads that come and go leave holes in each of glibc's arenas, which took 10 KiB more with
    every slide for thousands of slides (`make soak`), though no more was in use.
    """
    if _trim is not None:
        _trim(0)
