"""One request to a receiver that misbehaves: a status or an error, by the deadline."""

import gzip
import itertools
import socket
import threading
from collections.abc import Iterator

import pytest
from hostile_receiver import OK, dripping, endless, hostile_receiver
from unreachable_port import DeniedSocket, silent_port

from her2d.webhook.exchange import Answer, DeliveryError, Exchange

SILENT_S = 0.5  # for a status that never comes
LATE_S = 3.0  # for the rest of an answer whose status comes at once
PATIENCE_S = 60.0  # for what comes
MIB = 2**20


def post(url: str, deadline_s: float) -> Answer:
    with Exchange(url, deadline_s) as exchange:
        return exchange.post(b"{}", {"content-type": "application/json"})


BOMB = gzip.compress(bytes(32 * MIB))
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "is_late"),
    [
        pytest.param(
            lambda: itertools.chain([OK + b"\r\n"], endless(b"x", 0.02)), True, id="dripping body"
        ),
        pytest.param(
            lambda: itertools.chain([OK + b"\r\n"], endless(b"x" * 65536)), False, id="endless body"
        ),
        pytest.param(
            lambda: itertools.chain([CHUNKED], endless(b"1\r\nx\r\n", 0.02)),
            True,
            id="dripping chunks",
        ),
        pytest.param(
            lambda: itertools.chain([CHUNKED + b"0\r\n"], endless(b"a: b\r\n" * 999)),
            False,
            id="endless trailer",
        ),
        pytest.param(
            lambda: [OK + b"content-length: 999999999999\r\n\r\n"], True, id="body that never comes"
        ),
        pytest.param(
            lambda: [
                OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB,
            ],
            False,
            id="body that unpacks to 32 MiB",
        ),
        pytest.param(
            lambda: dripping(OK + b"content-length: 2\r\n\r\nok", 0.005), False, id="slow"
        ),
        pytest.param(lambda: [OK + b"content-length: 5\r\n\r\nok"], True, id="body cut short"),
    ],
)
def test_the_status_of_an_answer_counts_whatever_its_body_is(answer, is_late):
    with hostile_receiver(answer) as receiver:
        answer = post(receiver.url, LATE_S if is_late else PATIENCE_S)
        assert (answer.status, answer.is_late) == (200, is_late)
        assert len(answer.body) <= 64 * 1024
        assert receiver.left.wait(PATIENCE_S)  # the connection was closed
    assert receiver.sent < 8 * MIB


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        pytest.param(lambda: [], "No answer within 0.5 s.", id="silence"),
        pytest.param(lambda: dripping(OK * 99), "No answer within 0.5 s.", id="dripping status"),
        pytest.param(
            lambda: itertools.chain([OK], dripping(b"a" * 999)),
            "No answer within 0.5 s.",
            id="dripping header",
        ),
        pytest.param(
            lambda: itertools.chain([OK], endless(b"a: b\r\n" * 999)),
            "RemoteProtocolError",
            id="endless headers",
        ),
        pytest.param(
            lambda: itertools.chain([OK], endless(b"a" * 4096)),
            "RemoteProtocolError",
            id="endless header",
        ),
        pytest.param(
            lambda: endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
            "No answer within 0.5 s.",
            id="endless 100 Continue",
        ),
        pytest.param(
            lambda: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], "RemoteProtocolError", id="not HTTP"
        ),
    ],
)
def test_an_answer_without_a_status_is_an_error_by_the_deadline(answer, why):
    with (
        hostile_receiver(answer) as receiver,
        pytest.raises(DeliveryError, match=why.replace(".", r"\.")),
    ):
        post(receiver.url, SILENT_S if why.startswith("No answer") else PATIENCE_S)
    assert receiver.sent < 8 * MIB


def test_a_receiver_that_does_not_begin_tls_is_an_error_by_the_deadline():
    with (
        hostile_receiver(list, scheme="https") as receiver,
        Exchange(receiver.url, SILENT_S) as exchange,
    ):
        with pytest.raises(DeliveryError, match=r"No answer within 0\.5 s"):
            exchange.post(b"{}", {})
        assert receiver.left.wait(PATIENCE_S)  # the connection was closed, and is not kept


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The URL of a receiver that does not accept connections, because its queue of them is full."""
    with silent_port("127.0.0.1") as port:
        yield f"http://127.0.0.1:{port}/hook"


def test_a_receiver_that_does_not_accept_connections_is_an_error_by_the_deadline(silent_url):
    with pytest.raises(DeliveryError, match=r"No answer within 0\.5 s\.$"):
        post(silent_url, SILENT_S)


def test_a_receiver_that_the_sandbox_drops_packets_to_is_not_said_to_be_silent_only(
    silent_url, monkeypatch
):
    monkeypatch.setattr(socket, "socket", DeniedSocket)
    with pytest.raises(DeliveryError) as found:
        post(silent_url, SILENT_S)
    assert str(found.value) == (
        "No answer within 0.5 s: the sandbox of the systemd unit, or a firewall of this machine,"
        " forbids connections to 127.0.0.1."
    )


def test_an_answer_that_comes_before_the_request_was_read_counts():
    answer = [OK + b"content-length: 0\r\n\r\n"]
    with hostile_receiver(lambda: answer, reads_first=False) as receiver:
        assert post(receiver.url, PATIENCE_S) == Answer(200)


def test_a_resolver_that_hangs_is_asked_once_and_holds_up_neither_deadline_nor_end(monkeypatch):
    asked, goes_on = [], threading.Event()

    def hangs(host, *_rest):
        asked.append(host)
        goes_on.wait(600)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    with Exchange("http://lis.example/hook", 0.2) as exchange:
        for _ in range(3):
            with pytest.raises(DeliveryError, match=r"No answer within 0\.2 s"):
                exchange.post(b"{}", {})
    assert len(asked) == 1
    (lookup,) = (t for t in threading.enumerate() if t.name == "her2d-resolver")
    assert lookup.daemon  # the process does not wait for it when it ends
    goes_on.set()
    lookup.join(10)


def test_a_name_without_an_address_is_an_error_that_says_so(monkeypatch):
    def fails(*_asked):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(DeliveryError, match="Name or service not known"):
        post("http://lis.example/hook", PATIENCE_S)


def test_a_name_that_no_host_can_have_is_an_error_of_the_same_kind():
    with pytest.raises(DeliveryError, match="ConnectError"):
        post(f"http://{'a' * 70}.example/hook", PATIENCE_S)


def test_a_connection_serves_several_requests():
    accepted = []

    def answers():
        accepted.append(1)
        for _ in range(2):
            yield b""
            yield OK + b"content-length: 2\r\n\r\nok"

    with (
        hostile_receiver(answers, reads_first=False) as receiver,
        Exchange(receiver.url, PATIENCE_S) as exchange,
    ):
        assert [exchange.post(b"{}", {}).status for _ in range(2)] == [200, 200]
    assert len(accepted) == 1
