"""Find out why another program cannot be reached over the network."""

import contextlib
import socket
from collections.abc import Iterable
from typing import Any

_ANSWER_S = 5.0


def connection_problem(host: str, port: int) -> str | None:
    """Return why no TCP connection can be made, as the end of a sentence; None if one can be made.

    Args:
        host: a name or an IP address, without brackets.
        port: the port that the program listens on.
    """
    try:
        socket.create_connection((host, port), _ANSWER_S).close()
    except UnicodeError:  # an empty or too long part between two points
        return f"{host} is not a valid name"
    except OSError as error:
        return _reason(error, host, port)
    return None


def _reason(error: OSError, host: str, port: int) -> str:
    match error:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return f"no name server answers for the name {host}"
        case socket.gaierror():
            return f"the name {host} cannot be found"
        case ConnectionRefusedError():
            return f"nothing listens on port {port} of {host}"
        case TimeoutError() if not _is_forbidden_here(host, port):
            return f"{host} does not answer on port {port}"
        case TimeoutError() | PermissionError():
            return forbidden_reason(host)
        case _:
            return f"{error.strerror or error} ({host})"


def forbidden_reason(host: str) -> str:
    """Return the end of a sentence, for a host to which this machine drops all packets."""
    return (
        "the sandbox of the systemd unit, or a firewall of this machine, forbids connections to"
        f" {host}"
    )


def are_dropped_here(found: Iterable[tuple[Any, ...]]) -> bool:
    """Return whether this machine drops all packets to each of a host's addresses.

    IPAddressDeny= of systemd.resource-control(5) drops the packets that should open a connection,
    and Linux sends them again until the time is over, as if the host were off. A datagram fails at
    once with EPERM.

    Args:
        found: what `socket.getaddrinfo` returned for the host; without an address, none is dropped.
    """
    dropped = [_is_dropped(family, address) for family, _, _, _, address in found]
    return bool(dropped) and all(dropped)


def _is_dropped(family: int, address: Any) -> bool:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        try:
            datagrams.sendto(b"", address)
        except PermissionError:
            return True
    return False


def _is_forbidden_here(host: str, port: int) -> bool:
    found: list[tuple[Any, ...]] = []
    with contextlib.suppress(OSError):  # the name server may answer no more
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)
    return are_dropped_here(found)
