"""Why another program cannot be reached, over real sockets of this machine."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from unreachable_port import DeniedSocket, silent_port

from her2d.system import connections
from her2d.system.connections import are_dropped_here, connection_problem

HOST = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0), backlog=0) as found:
        yield found


@pytest.fixture
def silent(monkeypatch) -> Iterator[int]:
    """A port that answers nothing, and is given up soon."""
    monkeypatch.setattr(connections, "_ANSWER_S", 0.2)
    with silent_port(HOST) as port:
        yield port


def test_a_program_that_listens_is_reached(listener):
    assert connection_problem(HOST, listener.getsockname()[1]) is None


def test_a_port_on_which_nothing_listens_is_named(listener):
    port = listener.getsockname()[1]
    listener.close()
    assert connection_problem(HOST, port) == f"nothing listens on port {port} of {HOST}"


def test_a_host_that_does_not_answer_is_named(silent):
    problem = connection_problem(HOST, silent)
    assert problem == f"{HOST} does not answer on port {silent}"


def test_packets_that_this_machine_drops_are_told_from_a_host_that_does_not_answer(
    silent, monkeypatch
):
    monkeypatch.setattr(socket, "socket", DeniedSocket)
    assert connection_problem(HOST, silent) == (
        "the sandbox of the systemd unit, or a firewall of this machine, forbids connections to"
        f" {HOST}"
    )


def test_a_host_with_one_address_that_is_allowed_is_not_said_to_be_forbidden(monkeypatch):
    """`IPAddressAllow=` may list a receiver's IPv4 address alone."""
    allowed, denied = ("127.0.0.1", 9), ("127.0.0.2", 9)

    class Denied(socket.socket):
        def sendto(self, data: bytes, address: tuple[str, int]) -> int:
            if address == denied:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            return len(data)

    monkeypatch.setattr(socket, "socket", Denied)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in (denied, allowed)]
    assert not are_dropped_here(found)
    assert are_dropped_here(found[:1])
    assert not are_dropped_here([])


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (socket.EAI_NONAME, "the name head.invalid cannot be found"),
        (socket.EAI_AGAIN, "no name server answers for the name head.invalid"),
    ],
)
def test_a_name_that_does_not_exist_is_told_from_a_name_server_that_does_not_answer(
    monkeypatch, number, problem
):
    def getaddrinfo(*_: object) -> None:
        raise socket.gaierror(number, "-")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert connection_problem("head.invalid", 10001) == problem


def test_another_error_is_in_the_words_of_the_system(monkeypatch):
    def unreachable(*_: object) -> None:
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))

    monkeypatch.setattr(socket, "create_connection", unreachable)
    assert connection_problem(HOST, 10001) == f"No route to host ({HOST})"


@pytest.mark.parametrize("host", ["head..example", "a" * 64 + ".example"])
def test_a_name_that_no_host_can_have_is_named(host):
    assert connection_problem(host, 1) == f"{host} is not a valid name"


def test_a_name_server_that_stops_answering_meanwhile_leaves_the_first_reason(silent, monkeypatch):
    asked = []
    look_up = socket.getaddrinfo

    def once(*arguments, **options):
        asked.append(arguments)
        if len(asked) > 1:
            raise socket.gaierror(socket.EAI_AGAIN, "again")
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    assert connection_problem(HOST, silent) == f"{HOST} does not answer on port {silent}"
