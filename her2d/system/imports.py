"""Import many modules at once, without Python looking for garbage among them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing_much() -> Iterator[None]:
    """Have no garbage collected during a block of imports, nor what they made looked at later.

    What a module defines stays as long as the process. Python looks for garbage in it every few
    hundred objects all the same, which takes a tenth of a command's start.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
