"""A real server on a socket that answers a request as no good receiver would."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\n"


@dataclass
class Hostile:
    """Sends the parts of its answer until the client leaves; counts the bytes that were taken."""

    url: str
    sent: int = 0
    left: threading.Event = field(default_factory=threading.Event)


def dripping(text: bytes, pause_s: float = 0.02) -> Iterator[bytes]:
    """Generate a byte at a time, with a pause after each."""
    for byte in text:
        yield bytes([byte])
        time.sleep(pause_s)


def endless(part: bytes, pause_s: float = 0.0) -> Iterator[bytes]:
    """Generate the same part again and again."""
    while True:
        yield part
        time.sleep(pause_s)


def _read_request(connection: socket.socket) -> None:
    text = b""
    while part := connection.recv(65536):
        text += part
        head, end, body = text.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if end and len(body) >= (int(length[1]) if length else 0):
            return


@contextlib.contextmanager
def hostile_receiver(
    answer: Callable[[], Iterable[bytes]], *, scheme: str = "http", reads_first: bool = True
) -> Iterator[Hostile]:
    """Run it; with `reads_first` it reads some of the request before it answers.

    Where a part is empty, it reads a whole request first.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = Hostile(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/hook")

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    _answer(connection, kept)

        def _answer(connection: socket.socket, kept: Hostile) -> None:
            connection.settimeout(30)
            with contextlib.suppress(OSError):
                if reads_first:
                    connection.recv(65536)
                for part in answer():
                    if not part:
                        _read_request(connection)
                    connection.sendall(part)
                    kept.sent += len(part)
                while connection.recv(65536):
                    pass
            kept.left.set()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join(60)
            assert not thread.is_alive()
