"""What the driver makes of actors and nodes that end, with a Ray that the test plays."""

import pickle
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from her2d.cluster.errors import ClusterUnavailableError
from her2d.cluster.node import Vacancy
from her2d.cluster.plan import Failure, NodeReport, Part, Progress, SlideTask
from her2d.cluster.scaling import ScalingRules
from her2d.inference.engine import DeviceLostError, EngineError
from her2d.processing.engine_health import EngineDownError
from her2d.processing.errors import (
    ActorCrashedError,
    ClusterLostError,
    ResultLostError,
    ScanNotOnNodeError,
    UnreadableOnNodeError,
)

pytestmark = pytest.mark.slow  # importing Ray takes a second

driver = pytest.importorskip(
    "her2d.cluster.driver",
    reason="ray is not installed: pip install 'her2d[cluster]'",
    exc_type=ImportError,
)


class PlayedRay:
    """Ray with nodes that the test adds and removes. A reference is a list with its value."""

    def __init__(self) -> None:
        self.living: dict[str, float] = {}
        self.placed: list[PlayedActor] = []
        self.vacancies: list[PlayedVacancy] = []
        self.reports: dict[str, Any] = {}
        self.answer: Any = None
        self.options: dict[str, Any] = {}
        self.is_gone = False

    def nodes(self) -> list[dict[str, Any]]:
        if self.is_gone:
            raise driver.RayError("no head")
        return [
            {"NodeID": id_, "NodeManagerHostname": id_, "Alive": True, "Resources": {"CPU": cpus}}
            for id_, cpus in self.living.items()
        ]

    def remote(self, class_: type) -> Any:
        def options(**options: Any) -> Any:
            if class_ is Vacancy:
                vacancy = PlayedVacancy(options)
                self.vacancies.append(vacancy)
                return SimpleNamespace(remote=lambda: vacancy)
            actor = PlayedActor(self, options["scheduling_strategy"].node_id)
            self.options = options
            self.placed.append(actor)
            return SimpleNamespace(remote=lambda *_: actor)

        return SimpleNamespace(options=options)

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        done = [each for each in references if each[0] is not None]
        return done, [each for each in references if each[0] is None]

    def get(self, reference: Any, timeout: float | None = None) -> Any:
        if isinstance(reference[0], Exception):
            raise reference[0]
        return reference[0]

    def kill(self, actor: "PlayedActor | PlayedVacancy") -> None:
        actor.is_killed = True

    @property
    def wanting(self) -> "list[PlayedVacancy]":
        """The vacancies for which Ray's autoscaler starts nodes."""
        return [each for each in self.vacancies if not each.is_killed]


class PlayedVacancy:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.is_killed = options, False
        self.found: list[Any] = [None]
        self.ready = SimpleNamespace(remote=lambda: self.found)


class PlayedActor:
    def __init__(self, ray: PlayedRay, node: str) -> None:
        self._ray, self.node, self.is_killed = ray, node, False
        self.reports = lambda: ray.reports.get(node, NodeReport(None))
        self.report = SimpleNamespace(remote=lambda: [self.reports()])
        self.progress = SimpleNamespace(remote=lambda _: [Progress(3, 9)])
        self.parts: list[tuple[str, Part]] = []
        self.tasks: list[SlideTask] = []
        score = SimpleNamespace(remote=self._score)
        self.receive = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._part))
        self.score = SimpleNamespace(options=lambda **_: score)

    def _score(self, task: SlideTask) -> list[Any]:
        self.tasks.append(task)
        return [self._ray.answer]

    def _part(self, *part: Any) -> list[Any]:
        self.parts.append(part)
        return [True]


@pytest.fixture
def ray(monkeypatch) -> PlayedRay:
    played = PlayedRay()
    for name in ("nodes", "remote", "wait", "get", "kill"):
        monkeypatch.setattr(driver.ray, name, getattr(played, name))
    monkeypatch.setattr(
        driver,
        "NodeAffinitySchedulingStrategy",
        lambda node_id, soft: SimpleNamespace(node_id=node_id),
    )
    monkeypatch.setattr(driver, "_REFRESH_S", 0.01)
    monkeypatch.setattr(driver, "_NODE_DEATH_S", 0.05)
    return played


