"""A driver process that says when a node has finished a slide, and does not fetch its result."""

import multiprocessing
from typing import Any

import ray

from her2d.cluster.driver import EXPOSED, Driver, DriverManager, prepare_process
from her2d.cluster.plan import DriverOrder


class WatchedDriver(Driver):
    """A driver that can be asked what only Ray knows."""

    def has_finished(self, task_id: str) -> bool:
        """Return whether a result lies on its node."""
        answer = self._slides[task_id].answer
        return bool(ray.wait([answer], timeout=0, fetch_local=False)[0])


class _Manager(DriverManager):
    pass


_Manager.register("Driver", WatchedDriver, exposed=(*EXPOSED, "has_finished"))


def start_watched_driver(order: DriverOrder) -> tuple[DriverManager, Any]:
    """Do what `her2d.cluster.driver.start_driver` does."""
    manager = _Manager(ctx=multiprocessing.get_context("spawn"))
    manager.start(initializer=prepare_process)
    return manager, manager.Driver(order)  # type: ignore[attr-defined]
