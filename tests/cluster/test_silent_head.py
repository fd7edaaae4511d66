"""A head that is silent from the start: it takes connections, and answers nothing on them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from ray_nodes import cluster_site, free_port
from silent_relay import SilentRelay
from waiting import wait_until

from her2d.cluster.connection import ClusterConnection
from her2d.cluster.processor import check_order
from her2d.settings import ClusterSettings, InferenceSettings, Settings

pytestmark = pytest.mark.slow

grpc = pytest.importorskip("grpc", reason="grpc is not installed: pip install 'her2d[cluster]'")
pytest.importorskip("ray", reason="ray is not installed: pip install 'her2d[cluster]'")


class SilentService(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Takes every call and answers none until the end, as a proxy whose head hangs."""

    def __init__(self) -> None:
        self.called, self.ended = threading.Event(), threading.Event()

    def service(self, _call: object) -> None:
        self.called.set()
        self.ended.wait()


@pytest.fixture
def silent_service() -> Iterator[tuple[SilentService, int]]:
    service = SilentService()
    server = grpc.server(ThreadPoolExecutor(8), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, port
    service.ended.set()
    server.stop(0).wait()


def test_a_head_that_takes_calls_and_answers_none_is_given_up_with_a_sentence(
    silent_service, color_bundle
):
    service, port = silent_service
    address = f"ray://127.0.0.1:{port}"
    settings = Settings(
        cluster=ClusterSettings(address=address),
        inference=InferenceSettings(backend="onnxruntime", threads=1),
    )
    order = replace(check_order(color_bundle, settings), connect_s=3.0)
    with ClusterConnection(order) as connection:
        assert service.called.wait(240)  # it tries again
        wait_until(lambda: connection.is_told, 240)
        assert connection.problem == (
            f"The cluster {address} has not answered for 3 s. Its head, or a proxy before it, may"
            " hang."
        )


def test_a_daemon_whose_head_takes_calls_and_answers_none_starts_and_stops_cleanly(
    silent_service, tmp_path, color_bundle
):
    service, port = silent_service
    site = cluster_site(tmp_path / "site", color_bundle, f"ray://127.0.0.1:{port}")
    with site.daemon():
        assert service.called.wait(120)
        assert site.wait_for_503("/readyz").strip() == "The cluster is being connected."
    assert site.events()["stop_forced"] == 0


def test_a_daemon_whose_head_takes_connections_only_says_so_and_stops_cleanly(
    tmp_path, color_bundle
):
    with SilentRelay(free_port()) as relay:
        relay.fall_silent()
        address = f"ray://127.0.0.1:{relay.port}"
        site = cluster_site(tmp_path / "site", color_bundle, address)
        # Ray tries three times, each time for twice as long.
        with site.daemon(RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S="1"):
            site.wait_until(lambda: site.events()["cluster_unavailable"] == 1)
            reason = site.wait_for_503("/readyz").strip()
    assert reason.startswith(f"The cluster {address} cannot be reached: ")
    assert "\n" not in reason
    (told,) = [line for line in site.lines() if line["event"] == "cluster_unavailable"]
    assert told["reason"] == reason
    assert site.events()["stop_forced"] == 0
