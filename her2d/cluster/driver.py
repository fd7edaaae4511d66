"""The driver process: the only one on the daemon's machine that speaks with Ray.

Ray ends the process of its driver when the head is gone for a minute, and a daemon must outlive
that. So the driver is a child process of the daemon, which starts another if this one ends. Ray
knows which nodes live, places actors and carries tasks; the daemon's queue decides on retries.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.managers import BaseManager
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from her2d.cluster.errors import ClusterUnavailableError
from her2d.cluster.node import SlideActor
from her2d.cluster.node_parity import parity_reference
from her2d.cluster.plan import (
    Answer,
    ClusterStatus,
    DriverOrder,
    Failure,
    NodeReport,
    NodeStatus,
    Progress,
    SlideTask,
)
from her2d.inference.engine import DeviceLostError
from her2d.processing.errors import ActorCrashedError, ClusterLostError, ScanNotOnNodeError

NAMESPACE = "her2d"
_REFRESH_S = 1.0
_REFUSED_AGAIN_S = 60.0
_MOST_NOT_ON_NODE = 3
_PARTS = 2  # of a slide's file, under way at a time
_ANSWER_S = 30.0
_MOMENT_S = 5.0  # for what is asked again, or not needed: a stop waits for it
_PROGRESS_S = 5.0  # a question costs the node, this process and Ray 2 ms of computing
_NODE_DEATH_S = 20.0  # Ray notices a node that does not answer after 15 s

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Actor:
    """An actor and its places for slides.

    Attributes:
        report: reference to the answer that is waited for.
        is_dismissed: whether it was ended here, so that its slides are not what ended it.
    """

    handle: Any
    report: Any
    is_usable: bool = False
    slides: int = 0
    is_dismissed: bool = False


@dataclass(slots=True, eq=False)
class _Node:
    """A living node.

    Attributes:
        not_found: slides in a row that could not be opened there.
    """

    id: str
    name: str
    wanted: int
    actors: list[_Actor] = field(default_factory=list)
    refusal: str | None = None
    refused_at: float = 0.0
    not_found: int = 0

    def refuse(self, reason: str) -> None:
        """Use none of its actors until some time has passed."""
        self.refusal, self.refused_at, self.not_found = reason, time.monotonic(), 0
        for actor in self.actors:
            actor.is_dismissed = True
            _kill(actor)
        self.actors.clear()


@dataclass(slots=True, eq=False)
class _Handed:
    """A slide that an actor scores.

    Attributes:
        parts: references to the parts of its file that are under way to the node.
        asked_at: when its progress was last asked for.
    """

    node: _Node
    actor: _Actor
    answer: Any
    parts: list[Any] = field(default_factory=list)
    asked_at: float = field(default_factory=time.monotonic)


class Driver:
    """Keeps an actor on each part of each node, and hands slides to them. Used by many threads."""

    def __init__(self, order: DriverOrder) -> None:
        self._order = order
        self._plan = order.plan
        self._reference: Any = None
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._slides: dict[str, _Handed] = {}
        self._seen_at = time.monotonic()

    def open(self) -> None:
        """Connect to the cluster, and begin to place actors.

        Raises:
            ClusterUnavailableError: it cannot be reached.
            EngineError: the bundle does not work on this machine.
        """
        reference = parity_reference(self._order.bundle)
        try:
            ray.init(
                address=self._order.address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level="ERROR",
            )
            self._reference = ray.put(reference)
            self._refresh()
        except (RayError, OSError, RuntimeError, ValueError, ImportError) as error:
            raise ClusterUnavailableError(
                f"The cluster {self._order.address} cannot be reached: {_first_line(error)}"
            ) from error
        threading.Thread(target=self._keep_fresh, name="her2d-nodes", daemon=True).start()

    def status(self) -> ClusterStatus:
        """Return the nodes as they were last seen; never waits for Ray."""
        with self._lock:
            nodes = tuple(_status_of(node) for node in self._nodes.values())
            usable = sum(node.actors for node in nodes)
            age_s = time.monotonic() - self._seen_at
        return ClusterStatus(nodes, usable * self._plan.pipeline.slides_in_flight, age_s)

    def begin(self, task: SlideTask) -> bool:
        """Hand a slide to the actor that has the fewest; return False if none has a place."""
        most = self._plan.pipeline.slides_in_flight
        with self._lock:
            free = [
                (actor.slides, node.not_found, number, node, actor)
                for number, node in enumerate(self._nodes.values())
                for actor in node.actors
                if actor.is_usable and actor.slides < most
            ]
            if not free:
                return False
            *_, node, actor = min(free, key=lambda each: each[:3])
            answer = actor.handle.score.options(name="her2d slide").remote(task)
            actor.slides += 1
            self._slides[task.id] = _Handed(node, actor, answer)
        return True

    def next(self, task_id: str, wait_s: float) -> Progress | Answer | None:
        """Wait for a slide, and return its answer, or now and then how far it is, or None."""
        with self._lock:
            handed = self._slides[task_id]
        try:
            done, _ = ray.wait([handed.answer], timeout=wait_s)
            if not done:
                if time.monotonic() - handed.asked_at < _PROGRESS_S:
                    return None
                handed.asked_at = time.monotonic()
                progress: Progress = ray.get(
                    handed.actor.handle.progress.remote(task_id), timeout=_MOMENT_S
                )
                return progress
            answer: Answer = ray.get(handed.answer, timeout=_ANSWER_S)
        except GetTimeoutError:
            return None
        except RayActorError as error:
            if handed.actor.is_dismissed:
                answer = Failure(
                    ClusterLostError(f"The process on {handed.node.name} was replaced.")
                )
            else:
                self._forget(handed)
                answer = Failure(self._loss(handed.node, error))
        except RayError as error:
            answer = Failure(
                ClusterLostError(f"The result was lost on its way: {_first_line(error)}")
            )
        return self._ended(task_id, handed, answer)

    def send(self, task_id: str, offset: int, data: bytes) -> bool:
        """Send a part of a slide's file; return False if the slide has ended.

        Few parts are under way at a time, so that neither Ray's object store nor the network has
        more of a slide than that.
        """
        with self._lock:
            handed = self._slides[task_id]
        if ray.wait([handed.answer], timeout=0)[0]:
            return False
        try:
            while len(handed.parts) >= _PARTS:
                ray.get(handed.parts.pop(0), timeout=_ANSWER_S)
            receive = handed.actor.handle.receive.options(name="her2d part")
            handed.parts.append(receive.remote(task_id, offset, data))
        except RayError:  # `next` finds out what it means
            return False
        return True

    def cancel(self, task_id: str) -> None:
        """End a slide early; its place is free when it has ended."""
        with self._lock:
            handed = self._slides.pop(task_id, None)
        if handed is None:
            return
        handed.actor.handle.cancel.remote(task_id)
        ray.wait([handed.answer], timeout=_MOMENT_S)
        self._free(handed)

    def _ended(self, task_id: str, handed: _Handed, answer: Answer) -> Answer:
        with self._lock:
            self._slides.pop(task_id, None)
        self._free(handed)
        error = answer.error if isinstance(answer, Failure) else None
        if isinstance(error, DeviceLostError):
            # The device is lost to that process only, which is replaced.
            handed.actor.is_dismissed = True
            self._forget(handed)
            return Failure(ActorCrashedError(f"On {handed.node.name}: {error}"))
        with self._lock:
            if isinstance(error, ScanNotOnNodeError):
                handed.node.not_found += 1
                if handed.node.not_found >= _MOST_NOT_ON_NODE:
                    handed.node.refuse(str(error))
            else:
                handed.node.not_found = 0
        return answer

    def _free(self, handed: _Handed) -> None:
        with self._lock:
            handed.actor.slides -= 1

    def _forget(self, handed: _Handed) -> None:
        """End an actor, which is replaced. Its process may live and only not be reached."""
        _kill(handed.actor)
        with self._lock:
            if handed.actor in handed.node.actors:
                handed.node.actors.remove(handed.actor)

    def _loss(self, node: _Node, error: RayActorError) -> Exception:
        """Return what an actor's end means: the node's, or that of its process only."""
        deadline = time.monotonic() + _NODE_DEATH_S
        while time.monotonic() < deadline:
            try:
                is_lost = node.id not in _living_nodes()
            except RayError as lost:
                return ClusterLostError(f"The cluster was lost: {_first_line(lost)}")
            if is_lost:
                return ClusterLostError(f"The node {node.name} was lost.")
            time.sleep(_REFRESH_S)
        return ActorCrashedError(
            f"The process on the node {node.name} ended while it scored the slide:"
            f" {_first_line(error)}"
        )

    # The nodes, in a thread

    def _keep_fresh(self) -> None:
        while True:
            time.sleep(_REFRESH_S)
            try:
                self._refresh()
            except Exception:  # noqa: BLE001  the status ages, and the daemon ends this process
                continue

    def _refresh(self) -> None:
        """Drop the nodes that died, and see to it that each of the others has its actors."""
        living = _living_nodes()
        for id_, found in living.items():
            wanted = self._actors_on(found.get("Resources", {}))
            if wanted and id_ not in self._nodes:
                name = found.get("NodeManagerHostname") or found.get("NodeManagerAddress") or id_
                with self._lock:
                    self._nodes[id_] = _Node(id_, name, wanted)
        for id_ in self._nodes.keys() - living.keys():
            with self._lock:
                del self._nodes[id_]
        for node in list(self._nodes.values()):
            self._look_at(node)
        with self._lock:
            self._seen_at = time.monotonic()

    def _actors_on(self, resources: dict[str, float]) -> int:
        plan = self._plan
        actors = min(int(resources.get("CPU", 0)) // plan.cpus, self._order.most_actors)
        return min(actors, int(resources.get("GPU", 0)) // plan.gpus) if plan.gpus else actors

    def _look_at(self, node: _Node) -> None:
        """Read the reports that have come, and replace actors that have ended."""
        is_refused = node.refusal is not None
        if is_refused and time.monotonic() - node.refused_at < _REFUSED_AGAIN_S:
            return
        for actor in list(node.actors):
            if ray.wait([actor.report], timeout=0)[0]:
                self._read(node, actor)
        with self._lock:
            if node.refusal is not None and not is_refused:
                return
            missing = node.wanted - len(node.actors)
            node.actors += [self._placed(node) for _ in range(missing)]

    def _read(self, node: _Node, actor: _Actor) -> None:
        try:
            report: NodeReport = ray.get(actor.report)
        except RayError as error:
            with self._lock:
                if actor not in node.actors:
                    return
                node.actors.remove(actor)
                _kill(actor)
                if not actor.is_usable:  # it did not even start: her2d is missing there
                    node.refuse(f"Its process could not start: {_first_line(error)}")
            return
        with self._lock:
            if report.refusal is not None:
                node.refuse(report.refusal)
                return
            actor.is_usable, node.refusal = True, None
            actor.report = actor.handle.report.remote()

    def _placed(self, node: _Node) -> _Actor:
        plan = self._plan
        handle = (
            ray.remote(SlideActor)
            .options(
                num_cpus=self._order.cpus_taken,
                num_gpus=plan.gpus,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
                # Slides, the daemon's questions or parts of files, and what it cancels.
                max_concurrency=(1 + _PARTS) * plan.pipeline.slides_in_flight + 2,
                max_restarts=0,
                max_task_retries=0,
            )
            .remote(plan, self._reference)
        )
        return _Actor(handle, handle.report.remote())


class _Manager(BaseManager):
    pass


_EXPOSED = ("open", "status", "begin", "next", "send", "cancel")
_Manager.register("Driver", Driver, exposed=_EXPOSED)


def start_driver(order: DriverOrder) -> tuple[BaseManager, Any]:
    """Start the process; return its manager, which ends it, and a proxy of its `Driver`."""
    manager = _Manager(ctx=multiprocessing.get_context("spawn"))
    manager.start(initializer=_prepare)
    return manager, manager.Driver(order)  # type: ignore[attr-defined]


def _prepare() -> None:
    """End with the daemon, also if it is killed, and leave its stderr to it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no data is sent to third parties
    # Ray writes all that it has to say into the files of its session, below /tmp/ray.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(0)

    threading.Thread(target=watch, name="her2d-parent", daemon=True).start()


def _living_nodes() -> dict[str, dict[str, Any]]:
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _kill(actor: _Actor) -> None:
    ray.kill(actor.handle)


def _status_of(node: _Node) -> NodeStatus:
    usable = sum(actor.is_usable for actor in node.actors)
    state = "refused" if node.refusal is not None else "usable" if usable else "starting"
    return NodeStatus(node.id, node.name, state, usable, node.refusal)  # type: ignore[arg-type]


def _first_line(error: BaseException) -> str:
    lines: Callable[[str], list[str]] = str.splitlines
    return next((line.strip() for line in lines(str(error)) if line.strip()), type(error).__name__)
