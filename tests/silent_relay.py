"""A port that passes on what another sends, until it falls silent."""

import contextlib
import socket
import threading
from typing import Self


class SilentRelay:
    """Listens on a free port and connects each client to `port` of this machine.

    Once silent it accepts connections as before and closes none, but passes nothing on: a machine
    whose kernel lives, and whose program stands still.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._silent = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):  # the other end has gone
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def fall_silent(self) -> None:
        self._silent.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed by the test
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                if self._silent.is_set():
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # it does not listen yet
                    client.close()
                    continue
                self._open.append(server)
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # closed by the test
            while data := source.recv(65536):
                if self._silent.is_set():
                    return
                sink.sendall(data)
            if not self._silent.is_set():
                sink.shutdown(socket.SHUT_WR)
