"""Check whether the port is free, or is used by the daemon."""

import socket
from http import HTTPStatus

from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.monitoring.http import address
from her2d.settings import OpsSettings
from her2d.system.text import printable
from her2d.webhook.exchange import DeliveryError, Exchange

_TIMEOUT_S = 3.0


def port_finding(settings: OpsSettings) -> Finding:
    """Try to bind the port; if it is in use, query /healthz to see whether her2d uses it."""
    check = "port"
    where = address(settings.host, settings.port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((settings.host, settings.port))
        except PermissionError:
            return failure(
                check, f"{where} needs root privileges.", "Set [ops] port to a number above 1023."
            )
        except OSError as error:
            return _in_use(check, where, error)
    if settings.host not in ("127.0.0.1", "::1", "localhost"):
        return warning(
            check,
            f"{where} is reachable from other machines.",
            "It serves no secrets. If Prometheus runs on this machine, set [ops] host ="
            ' "127.0.0.1".',
        )
    return ok(check, f"{where} is free.")


def _in_use(check: str, where: str, error: OSError) -> Finding:
    try:
        with Exchange(f"http://{where}/healthz", _TIMEOUT_S) as exchange:
            answer = exchange.get()
    except DeliveryError:
        return failure(
            check,
            f"Cannot listen on {where}: {error.strerror}.",
            "Stop the program that uses it, or change [ops] port.",
        )
    text = answer.body.decode(errors="replace").strip()
    if answer.status == HTTPStatus.OK and text == "ok":
        return ok(check, f"A healthy daemon answers on {where}.")
    return failure(
        check,
        f"{where} is in use, and its /healthz returns {answer.status}: {printable(text)[:120]}",
        "If another program uses it, change [ops] port. If it is her2d, see its log.",
    )
