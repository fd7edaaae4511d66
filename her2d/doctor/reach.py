"""Check whether the unit's sandbox lets her2d reach another machine."""

import ipaddress
import socket
from pathlib import Path

from her2d.doctor.finding import Finding, failure, ok
from her2d.doctor.units import DAEMON, Properties, edit

RESOLV_CONF = Path("/etc/resolv.conf")
_CHECK = "systemd sandbox"
_HOSTS = Path("/etc/hosts")
_RESOLVED = Path("/run/systemd/resolve/io.systemd.Resolve")  # nss-resolve(8) asks by this socket
_NSSWITCH = Path("/etc/nsswitch.conf")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def reach_finding(host: str, what: str, drop_in: str, daemon: Properties) -> Finding:
    """Check IPAddressAllow= and IPAddressDeny= against a host and the name servers.

    Args:
        host: a name or an address, without brackets.
        what: what is there, in words.
        drop_in: the name of the drop-in that lets the unit reach it.
        daemon: the properties of the daemon's unit.
    """
    needed: list[Address] = []
    problems = []
    addresses = _addresses(host)
    if addresses and not any(_may_reach(address, daemon) for address in addresses):
        needed.append(addresses[0])
        problems.append(f"connect to {what} at {host} ({addresses[0]})")
    elif not addresses and not _may_leave(daemon):
        problems.append(f"connect to other machines, but {what} is at {host}")
    servers = _name_servers() if _needs_dns(host) else []
    if servers and not any(_may_reach(server, daemon) for server in servers):
        needed.append(servers[0])
        problems.append(f"ask the name server {servers[0]}, which finds {host}")
    if not problems:
        return ok(_CHECK, f"{DAEMON} can reach {what} at {host}.")
    listed = " ".join(map(str, needed)) or f"with the IP address of {what}"
    return failure(
        _CHECK,
        f"{DAEMON} cannot {' and cannot '.join(problems)}.",
        f"{edit(DAEMON, f'IPAddressAllow={listed}')}, or install the drop-in {drop_in}.conf, which"
        f" allows private networks (sudo make install-{drop_in}). Then restart her2d.",
    )


def _may_reach(address: Address, daemon: Properties) -> bool:
    """Return whether the unit may connect to an address.

    What is allowed wins over what is denied (systemd.resource-control(5)).
    """
    if any(address in network for network in _networks(daemon, "IPAddressAllow")):
        return True
    return not any(address in network for network in _networks(daemon, "IPAddressDeny"))


def _may_leave(daemon: Properties) -> bool:
    """Return whether the unit may connect to any other machine."""
    allowed = _networks(daemon, "IPAddressAllow")
    return not _networks(daemon, "IPAddressDeny") or not all(each.is_loopback for each in allowed)


def _networks(daemon: Properties, key: str) -> list[Network]:
    found: list[Network] = []
    for text in daemon.get(key, "").split():
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue  # a form that systemctl does not print
    return found


def _addresses(host: str) -> list[Address]:
    """Return the addresses of a host, as far as this process can find them."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]


def _needs_dns(host: str) -> bool:
    """Return whether the name is found by asking a name server over the network."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return False
    names = (line.partition("#")[0].split()[1:] for line in _lines(_HOSTS))
    if any(host in line for line in names):
        return False
    by_socket = any(
        line.startswith("hosts:") and "resolve" in line.split() for line in _lines(_NSSWITCH)
    )
    return not (by_socket and _RESOLVED.exists())


def _name_servers() -> list[Address]:
    """Return the name servers of resolv.conf(5)."""
    found: list[Address] = []
    for line in _lines(RESOLV_CONF):
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(ipaddress.ip_address(words[1].partition("%")[0]))
            except ValueError:
                continue  # the C library ignores it as well
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
