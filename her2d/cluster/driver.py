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
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from multiprocessing.managers import BaseManager
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    GetTimeoutError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayActorError,
    RayError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from her2d.cluster.errors import ClusterUnavailableError
from her2d.cluster.node import SlideActor, Vacancy
from her2d.cluster.node_parity import parity_reference
from her2d.cluster.plan import (
    Answer,
    ClusterStatus,
    DriverOrder,
    Failure,
    NodeReport,
    NodeState,
    NodeStatus,
    ParityReference,
    Part,
    Progress,
    SlideTask,
)
from her2d.cluster.scaling import Scale, engines_on, rescaled
from her2d.inference.engine import DeviceLostError, EngineError
from her2d.processing.engine_health import EngineDownError
from her2d.processing.errors import (
    ActorCrashedError,
    ClusterLostError,
    ResultLostError,
    ScanNotOnNodeError,
    UnreadableOnNodeError,
)
from her2d.settings import cluster_head
from her2d.system.backoff import Backoff
from her2d.system.connections import connection_problem
from her2d.system.parent_process import end_with_parent
from her2d.system.shortage import is_own_shortage

NAMESPACE = "her2d"
_REFRESH_S = 1.0
_REFUSED_AGAIN_S = 60.0
_LONGEST_REFUSED_S = 600.0  # also where the cause is mended, so not longer
_MOST_FAILED = 3
_PARTS = 2  # of a slide's file, under way at a time
# What Ray says of a head that refuses its token or certificate, speaks TLS or does not, or hangs.
_NOTHING_BUT_TIME = "ray client connection timeout"
_ANSWER_S = 30.0
_MOMENT_S = 5.0  # for what is asked again, or not needed: a stop waits for it
_PROGRESS_S = 5.0  # a question costs the node, this process and Ray 2 ms of computing
_FIRST_PROGRESS_S = 0.5  # a node that lacks the file says so, and does nothing until it is sent
_NODE_DEATH_S = 20.0  # Ray notices a node that does not answer after 15 s
_STATUS_WAITS_S = 1.0  # for the lock, which others hold while a silent head keeps them waiting
_HEAD_SILENT_S = 5.0  # then it is not known which nodes live
_FULL_S = 60.0
_LOSSES = (
    ClusterLostError,
    ActorCrashedError,
    DeviceLostError,
    EngineDownError,
    ResultLostError,
    ScanNotOnNodeError,
    UnreadableOnNodeError,
)
_OF_THE_FILE = (ScanNotOnNodeError, UnreadableOnNodeError)

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Actor:
    """An actor and its places for slides.

    Attributes:
        report: reference to the answer that is waited for.
        is_leaving: whether it gets no further slide, and ends after those that it has.
        is_dismissed: whether it was ended here, so that its slides are not what ended it.
        is_judged: whether its end was counted, which ends all slides that it has.
    """

    handle: Any
    report: Any
    is_usable: bool = False
    slides: int = 0
    is_leaving: bool = False
    is_dismissed: bool = False
    is_judged: bool = False
    busy_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Node:
    """A living node.

    Attributes:
        room: number of actors that its CPUs and GPUs allow.
        failed: slides in a row that ended in what may be the node's fault.
        relapses: how often it was refused for such slides since it last scored one, although its
            engine had passed the check.
        full_until: when it gets slides again, because it had no room for the last one's result.
        scored, lost, busy_s: see `NodeStatus`.
    """

    id: str
    name: str
    room: int
    cpus: float
    gpus: float
    actors: list[_Actor] = field(default_factory=list)
    refusal: str | None = None
    refused_at: float = 0.0
    failed: int = 0
    relapses: int = 0
    full_until: float = 0.0
    scored: int = 0
    lost: int = 0
    busy_s: float = 0.0

    @property
    def slides(self) -> int:
        return sum(actor.slides for actor in self.actors)

    @property
    def staying(self) -> list[_Actor]:
        return [actor for actor in self.actors if not actor.is_leaving]

    def end(self, actor: _Actor) -> None:
        """End one of its actors that has no slide."""
        actor.is_dismissed = True
        self.actors.remove(actor)
        _kill(actor)

    def crash(self, message: str) -> ActorCrashedError:
        """Return the error of a slide whose process ended or hung here."""
        return ActorCrashedError(message, self.name, self.scored)

    @property
    def refused_for_s(self) -> float:
        """For how long it is not used; longer each time, where its check does not find the cause.

        Each slide that such a node gets may lose an attempt for it.
        """
        again = Backoff(_REFUSED_AGAIN_S, _LONGEST_REFUSED_S)
        return again.wait_s(max(1, self.relapses))

    def refuse(self, reason: str) -> None:
        """Use none of its actors until some time has passed."""
        self.refusal, self.refused_at, self.failed = reason, time.monotonic(), 0
        for actor in self.actors:
            actor.is_dismissed = True
            _kill(actor)
        self.actors.clear()


