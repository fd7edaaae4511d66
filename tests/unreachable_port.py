"""A port of this machine that no connection reaches."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def silent_port(host: str) -> Iterator[int]:
    """Yield a port without an answer: Linux drops what does not fit into the queue of `listen`."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server((host, 0), backlog=0))
        for _ in range(3):
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


class DeniedSocket(socket.socket):
    """A socket whose datagrams the kernel refuses, as under IPAddressDeny=."""

    def sendto(self, *_: object) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