@pytest.fixture
def cluster(ray) -> Any:
    """A driver of a cluster with two nodes of two CPUs, whose actors have reported."""
    ray.living = {"alpha": 2.0, "beta": 2.0}
    return driver_with(ScalingRules(32, 32, 2, 600.0))


def driver_with(scaling: ScalingRules) -> Any:
    plan: Any = SimpleNamespace(cpus=2, gpus=0, pipeline=SimpleNamespace(slides_in_flight=2))
    order: Any = SimpleNamespace(
        plan=plan, cpus_taken=2, most_actors=32, address="auto", scaling=scaling
    )
    found = driver.Driver(order)
    found._refresh()
    found._refresh()
    return found


def task(number: int = 1) -> SlideTask:
    return SlideTask(str(number), Path("a.tif"), None, 3, 0, "blake2b:0", None)


def states(cluster: Any) -> dict[str, str]:
    return {node.name: node.state for node in cluster.status().nodes}


def ending(cluster: Any, ray: PlayedRay, answer: Any, number: int = 1) -> Exception:
    """Hand out a slide that ends with `answer`, and return the error of its failure."""
    ray.answer = answer
    assert cluster.begin(task(number))
    while (found := cluster.next(str(number), 0.01)) is None:
        cluster._refresh()
    assert isinstance(found, Failure)
    return found.error


