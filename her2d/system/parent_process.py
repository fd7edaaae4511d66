"""What a spawned process does when the one that spawned it ends."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Let this process end as soon as its parent has ended, also if that was killed.

    An idle worker of a pool would wait for ever for a parent that was killed. Does nothing in a
    process that `multiprocessing` did not start.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=watch, name="her2d-parent", daemon=True).start()
