"""Waiting for what another thread does, for several rooms."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], patience_s: float = 60) -> None:
    """Return once `condition` holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
