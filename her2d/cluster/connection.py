"""The daemon's connection to the cluster: it holds the driver process, and replaces it."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.managers import RemoteError
from types import TracebackType
from typing import Any, Protocol, Self

from her2d.cluster.node_series import NodeSeries
from her2d.cluster.plan import (
    Answer,
    ClusterStatus,
    DriverOrder,
    NodeStatus,
    Part,
    Progress,
    SlideTask,
)
from her2d.errors import Her2dError
from her2d.monitoring.reading import NodeReading
from her2d.processing.errors import ActorCrashedError, ClusterLostError
from her2d.system.backoff import Backoff
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_BACKOFF = Backoff(first_s=1.0, longest_s=60.0)
_LOOK_S = 0.5
_SILENT_S = 30.0
_FROZEN_S = 120.0
_SILENT_AT_STOP_S = 5.0  # within what a stop gives slides that were cancelled
_START_S = 300.0  # in which engines are loaded, and an autoscaler starts a machine
_JOIN_S = 10.0
# What a call to a process that ended raises.
_ENDED = (EOFError, OSError, RemoteError)


class DriverProcess(Protocol):
    """The process that speaks with Ray."""

    def shutdown(self) -> None:
        """Ask the process to end, and end it."""
        ...

    def kill(self) -> None:
        """End the process at once, although it does not answer."""
        ...


StartDriver = Callable[[DriverOrder], tuple[DriverProcess, Any]]
"""Start the driver process; return it and a proxy of its `Driver`."""


def _start_driver(order: DriverOrder) -> tuple[DriverProcess, Any]:
    # Ray is imported in that process only, and here only where a cluster is used.
    from her2d.cluster.driver import start_driver

    return start_driver(order)


class ClusterConnection:
    """Keeps a driver process while the cluster can be reached, and starts one again if it cannot.

    Safe to use from several threads.
    """

    def __init__(
        self,
        order: DriverOrder,
        start: StartDriver | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        """Prepare a connection; entering it connects.

        Args:
            order: what the driver process works on.
            start: starts that process.
            cancel: set when slides are cancelled for a stop, which waits for a silent cluster only
                briefly. The calls of the slides' threads do not end before that process does.
        """
        self._order = order
        self._cancel = cancel or threading.Event()
        self._start = start or _start_driver
        self._manager: DriverProcess | None = None
        self._driver: Any = None
        self._status = ClusterStatus()
        self._problem: str | None = "The cluster is being connected."
        self._told = False
        self._answered_at = math.inf
        self._losses = 0
        self._backlog = 0
        self._has_scored = False
        self._series = NodeSeries()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="her2d-cluster", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._end_frozen(_SILENT_AT_STOP_S)
        if self._manager is not None:  # the thread may wait for a head that does not answer
            self._manager.shutdown()
        self._thread.join(_JOIN_S)

    @property
    def status(self) -> ClusterStatus:
        """The nodes; none while the cluster is not connected."""
        return self._status

    @property
    def is_connected(self) -> bool:
        return self._driver is not None

    @property
    def is_told(self) -> bool:
        """Whether the last attempt to connect has failed; `problem` says why."""
        return self._told

    @property
    def nodes(self) -> tuple[NodeReading, ...]:
        """The nodes as metrics show them."""
        return self._series.reading

    @property
    def losses(self) -> int:
        """How often the connected cluster was lost."""
        return self._losses

    @property
    def problem(self) -> str | None:
        """One sentence if the cluster scores nothing, else None."""
        if self._silent_s > _SILENT_S:
            return f"The process that speaks with Ray has not answered for {self._silent_s:.0f} s."
        return self._problem

    def note_backlog(self, slides: int) -> None:
        """Say how many slides wait or are scored, which decides on the number of engines.

        A process that has been frozen for long is ended, and another one started.
        """
        self._backlog = slides
        self._end_frozen(_FROZEN_S)

    @property
    def _silent_s(self) -> float:
        """How long the process of a connected cluster has not answered.

        A call to a process that is frozen never returns, so the thread that makes it cannot tell.
        """
        return 0.0 if self._driver is None else time.monotonic() - self._answered_at

    def _end_frozen(self, after_s: float) -> None:
        """End a process that does not answer; those that wait for it go on, as if it had died."""
        if self._manager is not None and (silent_s := self._silent_s) > after_s:
            log.error("cluster_driver_frozen", silent_s=round(silent_s))
            self._manager.kill()

    def begin(self, task: SlideTask) -> bool:
        """Hand a slide to a node; False if none has a place. Raises ClusterLostError."""
        with _while_connected():
            return bool(self._connected().begin(task))

    def next(self, task: SlideTask, wait_s: float) -> Progress | Answer | None:
        """Wait for a slide; see `Driver.next`. Raises ClusterLostError."""
        with _while_connected():
            found: Progress | Answer | None = self._connected().next(task.id, wait_s)
            return found

    def send(self, task: SlideTask, part: Part) -> bool | None:
        """Send a part of a slide's file; see `Driver.send`. Raises ClusterLostError."""
        with _while_connected():
            is_sent: bool | None = self._connected().send(task.id, part)
            return is_sent

    def cancel(self, task: SlideTask) -> None:
        """End a slide early. Raises ClusterLostError."""
        with _while_connected():
            self._connected().cancel(task.id)

    def give_up(self, task: SlideTask, silent_s: float) -> ActorCrashedError:
        """End a slide that hangs; see `Driver.give_up`. Raises ClusterLostError."""
        with _while_connected():
            ended: ActorCrashedError = self._connected().give_up(task.id, silent_s)
            return ended

    def _connected(self) -> Any:
        if (driver := self._driver) is None:
            raise ClusterLostError("The cluster is not connected.")
        return driver

    # In the thread

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            was_connected = False
            try:
                with self._process() as driver:
                    driver.open()
                    was_connected = True
                    self._watch(driver)
            except Her2dError as error:
                reason = str(error)
            except _ENDED as error:
                reason = f"The process that connects to the cluster ended ({type(error).__name__})."
            except Exception as error:
                # Without this thread no slide would ever be scored again.
                log.exception("cluster_connection_failed")
                reason = f"The cluster cannot be used: {type(error).__name__}, see the log."
            else:
                return
            if self._closing.is_set():
                return
            failures = 1 if was_connected else failures + 1
            self._lost(reason, was_connected, wait_s := _BACKOFF.wait_s(failures))
            self._closing.wait(wait_s)

    @contextmanager
    def _process(self) -> Iterator[Any]:
        self._manager, driver = self._start(self._order)
        try:
            yield driver
        finally:
            self._driver, self._status = None, ClusterStatus()
            self._series.update(())
            self._has_scored = False
            self._manager.shutdown()

    def _watch(self, driver: Any) -> None:
        """Read the status until the connection is closed or lost."""
        while not self._closing.is_set():
            driver.note_backlog(self._backlog)
            status: ClusterStatus = driver.status()
            self._answered_at = time.monotonic()
            if status.age_s > (_SILENT_AT_STOP_S if self._cancel.is_set() else _SILENT_S):
                raise ClusterLostError(f"The cluster has not answered for {status.age_s:.0f} s.")
            if self._driver is None:
                log.info("cluster_connected", address=self._order.address)
            self._report(self._status.nodes, status.nodes)
            if status.wanted != self._status.wanted:
                log.info(
                    "cluster_scaled",
                    engines=status.wanted,
                    before=self._status.wanted,
                    slides=self._backlog,
                )
            self._series.update(status.nodes)
            # The status last: who sees a place on a node reads no problem of the status before.
            self._problem, self._told = self._problem_of(status), False
            self._status, self._driver = status, driver
            self._closing.wait(_LOOK_S)

    def _problem_of(self, status: ClusterStatus) -> str | None:
        self._has_scored = self._has_scored or bool(status.places)
        if status.places or not status.wanted:
            return None
        is_coming = status.requested or any(node.state == "starting" for node in status.nodes)
        if is_coming and self._has_scored and status.waiting_s < _START_S:
            return None
        return _without_places(status)

    def _lost(self, reason: str, was_connected: bool, wait_s: float) -> None:
        self._losses += was_connected
        self._problem = f"The cluster is lost: {reason}" if was_connected else reason
        if not self._told:
            event = "cluster_lost" if was_connected else "cluster_unavailable"
            log.error(event, reason=reason, again_in_s=wait_s)
        self._told = True

    def _report(self, before: tuple[NodeStatus, ...], now: tuple[NodeStatus, ...]) -> None:
        known = {node.id: node for node in before}
        for node in now:
            old = known.pop(node.id, None)
            if old is not None and (old.state, old.refusal) == (node.state, node.refusal):
                continue
            if node.state == "usable":
                log.info("cluster_node_usable", node=node.name, actors=node.actors)
            elif node.state == "refused":
                log.error("cluster_node_refused", node=node.name, reason=node.refusal)
        for lost in known.values():
            log.warning("cluster_node_lost", node=lost.name)


@contextmanager
def _while_connected() -> Iterator[None]:
    try:
        yield
    except Her2dError:
        raise
    except _ENDED as error:
        raise ClusterLostError("The connection to the cluster was lost.") from error
    except KeyError as error:  # a driver process that was started meanwhile does not know the slide
        raise ClusterLostError("The connection to the cluster was lost.") from error


def _without_places(status: ClusterStatus) -> str:
    refusal = next((node.refusal for node in status.nodes if node.refusal is not None), None)
    if any(node.state == "starting" for node in status.nodes):
        return "The nodes of the cluster are starting."
    if refusal is not None:
        return f"No node of the cluster can be used: {refusal}"
    if status.requested:
        return "The cluster was asked to start a node, and none has started yet."
    return "The cluster has no node with the CPUs and GPUs that an actor takes."
