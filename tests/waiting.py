"""Wait for other threads."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], patience_s: float = 60) -> None:
    """Wait until `condition` returns True."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
