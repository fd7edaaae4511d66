"""Does the systemd unit let the daemon reach what the settings name? See systemd.exec(5)."""

import ipaddress
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from her2d.checkup.finding import Finding, failure, ok
from her2d.settings import Settings

_UNIT = "her2d.service"
_STATE = Path("/var/lib")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_PROPERTIES = "LoadState,ProtectSystem,ProtectHome,StateDirectory,ReadWritePaths,IPAddressAllow"


def unit_properties() -> Mapping[str, str]:
    """The installed unit's properties, empty where there is no systemd or no such unit."""
    if shutil.which("systemctl") is None:
        return {}
    found = subprocess.run(
        ["systemctl", "show", _UNIT, f"--property={_PROPERTIES}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    pairs = (line.partition("=") for line in found.stdout.splitlines())
    properties = {key: value for key, _, value in pairs}
    return properties if properties.get("LoadState") == "loaded" else {}


def sandbox_findings(settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    """What the unit with these properties would keep the daemon from."""
    check = "systemd sandbox"
    if not properties:
        yield ok(check, f"{_UNIT} is not installed here.")
        return
    found = [
        *_unwritable(check, settings, properties),
        *_hidden(check, settings, properties),
        *_unreachable(check, settings, properties),
    ]
    yield from found or [ok(check, f"{_UNIT} reaches everything the settings name.")]


def _unwritable(check: str, settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    if properties.get("ProtectSystem") != "strict":
        return
    writable = [_STATE / name for name in properties.get("StateDirectory", "").split()]
    writable += [Path(path.lstrip("-+")) for path in properties.get("ReadWritePaths", "").split()]
    for folder in (settings.results.database.parent, settings.results.heatmaps):
        if not any(folder.is_relative_to(path) for path in writable):
            yield failure(
                check,
                f"The unit may not write {folder}.",
                f"systemctl edit her2d: [Service] ReadWritePaths={folder}",
            )


def _hidden(check: str, settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    if properties.get("ProtectHome") not in ("yes", "tmpfs"):
        return
    for inbox in settings.intake.inboxes:
        if any(inbox.is_relative_to(home) for home in _HOMES):
            yield failure(
                check,
                f"The unit does not see {inbox}.",
                "systemctl edit her2d: [Service] ProtectHome=read-only",
            )


def _unreachable(
    check: str, settings: Settings, properties: Mapping[str, str]
) -> Iterator[Finding]:
    url = settings.webhook.url
    allowed = properties.get("IPAddressAllow", "").split()
    if url is None or not allowed or not all(_is_loopback(network) for network in allowed):
        return
    if url.host not in ("127.0.0.1", "::1", "localhost"):
        yield failure(
            check,
            f"The unit speaks to this machine only, and the webhook is at {url.host}.",
            "systemctl edit her2d: [Service] IPAddressAllow= and its address",
        )


def _is_loopback(network: str) -> bool:
    try:
        return ipaddress.ip_network(network).is_loopback
    except ValueError:
        return False
