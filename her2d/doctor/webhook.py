"""Check whether the webhook answers here, and whether the unit's sandbox lets her2d reach it."""

import socket
import ssl
import time
from collections.abc import Iterator

import httpx
from pydantic import HttpUrl

from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.reach import RESOLV_CONF, reach_finding
from her2d.doctor.units import Properties, is_loaded
from her2d.settings import WebhookSettings
from her2d.webhook.sender import request_headers

_CHECK = "webhook"
_PROBE_S = 5.0


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
        host = (settings.url.host or "").strip("[]")
        yield reach_finding(host, "the webhook", "webhook", daemon)


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
            f"{_CORRECT[:-1]}, or the name server in {RESOLV_CONF}.",
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
