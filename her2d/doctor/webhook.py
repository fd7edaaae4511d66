"""Check whether the webhook answers here, and whether the unit's sandbox lets her2d reach it."""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from pydantic import HttpUrl

from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.units import DAEMON, Properties, edit, is_loaded
from her2d.settings import WebhookSettings
from her2d.webhook.sender import request_headers

_CHECK = "webhook"
_SANDBOX = "systemd sandbox"
_PROBE_S = 5.0
_RESOLV_CONF = Path("/etc/resolv.conf")
_HOSTS = Path("/etc/hosts")
_RESOLVED = Path("/run/systemd/resolve/io.systemd.Resolve")  # nss-resolve(8) asks by this socket
_NSSWITCH = Path("/etc/nsswitch.conf")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def webhook_findings(settings: WebhookSettings, daemon: Properties) -> Iterator[Finding]:
    """Send a HEAD request to the webhook, and compare its address with what the unit may reach.

    A HEAD request carries no event, so that the receiver records nothing.

    Args:
        settings: the address.
        daemon: the properties of the daemon's unit; its sandbox does not apply to this process.
    """
    if settings.url is None:
        return
    yield _probe(settings, settings.url)
    if is_loaded(daemon):
        yield _reach(settings.url, daemon)


def _probe(settings: WebhookSettings, url: HttpUrl) -> Finding:
    headers = request_headers(settings, f"her2d-doctor-{time.time_ns()}", b"")
    try:
        response = httpx.head(str(url), headers=headers, timeout=min(settings.timeout_s, _PROBE_S))
    except httpx.HTTPError as error:
        return _unreachable(url, error)
    except (UnicodeError, ValueError) as error:
        return failure(_CHECK, f"{_place(url)} is not a usable address: {error}.", _CORRECT)
    return _answered(url, response.status_code)


_CORRECT = "Correct [webhook] url (HER2D_WEBHOOK__URL)."


def _unreachable(url: HttpUrl, error: httpx.HTTPError) -> Finding:
    where = _place(url)
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return failure(
            _CHECK,
            f"The name {url.host} cannot be found (DNS), so no event is sent.",
            f"{_CORRECT[:-1]}, or the name server in {_RESOLV_CONF}.",
        )
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        reason = next(c for c in causes if isinstance(c, ssl.SSLCertVerificationError))
        return failure(
            _CHECK,
            f"The certificate of {where} is not trusted: {reason.verify_message}.",
            "Install a valid certificate there. For an own certificate authority set"
            " SSL_CERT_FILE=/path/to/ca.pem in /etc/her2d/secrets.env.",
        )
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return failure(
            _CHECK,
            f"{where} does not speak TLS as expected: {causes[-1]}.",
            f"{_CORRECT[:-1]}: https:// or http://, and the port.",
        )
    if isinstance(error, httpx.TimeoutException):
        return failure(
            _CHECK,
            f"{where} did not answer within {_PROBE_S:g} s.",
            "Check the receiver, and the firewalls between it and this machine.",
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return failure(
            _CHECK,
            f"{where} refuses connections, so no event is sent.",
            f"Start the receiver. If it listens elsewhere: {_CORRECT[0].lower()}{_CORRECT[1:]}",
        )
    return failure(_CHECK, f"{where} cannot be reached: {error or type(error).__name__}.", _CORRECT)


def _answered(url: HttpUrl, status: int) -> Finding:
    where = _place(url)
    answer = f"{where} answers {status} to a request without an event"
    match status:
        case 401 | 403 | 407:
            return warning(
                _CHECK,
                f"{answer}, so it may refuse events.",
                "Check that [webhook] secret and the token in url are those of the receiver.",
            )
        case 404:
            return warning(
                _CHECK,
                f"{answer}, so the path may be wrong.",
                f"{_CORRECT[:-1]}. If the receiver takes only POST requests, no action is needed.",
            )
        case 410:
            return failure(
                _CHECK,
                f"{where} is gone (410), and her2d sends nothing after that answer.",
                f"{_CORRECT[:-1]}, then restart her2d.",
            )
        case _ if 300 <= status < 400:
            return failure(
                _CHECK,
                f"{where} redirects ({status}), which her2d does not follow.",
                f"{_CORRECT[:-1]} to the address that it redirects to.",
            )
        case _ if status >= 500:
            return warning(
                _CHECK,
                f"{answer}, so the receiver may be out of order.",
                "See the receiver's log. her2d keeps events and sends them again.",
            )
        case _:  # 405 and the like: it takes only POST requests
            return ok(_CHECK, f"{where} answers.")


def _place(url: HttpUrl) -> str:
    """Return scheme, host and port; the rest may be secret."""
    return f"{url.scheme}://{url.host}:{url.port}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reach(url: HttpUrl, daemon: Properties) -> Finding:
    """Check IPAddressAllow= and IPAddressDeny= against the webhook and the name servers."""
    host = (url.host or "").strip("[]")
    needed: list[Address] = []
    problems = []
    addresses = _addresses(host)
    if addresses and not any(_may_reach(address, daemon) for address in addresses):
        needed.append(addresses[0])
        problems.append(f"connect to the webhook at {host} ({addresses[0]})")
    elif not addresses and not _may_leave(daemon):
        problems.append(f"connect to other machines, but the webhook is at {host}")
    servers = _name_servers() if _needs_dns(host) else []
    if servers and not any(_may_reach(server, daemon) for server in servers):
        needed.append(servers[0])
        problems.append(f"ask the name server {servers[0]}, which finds {host}")
    if not problems:
        return ok(_SANDBOX, f"{DAEMON} can reach the webhook at {host}.")
    listed = " ".join(map(str, needed)) or "with the webhook's IP address"
    return failure(
        _SANDBOX,
        f"{DAEMON} cannot {' and cannot '.join(problems)}.",
        f"{edit(DAEMON, f'IPAddressAllow={listed}')}, or install the drop-in webhook.conf, which"
        " allows private networks (sudo make install-webhook). Then restart her2d.",
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
    """Return the addresses of the webhook, as far as this process can find them."""
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
    for line in _lines(_RESOLV_CONF):
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
