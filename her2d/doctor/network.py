"""Can the port be had, or is it the daemon that has it?"""

import socket

import httpx

from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.monitoring.http import address
from her2d.settings import OpsSettings

_ANSWER_S = 3.0


def port_finding(settings: OpsSettings) -> Finding:
    """Try to bind it; where somebody has it, ask whether that is her2d."""
    check = "port"
    where = address(settings.host, settings.port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((settings.host, settings.port))
        except PermissionError:
            return failure(check, f"{where} needs privileges.", "Choose a port over 1023.")
        except OSError as error:
            return _taken(check, where, error)
    if settings.host not in ("127.0.0.1", "::1", "localhost"):
        return warning(
            check,
            f"{where} is reachable from other machines.",
            'Nothing secret is served, but if only this machine scrapes it: host = "127.0.0.1".',
        )
    return ok(check, f"{where} is free.")


def _taken(check: str, where: str, error: OSError) -> Finding:
    try:
        answer = httpx.get(f"http://{where}/healthz", timeout=_ANSWER_S)
    except httpx.HTTPError:
        return failure(
            check, f"{where} cannot be had: {error.strerror}.", "Choose another [ops] port."
        )
    if answer.status_code == httpx.codes.OK and answer.text.strip() == "ok":
        return ok(check, f"A healthy daemon answers on {where}.")
    return failure(
        check,
        f"{where} is taken; /healthz answers {answer.status_code}: {answer.text.strip()[:120]}",
        "If that is no her2d, choose another [ops] port; if it is, see its log.",
    )