@dataclass(slots=True, eq=False)
class _Handed:
    """A slide that an actor scores.

    Attributes:
        ended_at: when the actor was found to have ended; None while it lives.
        parts: references to the parts of its file that are under way to the node.
        asked_at: when its progress was last asked for.
        is_scored: whether tiles are scored, and the file is there.
    """

    node: _Node
    actor: _Actor
    answer: Any
    parts: list[Any] = field(default_factory=list)
    asked_at: float = field(default_factory=time.monotonic)
    is_scored: bool = False
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Vacancy:
    """What waits for a node that has room for an engine; `found` is answered there."""

    handle: Any
    found: Any


class Driver:
    """Keeps an actor on each part of each node, and hands slides to them. Used by many threads."""

    def __init__(self, order: DriverOrder) -> None:
        self._order = order
        self._plan = order.plan
        self._reference: Any = None
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}
        self._slides: dict[str, _Handed] = {}
        self._backlog = 0
        self._scale = Scale()
        self._vacancies: list[_Vacancy] = []
        self._status = ClusterStatus()
        self._served_at = self._seen_at = time.monotonic()

    def open(self) -> None:
        """Connect to the cluster, and begin to place actors.

        Raises:
            ClusterUnavailableError: it cannot be reached.
            EngineError: the bundle does not work on this machine.
        """
        reference = parity_reference(self._order.bundle)
        connected: Future[None] = Future()
        # What still waits for Ray after that time ends with this process, which is replaced.
        connecting = threading.Thread(
            target=self._connect, args=(reference, connected), name="her2d-connect", daemon=True
        )
        connecting.start()
        connecting.join(self._order.connect_s)
        if not connected.done():
            # Without `ray://` Ray looks for a head that does not listen for as long as one that is
            # silent.
            if (problem := self._connection_problem()) is None:
                raise ClusterUnavailableError(
                    f"The cluster {self._order.address} has not answered for"
                    f" {self._order.connect_s:.0f} s. Its head, or a proxy before it, may hang."
                )
            raise self._unavailable(problem)
        try:
            connected.result()
        except (RayError, OSError, RuntimeError, ValueError, ImportError) as error:
            # Of a head that cannot be reached Ray says only that time is over.
            raise self._unavailable(self._connection_problem() or _reason(error)) from error
        threading.Thread(target=self._keep_fresh, name="her2d-nodes", daemon=True).start()

    def _connection_problem(self) -> str | None:
        """Return why no connection to the head can be made; None if one can, or for "auto"."""
        head = cluster_head(self._order.address)
        return connection_problem(*head) if head else None

    def _unavailable(self, reason: str) -> ClusterUnavailableError:
        return ClusterUnavailableError(
            f"The cluster {self._order.address} cannot be reached: {reason.rstrip('.:')}."
        )

    def _connect(self, reference: ParityReference, connected: "Future[None]") -> None:
        try:
            ray.init(
                address=self._order.address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level="ERROR",
            )
            self._reference = ray.put(reference)
            self._refresh()
        except BaseException as error:  # noqa: BLE001  raised by `open`
            connected.set_exception(error)
        else:
            connected.set_result(None)

    def status(self) -> ClusterStatus:
        """Return the nodes as they were last seen; never waits for Ray."""
        if not self._lock.acquire(timeout=_STATUS_WAITS_S):
            return replace(self._status, age_s=time.monotonic() - self._seen_at)
        try:
            nodes = tuple(_status_of(node) for node in self._nodes.values())
            self._status = ClusterStatus(
                nodes,
                sum(node.actors for node in nodes) * self._plan.pipeline.slides_in_flight,
                time.monotonic() - self._seen_at,
                self._wanted(),
                sum(not actor.is_usable for node in self._nodes.values() for actor in node.actors),
                self._missing_room(),
                self._seen_at - self._served_at,
            )
            return self._status
        finally:
            self._lock.release()

    def note_backlog(self, slides: int) -> None:
        """Say how many slides wait or are scored, which decides on the number of engines."""
        self._backlog = slides

    def begin(self, task: SlideTask) -> bool:
        """Hand a slide to the actor that has the fewest; return False if none has a place.

        A node that could not read its file gets it only where no other node is used, and then
        waits for it to be sent.
        """
        most, now = self._plan.pipeline.slides_in_flight, time.monotonic()
        with self._lock:
            usable = [
                (node, actor)
                for node in self._nodes.values()
                for actor in node.staying
                if actor.is_usable
            ]
            others = [each for each in usable if each[0].name not in task.unreadable_on]
            if not others:
                task = replace(task, is_sent=task.can_be_sent)
            free = [
                (actor.slides, node.failed, number, node, actor)
                for number, (node, actor) in enumerate(others or usable)
                if actor.slides < most and now >= node.full_until
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
                every_s = _PROGRESS_S if handed.is_scored else _FIRST_PROGRESS_S
                if time.monotonic() - handed.asked_at < every_s:
                    return None
                handed.asked_at = time.monotonic()
                progress: Progress = ray.get(
                    handed.actor.handle.progress.remote(task_id), timeout=_MOMENT_S
                )
                handed.is_scored = progress.total > 0
                return progress
            answer: Answer = ray.get(handed.answer, timeout=_ANSWER_S)
        except GetTimeoutError:
            return None
        except RayActorError as error:
            if (loss := self._loss(handed, error)) is None:
                time.sleep(min(wait_s, _REFRESH_S))
                return None
            answer = Failure(loss)
        except (ObjectStoreFullError, OutOfDiskError) as error:
            # Not at once again: to score slides whose results cannot be sent helps nobody.
            handed.node.full_until = time.monotonic() + _FULL_S
            answer = Failure(
                ResultLostError(
                    f"The node {handed.node.name} has no room for the result in Ray's object store,"
                    f" and none on its disk: {_first_line(error)}"
                )
            )
        except RayError as error:
            answer = Failure(
                ClusterLostError(f"The result was lost on its way: {_first_line(error)}")
            )
        return self._ended(task_id, handed, answer)

    def send(self, task_id: str, part: Part) -> bool | None:
        """Send a part of a slide's file; return False if the slide has ended.

        Few parts are under way at a time, so that neither Ray's object store nor the network has
        more of a slide than that.

        Returns:
            None if the node has not taken those before within a moment; the part is not sent then.
        """
        with self._lock:
            handed = self._slides[task_id]
        if ray.wait([handed.answer], timeout=0)[0]:
            return False
        try:
            while len(handed.parts) >= _PARTS:
                if not ray.wait(handed.parts[:1], timeout=_MOMENT_S)[0]:
                    return None
                ray.get(handed.parts[0], timeout=_MOMENT_S)
                del handed.parts[0]
            receive = handed.actor.handle.receive.options(name="her2d part")
            handed.parts.append(receive.remote(task_id, part))
        except GetTimeoutError:  # its answer is slow, and says nothing about the slide
            return None
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

    def give_up(self, task_id: str, silent_s: float) -> ActorCrashedError:
        """End a slide that has hung for so long, and use its node no more for a while.

        Its storage may hang, where each further slide would hang as well.

        Returns:
            What ended the attempt.
        """
        with self._lock:
            handed = self._slides.pop(task_id)
            handed.actor.slides -= 1
            handed.node.lost += 1
            handed.node.refuse(f"A slide made no progress there for {silent_s:.0f} s.")
        return handed.node.crash(
            f"The node {handed.node.name} made no progress with the slide for {silent_s:.0f} s. Its"
            " storage may hang."
        )

    def _ended(self, task_id: str, handed: _Handed, answer: Answer) -> Answer:
        error = answer.error if isinstance(answer, Failure) else None
        with self._lock:
            self._slides.pop(task_id, None)
            handed.actor.slides -= 1
            handed.node.scored += error is None
            handed.node.lost += isinstance(error, _LOSSES)
        if isinstance(error, DeviceLostError):
            # The device is lost to that process only, which is replaced.
            handed.actor.is_dismissed = True
            self._forget(handed)
            error = handed.node.crash(f"On {handed.node.name}: {error}")
            answer = Failure(error)
        elif isinstance(answer, Failure) and isinstance(error, EngineError):
            error = type(error)(f"On {handed.node.name}: {error}")
            answer = replace(answer, error=error)
        with self._lock:
            self._judge(handed, error)
        if isinstance(answer, Failure) and isinstance(error, UnreadableOnNodeError):
            # By the name that `begin` compares, which the node itself may not know.
            return replace(answer, error=error.on_node(handed.node.name))
        return answer

    @staticmethod
    def _judge(handed: _Handed, error: Exception | None) -> None:
        """Note how a slide ended, and refuse its node if several in a row have failed there.

        A node that fails fast has the fewest slides at all times, and would be given each next one.
        """
        node = handed.node
        if not _may_be_the_nodes(error):
            node.failed = 0
            node.relapses = node.relapses if error else 0
            return
        if isinstance(error, ActorCrashedError):
            if handed.actor.is_judged:
                return
            handed.actor.is_judged = True
        node.failed += 1
        if node.failed < _MOST_FAILED or node.refusal is not None:
            return
        if isinstance(error, _OF_THE_FILE):
            node.refuse(str(error))
        else:
            node.relapses += 1
            node.refuse(f"{node.failed} slides in a row failed there, the last so: {error}")

    def _free(self, handed: _Handed) -> None:
        with self._lock:
            handed.actor.slides -= 1

    def _forget(self, handed: _Handed) -> None:
        """End an actor, which is replaced. Its process may live and only not be reached."""
        _kill(handed.actor)
        with self._lock:
            if handed.actor in handed.node.actors:
                handed.node.actors.remove(handed.actor)

    def _loss(self, handed: _Handed, error: RayActorError) -> Exception | None:
        """Return what an actor's end means: the node's, or that of its process only.

        Ray notices a node's end later than that of its processes, so None means: ask again. The
        head is not asked here: where it is gone, that takes a minute, and a stop waits for it.
        """
        node = handed.node
        if handed.ended_at is None:
            if handed.actor.is_dismissed:
                return ClusterLostError(f"The process on {node.name} was replaced.")
            handed.ended_at = time.monotonic()
            self._forget(handed)
        if node.id not in self._nodes:
            return ClusterLostError(f"The node {node.name} was lost.")
        now = time.monotonic()
        if now - handed.ended_at < _NODE_DEATH_S or now - self._seen_at > _HEAD_SILENT_S:
            return None
        return node.crash(
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
        """Drop the nodes that died, and see to it that there are the actors that are wanted."""
        living = _living_nodes()
        for id_, found in living.items():
            resources = found.get("Resources", {})
            cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
            plan = self._plan
            room = engines_on(cpus, gpus, cpus_each=plan.cpus, gpus_each=plan.gpus)
            room = min(room, self._order.most_actors)
            if room and id_ not in self._nodes:
                name = found.get("NodeManagerHostname") or found.get("NodeManagerAddress") or id_
                with self._lock:
                    self._nodes[id_] = _Node(id_, name, room, cpus, gpus)
        for id_ in self._nodes.keys() - living.keys():
            with self._lock:
                del self._nodes[id_]
        for node in list(self._nodes.values()):
            self._look_at(node)
        now = time.monotonic()
        with self._lock:
            self._scale = rescaled(self._scale, self._backlog, now, self._order.scaling)
            self._match()
            self._ask_again(now)
            self._seen_at = now
            if not self._wanted() or any(a.is_usable for _, a in self._staying()):
                self._served_at = now
        self._request(self._missing_room())

    def _look_at(self, node: _Node) -> None:
        """Read the reports that have come."""
        for actor in list(node.actors):
            if ray.wait([actor.report], timeout=0)[0]:
                self._read(node, actor)

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
            node.busy_s += report.busy_s - actor.busy_s
            actor.busy_s = report.busy_s
            actor.report = actor.handle.report.remote()

    # The number of actors, with the lock held

    def _usable_nodes(self) -> list[_Node]:
        return [node for node in self._nodes.values() if node.refusal is None]

    def _staying(self) -> list[tuple[_Node, _Actor]]:
        return [(node, actor) for node in self._usable_nodes() for actor in node.staying]

    def _wanted(self) -> int:
        """Return how many actors there should be: no more than could run, but one in any case."""
        wanted = self._scale.engines
        if self._order.scaling.autoscales:
            return wanted
        return min(wanted, max(1, self._room()))

    def _room(self) -> int:
        return sum(node.room for node in self._usable_nodes())

    def _missing_room(self) -> int:
        """Return the number of actors for which a node must be started."""
        if not self._order.scaling.autoscales:
            return 0
        return max(0, self._scale.engines - self._room())

    def _match(self) -> None:
        """Start actors where some are missing, and release those that are too many."""
        missing = self._scale.engines - len(self._staying())
        for _ in range(missing):
            if not self._add_actor():
                break
        for _ in range(-missing):
            # From the node that is the first to have none, so that it can be switched off.
            node, actor = min(
                self._staying(),
                key=lambda each: (each[0].slides, len(each[0].actors), each[1].slides),
            )
            actor.is_leaving = True
        for node in self._nodes.values():
            for actor in [each for each in node.actors if each.is_leaving and not each.slides]:
                node.end(actor)

    def _add_actor(self) -> bool:
        """Keep an actor that was to leave, or start another; False if no node has room for it."""
        nodes = self._usable_nodes()
        leaving = [actor for node in nodes for actor in node.actors if actor.is_leaving]
        if leaving:
            max(leaving, key=lambda actor: actor.slides).is_leaving = False
            return True
        free = [node for node in nodes if len(node.actors) < node.room]
        if free:
            node = min(free, key=lambda node: len(node.actors) / node.room)
            node.actors.append(self._placed(node))
        return bool(free)

    def _ask_again(self, now: float) -> None:
        """Start one actor on each refused node after some time, if engines are wanted at all."""
        for node in self._nodes.values():
            is_over = node.refusal is not None and now - node.refused_at >= node.refused_for_s
            if is_over and self._scale.engines and not node.actors:
                node.actors.append(self._placed(node))

    def _request(self, number: int) -> None:
        """Let so many vacancies wait for a node, which Ray's autoscaler then starts.

        One that has found its place gives it up at once, for the engine that is placed there.
        """
        filled = [each for each in self._vacancies if ray.wait([each.found], timeout=0)[0]]
        surplus = [each for each in self._vacancies if each not in filled][number:]
        for vacancy in (*filled, *surplus):
            ray.kill(vacancy.handle)
            self._vacancies.remove(vacancy)
        if not filled:
            self._vacancies += [self._vacancy() for _ in range(number - len(self._vacancies))]

    def _vacancy(self) -> "_Vacancy":
        refused = [node.id for node in self._nodes.values() if node.refusal is not None]
        elsewhere = {"ray.io/node-id": f"!in({','.join(refused)})"} if refused else None
        handle = (
            ray.remote(Vacancy)
            .options(
                num_cpus=self._order.cpus_taken,
                num_gpus=self._plan.gpus,
                label_selector=elsewhere,
                max_restarts=0,
            )
            .remote()
        )
        return _Vacancy(handle, handle.ready.remote())

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


class DriverManager(BaseManager):
    """Starts the driver process, and ends it."""

    def kill(self) -> None:
        """End the process at once, although it does not answer."""
        self._process.kill()  # type: ignore[attr-defined]


_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no data is sent to third parties
    # Else Ray looks by psutil whether `uv` started this program, for which the unit's sandbox has
    # no /proc/stat (ProcSubset=pid).
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
EXPOSED = ("open", "status", "note_backlog", "begin", "next", "send", "cancel", "give_up")
DriverManager.register("Driver", Driver, exposed=EXPOSED)


def start_driver(order: DriverOrder) -> tuple[DriverManager, Any]:
    """Start the process; return its manager, which ends it, and a proxy of its `Driver`."""
    os.environ.update(_ENVIRONMENT)  # Ray reads it when that process imports it
    manager = DriverManager(ctx=multiprocessing.get_context("spawn"))
    manager.start(initializer=prepare_process)
    return manager, manager.Driver(order)  # type: ignore[attr-defined]


def prepare_process() -> None:
    """End with the daemon, also if it is killed, and leave its stderr to it."""
    # Ray writes all that it has to say into the files of its session, below /tmp/ray.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    end_with_parent()


def _living_nodes() -> dict[str, dict[str, Any]]:
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _kill(actor: _Actor) -> None:
    ray.kill(actor.handle)


def _status_of(node: _Node) -> NodeStatus:
    usable = sum(actor.is_usable for actor in node.staying)
    return NodeStatus(
        node.id,
        node.name,
        _state_of(node),
        usable,
        node.refusal,
        cpus=node.cpus,
        gpus=node.gpus,
        slides=node.slides,
        scored=node.scored,
        lost=node.lost,
        busy_s=node.busy_s,
    )


def _state_of(node: _Node) -> NodeState:
    if node.refusal is not None:
        return "refused"
    if any(actor.is_usable for actor in node.actors):
        return "usable"
    return "starting" if node.actors else "idle"


def _may_be_the_nodes(error: Exception | None) -> bool:
    """Return whether what ended a slide may be its node's fault, as the slide's own."""
    is_lost = isinstance(error, (*_OF_THE_FILE, ActorCrashedError, EngineError))
    return is_lost or is_own_shortage(error)


def _reason(error: BaseException) -> str:
    """Return why Ray does not connect: its first line, or ours where that helps nobody here."""
    reason = _first_line(error)
    if "--address" in reason:
        return (
            "no Ray is found on this machine. Start it, or set [cluster] address to the head's,"
            " such as ray://head.example:10001"
        )
    if reason == _NOTHING_BUT_TIME:
        return (
            "what listens there does not answer; it may ask for TLS or a token that this machine"
            " lacks, or hang"
        )
    return reason


def _first_line(error: BaseException) -> str:
    lines: Callable[[str], list[str]] = str.splitlines
    return next((line.strip() for line in lines(str(error)) if line.strip()), type(error).__name__)
