"""Find out why another program cannot be reached over the network."""

import contextlib
import socket

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
            return (
                "the sandbox of the systemd unit, or a firewall of this machine, forbids"
                f" connections to {host}"
            )
        case _:
            return f"{error.strerror or error} ({host})"


def _is_forbidden_here(host: str, port: int) -> bool:
    """Return whether this machine drops what is sent to a host.

    IPAddressDeny= drops the packets that should open a connection, and Linux sends them again
    until the time is over, as if the host were off. A datagram fails at once with EPERM.
    """
    found = []
    with contextlib.suppress(OSError):  # the name server may answer no more
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)
    for family, kind, protocol, _, address in found:
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as datagrams:
            try:
                datagrams.sendto(b"", address)
            except PermissionError:
                return True
    return False
