"""`her2d doctor --cluster`, with a driver process that the test plays."""

from types import SimpleNamespace
from typing import Any

import pytest

from her2d.bundle.manifest import BundleError
from her2d.cluster import connection
from her2d.cluster.errors import ClusterUnavailableError
from her2d.cluster.plan import ClusterStatus, NodeStatus
from her2d.doctor import cluster as checks
from her2d.doctor.cluster import cluster_findings
from her2d.doctor.finding import Severity
from her2d.settings import ClusterSettings, InferenceSettings, Settings


@pytest.fixture
def settings() -> Settings:
    return Settings(
        cluster=ClusterSettings(address="ray://head.example:10001"),
        inference=InferenceSettings(backend="onnxruntime"),
    )


@pytest.fixture
def driver(monkeypatch) -> SimpleNamespace:
    driver = SimpleNamespace(
        open=lambda: None, status=ClusterStatus, note_backlog=lambda _: None, orders=[]
    )

    def start(order: Any) -> tuple[Any, Any]:
        driver.orders.append(order)
        return SimpleNamespace(shutdown=lambda: None), driver

    monkeypatch.setattr(connection, "_start_driver", start)
    monkeypatch.setattr(checks, "_NODES_S", 0.5)
    monkeypatch.setattr(checks, "_LOOK_S", 0.01)
    return driver


def found(settings: Settings, bundle: Any) -> dict[str, tuple[Severity, str]]:
    return {f.check: (f.severity, f.message) for f in cluster_findings(settings, bundle)}


def test_each_node_says_what_it_has_and_whether_it_can_be_used(settings, driver, color_bundle):
    nodes = (
        NodeStatus("1", "alpha", "usable", 1, cpus=8.0, gpus=1.0),
        NodeStatus("2", "beta", "refused", 0, "It has another version of her2d: 0, not 1.", cpus=4),
    )
    driver.status = lambda: ClusterStatus(nodes, 2)
    assert found(settings, color_bundle) == {
        "cluster": (Severity.OK, "It has room for 2 engines on 2 nodes."),
        "node alpha": (
            Severity.OK,
            "It has 8 CPUs and 1 GPU, room for 2 engines. Its versions, bundle and engine are as on"
            " this machine.",
        ),
        "node beta": (
            Severity.FAILURE,
            "It has 4 CPUs and 0 GPUs, room for 1 engine. The node is not used. It has another"
            " version of her2d: 0, not 1.",
        ),
    }


def test_a_cluster_of_which_the_settings_leave_a_part_unused_is_a_warning(
    settings, driver, color_bundle
):
    nodes = tuple(NodeStatus(str(n), f"n{n}", "usable", 1, cpus=64) for n in range(2))
    driver.status = lambda: ClusterStatus(nodes, 2)
    (finding, *_) = cluster_findings(settings, color_bundle)
    assert finding.severity is Severity.WARNING
    assert finding.message == (
        "It has room for 32 engines on 2 nodes, and 16 engines at most will be started."
    )
    assert finding.remedy == "To use all of it, set [cluster] most_slides to 64."


def test_a_gpu_for_each_engine_limits_the_room(settings, driver, color_bundle):
    of_gpus = settings.model_copy(
        update={"cluster": settings.cluster.model_copy(update={"actor_gpus": 1})}
    )
    driver.status = lambda: ClusterStatus((NodeStatus("1", "a", "usable", 1, cpus=64, gpus=2),), 2)
    assert found(of_gpus, color_bundle)["cluster"][1] == "It has room for 2 engines on 1 node."


def test_a_cluster_that_scales_may_have_no_node_now(settings, driver, color_bundle):
    scaling = settings.model_copy(
        update={"cluster": settings.cluster.model_copy(update={"autoscales": True})}
    )
    assert found(scaling, color_bundle)["cluster"] == (
        Severity.OK,
        "It has room for 0 engines on 0 nodes now. Ray's autoscaler is asked for up to 16.",
    )


def test_the_check_takes_no_cpu_from_the_daemons_engines(settings, driver, color_bundle):
    driver.status = lambda: ClusterStatus((NodeStatus("1", "alpha", "usable", 1),), 2)
    found(settings, color_bundle)
    assert (driver.orders[0].cpus_taken, driver.orders[0].most_actors) == (0, 1)


def test_a_node_that_does_not_answer_is_a_warning(settings, driver, color_bundle):
    driver.status = lambda: ClusterStatus((NodeStatus("1", "alpha", "starting"),), 0)
    assert found(settings, color_bundle)["node alpha"][0] is Severity.WARNING


def test_a_cluster_without_nodes_is_a_failure(settings, driver, color_bundle):
    severity, message = found(settings, color_bundle)["cluster"]
    assert severity is Severity.FAILURE
    assert "no node" in message


def test_a_cluster_that_does_not_answer_is_a_failure_that_says_why(settings, driver, color_bundle):
    def refuse() -> None:
        raise ClusterUnavailableError("The cluster cannot be reached: no route to host")

    driver.open = refuse
    assert found(settings, color_bundle)["cluster"] == (
        Severity.FAILURE,
        "The cluster cannot be reached: no route to host",
    )


def test_settings_without_a_back_end_are_a_failure(settings, driver, color_bundle):
    open_ended = settings.model_copy(update={"inference": InferenceSettings()})
    assert "needs [inference] backend" in found(open_ended, color_bundle)["cluster"][1]


def test_a_bundle_that_cannot_be_used_is_not_asked_about(settings, driver):
    assert found(settings, BundleError("broken"))["cluster"][0] is Severity.WARNING


def test_without_a_cluster_there_is_nothing_to_ask():
    assert found(Settings(), None)["cluster"][0] is Severity.OK