@pytest.mark.parametrize("listens", [True, False])
def test_a_cluster_that_ray_does_not_reach_is_reported_with_the_reason_if_there_is_one(
    cluster, monkeypatch, listens
):
    def init(**_: object) -> None:
        raise ConnectionError("ray client connection timeout")

    monkeypatch.setattr(driver, "parity_reference", lambda _: None)
    monkeypatch.setattr(driver.ray, "init", init, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not listens:
            server.close()
        address = f"ray://127.0.0.1:{port}"
        cluster._order = SimpleNamespace(address=address, bundle=None, connect_s=60.0)
        with pytest.raises(ClusterUnavailableError) as unavailable:
            cluster.open()
    reason = (
        "what listens there does not answer; it may ask for TLS or a token that this machine"
        " lacks, or hang."
    )
    if not listens:
        reason = f"nothing listens on port {port} of 127.0.0.1."
    assert str(unavailable.value) == f"The cluster {address} cannot be reached: {reason}"


def test_a_head_that_ray_waits_for_and_that_does_not_listen_is_not_said_to_hang(
    cluster, monkeypatch
):
    ended = threading.Event()

    def init(**_: object) -> None:
        ended.wait(60)
        raise ConnectionError("The test has ended.")

    monkeypatch.setattr(driver, "parity_reference", lambda _: None)
    monkeypatch.setattr(driver.ray, "init", init, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"127.0.0.1:{port}"
    cluster._order = SimpleNamespace(address=address, bundle=None, connect_s=0.1)
    with pytest.raises(ClusterUnavailableError) as unavailable:
        cluster.open()
    ended.set()
    reason = f"nothing listens on port {port} of 127.0.0.1"
    assert str(unavailable.value) == f"The cluster {address} cannot be reached: {reason}."


def test_a_machine_without_ray_is_reported_with_the_setting_that_helps(cluster, monkeypatch):
    services = "ray._private.services"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Another test may run a cluster meanwhile.
    monkeypatch.setattr(f"{services}.find_gcs_addresses", cache(set))
    monkeypatch.setattr(f"{services}.find_bootstrap_address", lambda _folder: None)
    monkeypatch.setattr(driver, "parity_reference", lambda _: None)
    cluster._order = SimpleNamespace(address="auto", bundle=None, connect_s=60.0)
    with pytest.raises(ClusterUnavailableError) as unavailable:
        cluster.open()
    assert str(unavailable.value) == (
        "The cluster auto cannot be reached: no Ray is found on this machine. Start it, or set"
        " [cluster] address to the head's, such as ray://head.example:10001."
    )


def test_the_status_ages_while_a_silent_head_keeps_the_driver_waiting(cluster, monkeypatch):
    monkeypatch.setattr(driver, "_STATUS_WAITS_S", 0.01)
    before = cluster.status()
    cluster._seen_at -= 40
    with cluster._lock:  # as while an actor is placed
        waiting = cluster.status()
    assert waiting.nodes == before.nodes
    assert waiting.age_s >= 40


def test_a_call_to_a_frozen_process_ends_when_the_process_is_killed():
    process, proxy = driver.start_driver(SimpleNamespace(plan=None))
    psutil.Process(process._process.pid).suspend()
    try:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(proxy.status)
            with pytest.raises(TimeoutError):
                call.result(0.5)
            process.kill()
            with pytest.raises((EOFError, OSError)):
                call.result(60)
    finally:
        process.kill()
        process.shutdown()


def test_each_node_has_the_actors_that_its_cpus_allow_and_ray_retries_nothing(cluster, ray):
    assert [actor.node for actor in ray.placed] == ["alpha", "beta"]
    assert (ray.options["max_restarts"], ray.options["max_task_retries"]) == (0, 0)
    assert ray.options["num_cpus"] == 2
    assert cluster.status().places == 4
    ray.living["gamma"] = 5.0
    ray.living["small"] = 1.0
    cluster._refresh()
    cluster._refresh()
    assert cluster.status().places == 8
    assert states(cluster) == dict.fromkeys(("alpha", "beta", "gamma"), "usable")


def test_a_slide_goes_to_the_actor_with_the_fewest_until_none_has_a_place(cluster):
    assert [cluster.begin(task(number)) for number in range(5)] == [True] * 4 + [False]
    assert {node.actors[0].slides for node in cluster._nodes.values()} == {2}


def unreadable(number: int, *nodes: str) -> SlideTask:
    return replace(task(number), unreadable_on=frozenset(nodes), can_be_sent=True)


def test_a_slide_waits_for_the_nodes_that_have_not_failed_to_read_it(cluster, ray):
    assert [cluster.begin(unreadable(number, "alpha")) for number in range(3)] == [
        True,
        True,
        False,
    ]
    alpha, beta = ray.placed
    assert alpha.tasks == []
    assert [each.is_sent for each in beta.tasks] == [False, False]


@pytest.mark.parametrize("can_be_sent", [True, False])
def test_a_slide_that_no_node_can_read_is_sent_to_one_if_it_can_be(cluster, ray, can_be_sent):
    slide = replace(unreadable(1, "alpha", "beta"), can_be_sent=can_be_sent)
    assert cluster.begin(slide)
    (found,) = ray.placed[0].tasks
    assert found.is_sent is can_be_sent


def test_a_node_that_cannot_read_a_slide_is_named_as_the_cluster_names_it(cluster, ray):
    cause = OSError(5, "I/O error")
    answer = Failure(UnreadableOnNodeError("a.tif", "pod-7", "I/O error"), cause)
    ray.answer = answer
    assert cluster.begin(task())
    while (found := cluster.next("1", 0.01)) is None:
        pass
    assert isinstance(found, Failure)
    assert isinstance(found.error, UnreadableOnNodeError)
    assert (found.error.node, found.cause) == ("alpha", cause)


def test_a_node_that_reads_no_slide_is_not_used_for_a_while(cluster, ray):
    for number in range(3):
        error = UnreadableOnNodeError("a.tif", "alpha", "I/O error")
        ray.answer = Failure(error)
        assert cluster.begin(unreadable(number, "beta"))
        while cluster.next(str(number), 0.01) is None:
            pass
    assert states(cluster) == {"alpha": "refused", "beta": "usable"}


def test_a_slide_that_is_not_done_reports_its_progress_now_and_then(cluster, monkeypatch):
    cluster.begin(task())
    assert cluster.next("1", 0) is None
    monkeypatch.setattr(driver, "_FIRST_PROGRESS_S", 0.0)
    assert cluster.next("1", 0) == Progress(3, 9)
    assert cluster.next("1", 0) is None  # tiles are being scored
    monkeypatch.setattr(driver, "_PROGRESS_S", 0.0)
    assert cluster.next("1", 0) == Progress(3, 9)


def test_a_node_that_lacks_the_file_is_asked_often_until_it_scores(cluster, ray, monkeypatch):
    monkeypatch.setattr(driver, "_FIRST_PROGRESS_S", 0.0)
    lacks = Progress(waited=1, wants_file=True)
    ray.placed[0].progress = SimpleNamespace(remote=lambda _: [lacks])
    cluster.begin(task())
    assert [cluster.next("1", 0) for _ in range(3)] == [lacks] * 3


def test_a_part_is_not_sent_while_the_node_has_not_taken_those_before(cluster, ray):
    """A daemon that stops does not wait for a slow network."""
    cluster.begin(task())
    taken: list[list[Any]] = [[None], [True], [True], [True]]
    ray.placed[0].receive = SimpleNamespace(
        options=lambda **_: SimpleNamespace(remote=lambda *_: taken[len(sent) - 1])
    )
    sent: list[bool | None] = []
    for _ in range(2):
        sent.append(True)
        assert cluster.send("1", Part(0, b"x")) is True
    assert cluster.send("1", Part(2, b"x")) is None
    assert cluster.send("1", Part(2, b"x")) is None
    taken[0][0] = True
    assert cluster.send("1", Part(2, b"x")) is True


def test_an_actor_that_ends_with_its_node_is_no_fault_of_the_slide(cluster, ray):
    ray.answer = driver.RayActorError()
    assert cluster.begin(task())
    assert cluster.next("1", 0) is None
    del ray.living["alpha"]
    cluster._refresh()
    assert isinstance(cluster.next("1", 0).error, ClusterLostError)


def test_an_actor_that_ends_on_a_living_node_may_be_the_slides_fault_and_is_replaced(cluster, ray):
    assert isinstance(ending(cluster, ray, driver.RayActorError()), ActorCrashedError)
    assert ray.placed[0].is_killed
    cluster._refresh()
    cluster._refresh()
    assert cluster.status().places == 4


@pytest.mark.parametrize("end", [driver.RayActorError(), Failure(DeviceLostError("fell off"))])
def test_the_daemon_learns_which_node_ended_a_slide_and_how_many_it_had_scored(cluster, ray, end):
    del ray.living["beta"]
    cluster._refresh()
    ray.answer = SimpleNamespace()
    cluster.begin(task(1))
    cluster.next("1", 0)
    error = pickle.loads(pickle.dumps(ending(cluster, ray, end, 2)))  # noqa: S301
    assert isinstance(error, ActorCrashedError)
    assert (error.node, error.scored) == ("alpha", 1)
    assert "alpha" in str(error)


def test_a_slide_is_not_blamed_while_the_head_is_gone_and_a_stop_need_not_wait_for_it(
    cluster, ray, monkeypatch
):
    ray.answer = driver.RayActorError()
    cluster.begin(task())
    ray.is_gone = True  # who asks it now waits for a minute
    monkeypatch.setattr(driver, "_HEAD_SILENT_S", 0.0)
    monkeypatch.setattr(driver, "_NODE_DEATH_S", 0.0)
    assert cluster.next("1", 0) is None
    assert cluster.next("1", 0) is None
    monkeypatch.setattr(driver, "_HEAD_SILENT_S", 60.0)
    assert isinstance(cluster.next("1", 0).error, ActorCrashedError)


def test_a_result_that_does_not_arrive_is_computed_again(cluster, ray):
    """As when the node dies before the result was fetched."""
    error = ending(cluster, ray, driver.RayError("ObjectLostError: gone"))
    assert isinstance(error, ClusterLostError)
    assert "ObjectLostError" in str(error)


@pytest.mark.parametrize("full", [driver.ObjectStoreFullError, driver.OutOfDiskError])
def test_a_node_without_room_for_results_gets_no_slides_for_a_while(cluster, ray, full):
    error = ending(cluster, ray, full("no space"))
    assert isinstance(error, ResultLostError)
    assert "The node alpha has no room for the result" in str(error)
    assert [cluster.begin(task(number)) for number in range(4)] == [True, True, False, False]
    assert not any(actor.is_killed for actor in ray.placed)
    for node in cluster._nodes.values():
        node.full_until = 0.0
    assert cluster.begin(task(5))


def test_a_lost_gpu_costs_the_actor_and_not_the_daemon(cluster, ray):
    error = ending(cluster, ray, Failure(DeviceLostError("The GPU is lost.")))
    assert isinstance(error, ActorCrashedError)
    assert "alpha: The GPU is lost." in str(error)
    assert ray.placed[0].is_killed


def test_a_node_that_finds_no_slide_does_not_draw_all_of_them(cluster, ray):
    not_there = Failure(ScanNotOnNodeError("The node alpha cannot open a.tif."))
    del ray.living["beta"]
    cluster._refresh()
    for number in range(3):
        ending(cluster, ray, not_there, number)
    assert states(cluster) == {"alpha": "refused"}
    assert not cluster.begin(task(4))


@pytest.mark.parametrize(
    "error",
    [
        EngineError("no memory"),
        EngineDownError("no memory"),
        DeviceLostError("no device"),
        MemoryError("no memory"),
    ],
)
def test_a_node_whose_engine_fails_fast_does_not_draw_all_slides(cluster, ray, error):
    for number in (10, 11):  # which the other node is busy with
        assert cluster.begin(unreadable(number, "alpha"))
    for number in range(3):
        ended = ending(cluster, ray, Failure(error), number)
        assert isinstance(error, MemoryError) or str(ended).startswith("On alpha: no ")
        cluster._refresh()
        cluster._refresh()
    alpha, beta = cluster.status().nodes
    assert str(alpha.refusal).startswith("3 slides in a row failed there, the last so: ")
    assert beta.state == "usable"
    assert not cluster.begin(task(3))


def test_a_node_that_fails_again_and_again_is_asked_more_seldom_until_it_scores(cluster, ray):
    """Its check finds nothing, and each slide that it gets may lose an attempt for it."""
    del ray.living["beta"]
    cluster._refresh()
    waits = []
    for _ in range(6):
        for number in range(3):
            ending(cluster, ray, Failure(EngineDownError("no memory")), number)
        (alpha,) = cluster._nodes.values()
        waits.append(alpha.refused_for_s)
        cluster._refresh()
        assert not alpha.actors
        alpha.refused_at -= alpha.refused_for_s
        cluster._refresh()
        cluster._refresh()
        assert states(cluster) == {"alpha": "usable"}
    assert waits == [60, 120, 240, 480, 600, 600]
    ray.answer = "result"
    cluster.begin(task(9))
    assert cluster.next("9", 0.01) == "result"
    assert alpha.refused_for_s == 60


def test_a_process_that_ends_with_several_slides_counts_once(cluster, ray):
    del ray.living["beta"]
    cluster._refresh()
    for number in range(2):
        assert cluster.begin(task(number))
    for handed in cluster._slides.values():
        handed.answer[0] = driver.RayActorError()
    for number in range(2):
        while cluster.next(str(number), 0.01) is None:
            cluster._refresh()
    assert next(iter(cluster._nodes.values())).failed == 1


def test_a_refused_node_is_asked_again_after_a_while(cluster, ray, monkeypatch):
    ray.reports["gamma"] = NodeReport("It has another version of her2d.")
    ray.living["gamma"] = 2.0
    for _ in range(3):
        cluster._refresh()
    assert states(cluster)["gamma"] == "refused"
    placed = len(ray.placed)
    ray.reports["gamma"] = NodeReport(None)
    cluster._refresh()
    assert len(ray.placed) == placed  # not at once
    monkeypatch.setattr(driver, "_REFUSED_AGAIN_S", 0.0)
    cluster._refresh()
    assert states(cluster)["gamma"] == "refused"  # until it has answered
    cluster._refresh()
    assert states(cluster)["gamma"] == "usable"


def test_a_node_without_her2d_is_refused_with_what_ray_says(cluster, ray):
    ray.reports["gamma"] = driver.RayError("ModuleNotFoundError: No module named 'her2d'")
    ray.living["gamma"] = 2.0
    for _ in range(2):
        cluster._refresh()
    (gamma,) = [node for node in cluster.status().nodes if node.name == "gamma"]
    assert "could not start: ModuleNotFoundError: No module named 'her2d'" in str(gamma.refusal)


def test_a_node_that_leaves_is_forgotten(cluster, ray):
    del ray.living["beta"]
    cluster._refresh()
    assert states(cluster) == {"alpha": "usable"}


def test_a_slide_whose_actor_was_ended_for_another_ones_file_is_not_blamed(cluster, ray):
    del ray.living["beta"]
    cluster._refresh()
    cluster.begin(task(9))
    under_way = cluster._slides["9"].answer
    for number in range(3):
        ending(cluster, ray, Failure(ScanNotOnNodeError("It is not there.")), number)
    assert states(cluster) == {"alpha": "refused"}
    under_way[0] = driver.RayActorError()
    assert isinstance(cluster.next("9", 0).error, ClusterLostError)


def test_a_node_where_a_slide_hangs_is_not_used_for_a_while(cluster, ray):
    assert all(cluster.begin(task(number)) for number in range(4))
    on_alpha = [id_ for id_, handed in cluster._slides.items() if handed.node.name == "alpha"]
    hanging, other = on_alpha
    answer = cluster._slides[other].answer
    ended = cluster.give_up(hanging, 630.2)
    assert (ended.node, ended.scored, str(ended)) == (
        "alpha",
        0,
        "The node alpha made no progress with the slide for 630 s. Its storage may hang.",
    )
    assert states(cluster) == {"alpha": "refused", "beta": "usable"}
    assert ray.placed[0].is_killed
    answer[0] = driver.RayActorError()
    assert isinstance(cluster.next(other, 0).error, ClusterLostError)  # not its fault
    assert sum(node.slides for node in cluster.status().nodes) == 2


def test_a_slide_can_be_cancelled_while_its_process_is_found_to_have_ended(cluster, ray):
    """A stop waits for the answer, and Ray may notice a node's end only after 20 s."""
    ray.answer = driver.RayActorError()
    cluster.begin(task())
    assert cluster.next("1", 0) is None
    cluster.cancel(task())
    assert sum(node.slides for node in cluster.status().nodes) == 0


@pytest.fixture
def scaling(ray) -> Any:
    """A driver of four nodes that keeps one engine, and releases the others at once."""
    ray.living = dict.fromkeys(("alpha", "beta", "gamma", "delta"), 2.0)
    return driver_with(ScalingRules(1, 8, 2, 0.0))


def settle(cluster: Any, slides: int) -> None:
    """Let a backlog be noted, and its engines start and answer."""
    cluster.note_backlog(slides)
    for _ in range(3):
        cluster._refresh()


def test_there_are_as_many_engines_as_the_slides_need_and_the_nodes_allow(scaling, ray):
    assert (scaling.status().places, len(ray.placed)) == (2, 1)
    settle(scaling, 5)
    assert (scaling.status().places, scaling.status().wanted) == (6, 3)
    assert len({actor.node for actor in ray.placed}) == 3
    settle(scaling, 100)
    assert (scaling.status().places, scaling.status().wanted) == (8, 4)


def test_engines_that_no_slide_needs_end_and_their_nodes_are_idle(scaling, ray):
    settle(scaling, 8)
    settle(scaling, 0)
    assert scaling.status().places == 2
    assert sum(actor.is_killed for actor in ray.placed) == 3
    assert sorted(states(scaling).values()) == ["idle", "idle", "idle", "usable"]


def test_an_engine_is_released_after_its_slides_and_gets_no_further_one(scaling, ray):
    settle(scaling, 8)
    assert all(scaling.begin(task(number)) for number in range(8))
    settle(scaling, 1)
    assert scaling.status().places == 2
    assert not any(actor.is_killed for actor in ray.placed)
    assert not scaling.begin(task(9))
    for number in range(8):
        scaling._slides[str(number)].answer[0] = Failure(ValueError("of the slide"))
        assert isinstance(scaling.next(str(number), 0), Failure)
    scaling._refresh()
    assert sum(actor.is_killed for actor in ray.placed) == 3
    assert scaling.begin(task(9))


def test_an_engine_that_would_leave_stays_when_slides_come(scaling, ray):
    settle(scaling, 8)
    assert all(scaling.begin(task(number)) for number in range(8))
    settle(scaling, 1)
    settle(scaling, 8)
    assert (scaling.status().places, len(ray.placed)) == (8, 4)


def test_an_idle_cluster_whose_node_is_refused_does_not_ask_it_again(ray, monkeypatch):
    monkeypatch.setattr(driver, "_REFUSED_AGAIN_S", 0.0)
    ray.reports["alpha"] = NodeReport("It has another version of her2d.")
    ray.living = {"alpha": 2.0}
    cluster = driver_with(ScalingRules(0, 8, 2, 0.0))
    assert ray.placed == []
    settle(cluster, 1)
    settle(cluster, 0)
    placed = len(ray.placed)
    settle(cluster, 0)
    assert placed > 0
    assert len(ray.placed) == placed


def test_rays_autoscaler_is_asked_for_the_engines_that_no_node_has_room_for(ray):
    ray.living = {"alpha": 2.0}
    cluster = driver_with(ScalingRules(0, 3, 2, 0.0, autoscales=True))
    assert ray.wanting == []
    settle(cluster, 100)
    assert (cluster.status().wanted, cluster.status().requested) == (3, 2)
    assert [each.options["num_cpus"] for each in ray.wanting] == [2, 2]
    ray.living["beta"] = 2.0
    ray.wanting[0].found[0] = True  # Ray has placed it there, where the engine is to be
    settle(cluster, 100)
    assert (cluster.status().places, len(ray.wanting)) == (4, 1)
    settle(cluster, 0)
    assert (cluster.status().places, ray.wanting) == (0, [])


def test_room_on_a_refused_node_is_not_what_is_asked_for(ray):
    ray.living = {"alpha": 2.0}
    ray.reports["alpha"] = NodeReport("It has another version of her2d.")
    cluster = driver_with(ScalingRules(1, 3, 2, 0.0, autoscales=True))
    cluster._refresh()
    assert ray.wanting[-1].options["label_selector"] == {"ray.io/node-id": "!in(alpha)"}


def test_nobody_is_asked_where_the_cluster_does_not_scale(scaling, ray):
    settle(scaling, 100)
    assert ray.vacancies == []


def test_what_a_node_did_is_counted(cluster, ray):
    ending(cluster, ray, Failure(ScanNotOnNodeError("elsewhere")), 1)
    ray.answer = SimpleNamespace()
    cluster.begin(task(2))
    cluster.next("2", 0)
    for actor in ray.placed:
        actor.report = SimpleNamespace(remote=lambda: [NodeReport(None, 7.5)])
    cluster._refresh()
    cluster._refresh()
    nodes = cluster.status().nodes
    assert (sum(node.scored for node in nodes), sum(node.lost for node in nodes)) == (1, 1)
    assert [node.busy_s for node in nodes] == [7.5, 7.5]


def test_parts_of_a_file_go_to_the_actor_that_scores_it_and_few_are_under_way(
    cluster, ray, monkeypatch
):
    waited_for: list[Any] = []
    get = ray.get
    monkeypatch.setattr(driver.ray, "get", lambda *a, **k: waited_for.append(a) or get(*a, **k))
    cluster.begin(task())
    for number in range(5):
        assert cluster.send("1", Part(number, b"x"))
        assert len(cluster._slides["1"].parts) <= 2
    assert ray.placed[0].parts == [("1", Part(number, b"x")) for number in range(5)]
    assert len(waited_for) == 3


def test_no_part_is_sent_of_a_slide_that_has_ended(cluster, ray):
    ray.answer = Failure(ScanNotOnNodeError("There is no room."))
    cluster.begin(task())
    assert not cluster.send("1", Part(0, b"x"))
    assert ray.placed[0].parts == []


def test_a_part_that_a_lost_node_cannot_take_ends_the_sending(cluster, ray):
    cluster.begin(task())
    cluster._slides["1"].parts[:] = [[driver.RayActorError()]] * 2
    assert not cluster.send("1", Part(0, b"x"))


def test_a_node_that_answers_late_about_a_part_gets_the_next_one_later(cluster, ray):
    cluster.begin(task())
    late: list[Any] = [driver.GetTimeoutError("not within 5 s")]
    cluster._slides["1"].parts[:] = [late, [True]]
    assert cluster.send("1", Part(2, b"x")) is None
    assert ray.placed[0].parts == []
    late[0] = True
    assert cluster.send("1", Part(2, b"x"))
    assert ray.placed[0].parts == [("1", Part(2, b"x"))]
