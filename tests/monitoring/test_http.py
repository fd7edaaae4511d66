"""/metrics, /healthz and /readyz."""

import json
import socket
import struct
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from her2d.monitoring.http import CannotListenError, OpsServer
from her2d.monitoring.log import configure_logging
from her2d.monitoring.metrics import Metrics
from her2d.monitoring.reading import Reading, StageReading

PATIENCE_S = 60


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def metrics():
    metrics = Metrics()
    stage = StageReading("segment", 40, 10, 2.5, 3, 32)
    metrics.read_from(lambda: Reading(jobs={"queued": 7, "done": 2}, stages=(stage,)))
    return metrics


def serve(metrics, healthy=lambda: None, ready=lambda: None):
    return OpsServer("127.0.0.1", 0, metrics.registry, healthy=healthy, ready=ready)


def test_metrics_are_counters_and_values_read_at_the_scrape(metrics):
    metrics.results.labels("positive").inc()
    with serve(metrics) as server:
        _, text = get(server.port, "/metrics")
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["her2d_slide_results_total", ("positive",)] == 1
    assert samples["her2d_jobs", ("queued",)] == 7
    assert samples["her2d_stage_tiles_total", ("segment",)] == 40
    assert samples["her2d_stage_queue_tiles", ("segment",)] == 3


def test_a_healthy_daemon_answers_ok(metrics):
    with serve(metrics) as server:
        assert get(server.port, "/healthz") == (200, "ok\n")
        assert get(server.port, "/readyz") == (200, "ok\n")


def test_a_daemon_that_is_not_ready_says_why(metrics):
    with serve(metrics, ready=lambda: "The inbox /scans cannot be read.") as server:
        assert get(server.port, "/readyz") == (503, "The inbox /scans cannot be read.\n")
        assert get(server.port, "/healthz")[0] == 200


def logged(capsys, event: str) -> dict:
    """Wait until the event is logged, and return its line, the only one on stderr."""
    text = ""
    deadline = time.monotonic() + PATIENCE_S
    while event not in text:
        assert time.monotonic() < deadline
        text += capsys.readouterr().err
        time.sleep(0.02)
    (line,) = (json.loads(line) for line in text.splitlines())
    assert line["event"] == event
    return line


def test_a_failed_request_is_one_line_of_the_log(capsys):
    configure_logging("json", "info")
    metrics = Metrics()
    metrics.read_from(fails)
    with serve(metrics) as server:
        status, text = get(server.port, "/metrics")
    assert (status, text) == (500, "Failed; see the log.\n")
    assert logged(capsys, "http_request_failed")["exception"][0]["exc_value"] == "no database"


def fails() -> Reading:
    raise OSError("no database")


def test_a_client_that_disconnects_is_one_line_of_the_log(metrics, capsys):
    configure_logging("json", "info")
    with serve(metrics) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /metrics HT")
            reset_when_closed = struct.pack("ii", 1, 0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_when_closed)
        line = logged(capsys, "http_client_disconnected")
    assert line["exception"][0]["exc_type"] == "ConnectionResetError"


def test_another_path_is_not_found(metrics):
    with serve(metrics) as server:
        assert get(server.port, "/admin")[0] == 404


def test_it_serves_over_ipv6(metrics):
    with OpsServer("::1", 0, metrics.registry, healthy=lambda: None, ready=str) as server:
        url = f"http://[::1]:{server.port}/healthz"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"ok\n"


def test_the_error_about_a_port_in_use_names_the_port_and_its_setting(metrics):
    with (
        serve(metrics) as server,
        pytest.raises(CannotListenError, match=rf"127\.0\.0\.1:{server.port}: .* \[ops\] port"),
    ):
        OpsServer("127.0.0.1", server.port, metrics.registry, healthy=str, ready=str)


def test_the_port_is_free_again_after_closing(metrics):
    with serve(metrics) as server:
        port = server.port
    with OpsServer("127.0.0.1", port, metrics.registry, healthy=str, ready=str) as again:
        assert again.port == port
