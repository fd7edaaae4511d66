"""The messages that the service manager gets: sd_notify(3)."""

import contextlib
import socket

import pytest
from captured_logs import capture_logs
from service_manager import service_manager

from her2d.monitoring.sd_notify import Notifier


@pytest.mark.parametrize("address", ["/{}/notify", "@her2d-test-{}"], ids=["file", "abstract"])
def test_messages_are_sent_to_the_socket_in_notify_socket(tmp_path, address):
    address = address.format(str(tmp_path).strip("/"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1))
        notifier = Notifier({"NOTIFY_SOCKET": address})
        notifier.ready("Started.")
        assert manager.recv(100) == b"READY=1\nSTATUS=Started."
        notifier.status("3 slides under way.")
        assert manager.recv(100) == b"STATUS=3 slides under way."
        notifier.alive()
        assert manager.recv(100) == b"WATCHDOG=1"
        notifier.stopping("Bye.")
        assert manager.recv(100) == b"STOPPING=1\nSTATUS=Bye."


def test_a_status_of_several_lines_is_one_field(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.status("a\nWATCHDOG=1\n.tif is slow")
        assert manager.recv(100) == b"STATUS=a WATCHDOG=1 .tif is slow"


def test_without_notify_socket_nothing_is_sent():
    Notifier({}).alive()


def test_a_manager_that_does_not_listen_is_logged(tmp_path):
    with capture_logs() as logs:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")}).alive()
    assert [entry["event"] for entry in logs] == ["service_manager_unreachable"]


def test_a_manager_that_does_not_read_does_not_block_the_daemon(tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.monitoring.sd_notify._TIMEOUT_S", 0.1)
    with (
        service_manager(tmp_path) as manager,
        contextlib.closing(full(manager.address)),
        capture_logs() as logs,
    ):
        Notifier({"NOTIFY_SOCKET": manager.address}).alive()
    assert [entry["event"] for entry in logs] == ["service_manager_unreachable"]


def full(address: str) -> socket.socket:
    """Return a socket that has sent as many messages to `address` as the kernel queues."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.sendto(b"WATCHDOG=1", address)
    return sender
