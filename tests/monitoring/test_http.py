"""/metrics, /healthz and /readyz."""

import contextlib
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from her2d.monitoring import http
from her2d.monitoring.http import CannotListenError, OpsServer
from her2d.monitoring.log import configure_logging
from her2d.monitoring.metrics import Metrics
from her2d.monitoring.reading import Reading, StageReading

PATIENCE_S = 60


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
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
    return OpsServer(
        "127.0.0.1",
        0,
        metrics.registry,
        healthy=healthy,
        ready=ready,
        on_drop=metrics.clients_dropped.inc,
    )


def dropped(metrics) -> float | None:
    return metrics.registry.get_sample_value("her2d_http_clients_dropped_total")


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
        assert dropped(metrics) == 0


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


@pytest.fixture
def connected() -> Iterator[Callable[[int, bytes], socket.socket]]:
    """Open connections that stay open until the end of the test, each after some first bytes."""
    with contextlib.ExitStack() as clients:

        def connect(port: int, first: bytes = b"") -> socket.socket:
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(first)
            return client

        yield connect


def own_threads() -> int:
    return sum(thread.name.startswith("her2d-http") for thread in threading.enumerate())


def test_idle_and_slow_clients_take_no_threads_and_delay_no_other_client(
    metrics, connected, monkeypatch
):
    monkeypatch.setattr(http, "_DEADLINE_S", 3600.0)  # none leaves meanwhile
    with serve(metrics) as server:
        before = own_threads()
        for _ in range(200):
            connected(server.port)
        for _ in range(50):
            connected(server.port, b"GET /healthz HT")
        assert get(server.port, "/healthz")[0] == 200
        assert get(server.port, "/metrics")[0] == 200
        assert own_threads() == before


def test_a_client_that_sends_no_request_is_dropped(metrics, connected, monkeypatch):
    monkeypatch.setattr(http, "_DEADLINE_S", 0.3)
    with serve(metrics) as server:
        idle, slow = connected(server.port), connected(server.port, b"GET /healthz HTTP/1.1")
        assert is_dropped(idle)
        assert is_dropped(slow)
        assert dropped(metrics) == 2


def test_a_client_that_sends_a_byte_at_a_time_is_dropped_at_the_same_deadline(
    metrics, connected, monkeypatch
):
    monkeypatch.setattr(http, "_DEADLINE_S", 0.5)
    with serve(metrics) as server:
        client = connected(server.port, b"GET /healthz HTTP/1.1\r\nX: ")
        with contextlib.suppress(OSError):
            for _ in range(20 * PATIENCE_S):
                client.sendall(b"x")
                time.sleep(0.05)
        assert is_dropped(client)


def test_a_client_that_does_not_read_is_dropped(metrics, connected, monkeypatch):
    monkeypatch.setattr(http, "_DEADLINE_S", 0.5)
    for number in range(20_000):
        metrics.results.labels(f"status {number}")
    with serve(metrics) as server:
        connected(server.port, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        deadline = time.monotonic() + PATIENCE_S
        while server._open or time.monotonic() < deadline - PATIENCE_S + 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_beyond_the_most_connections_the_oldest_is_dropped(metrics, connected, monkeypatch):
    monkeypatch.setattr(http, "_MOST_CONNECTIONS", 20)
    with serve(metrics) as server:
        clients = [connected(server.port) for _ in range(40)]
        assert get(server.port, "/healthz") == (200, "ok\n")
        assert all(is_dropped(client) for client in clients[:20])
        assert dropped(metrics) == 21


def is_dropped(client: socket.socket) -> bool:
    """Return whether the server closes the connection without an answer."""
    client.settimeout(PATIENCE_S)
    try:
        return client.recv(100) == b""
    except ConnectionError:
        return True


def raw(port: int, request: bytes) -> bytes:
    """Send bytes, and return all that the server answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_head_has_the_headers_of_get_and_no_body(metrics, path):
    with serve(metrics) as server:
        head = raw(server.port, f"HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    headers, _, body = head.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Length: " in headers
    assert body == b""


@pytest.mark.parametrize("path", ["/healthz/", "/healthz?a=1", "/readyz/", "/metrics/"])
def test_a_slash_at_the_end_or_a_query_changes_nothing(metrics, path):
    with serve(metrics) as server:
        assert get(server.port, path)[0] == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", b"405"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01 tls", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 100_000 + b"\r\n\r\n", b"431"),
        (b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
    ],
    ids=["post", "HTTP 0.9", "TLS", "long header", "address"],
)
def test_what_is_not_a_request_for_a_page_is_refused(metrics, request_, status, monkeypatch):
    monkeypatch.setattr(http, "_LINGER_S", PATIENCE_S)
    with serve(metrics) as server:
        assert raw(server.port, request_).split(b" ")[1] == status
        assert get(server.port, "/healthz")[0] == 200


def test_a_client_still_sending_when_it_is_refused_receives_the_whole_answer(metrics, monkeypatch):
    monkeypatch.setattr(http, "_LINGER_S", PATIENCE_S)
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 5_000_000
    with serve(metrics) as server:
        answer = raw(server.port, request)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.endswith(b"The request is not HTTP.\n")


def test_an_answered_client_that_stays_connected_is_disconnected_and_not_counted(
    metrics, connected, monkeypatch
):
    monkeypatch.setattr(http, "_LINGER_S", 0.1)
    with serve(metrics) as server:
        client = connected(server.port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        deadline = time.monotonic() + PATIENCE_S
        while server._open:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert dropped(metrics) == 0


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
