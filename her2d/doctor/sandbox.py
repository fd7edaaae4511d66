"""Do the systemd units let her2d reach what the settings name? See systemd.exec(5)."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from her2d.doctor.archive import archive_folders
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.programs import NoAnswerError, answer_of
from her2d.doctor.user import user_finding
from her2d.settings import Settings

_DAEMON = "her2d.service"
_CARE = "her2d-care.service"
_CHECK = "systemd sandbox"
_STATE = Path("/var/lib")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
_PROPERTIES = (
    "LoadState,User,ProtectSystem,ProtectHome,PrivateTmp,StateDirectory,ReadWritePaths,"
    "IPAddressAllow,TimeoutStopUSec"
)
_LEFT_S = 10.0  # to write down what is left when slides under way are given up

# As systemctl prints a time span, such as "1min 30s": systemd.time(7).
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(month|min|ms|us|y|w|d|h|s)")
_SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "month": 2_629_800.0,
    "y": 31_557_600.0,
}


def unit_findings(settings: Settings) -> Iterator[Finding]:
    """Ask systemd for the daemon's unit and for the nightly one, and look at both."""
    try:
        daemon, care = unit_properties(_DAEMON), unit_properties(_CARE)
    except NoAnswerError as error:
        yield warning(_CHECK, str(error), "systemctl show her2d")
        return
    if daemon:
        yield user_finding(_DAEMON, daemon)
    yield from sandbox_findings(settings, daemon)
    if care:
        yield from care_findings(settings, care)


def unit_properties(unit: str) -> Mapping[str, str]:
    """The installed unit's properties, empty where there is no systemd or no such unit.

    Raises:
        NoAnswerError: systemd does not tell.
    """
    printed = answer_of("systemctl", "show", unit, f"--property={_PROPERTIES}") or ""
    pairs = (line.partition("=") for line in printed.splitlines())
    properties = {key: value for key, _, value in pairs}
    return properties if properties.get("LoadState") == "loaded" else {}


def sandbox_findings(settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    """What the daemon's unit with these properties would keep it from."""
    if not properties:
        yield ok(_CHECK, f"{_DAEMON} is not installed here.")
        return
    intake, results = settings.intake, settings.results
    written = [results.database.parent, results.heatmaps, *archive_folders(intake).values()]
    if archive_folders(intake):
        written += intake.inboxes
    found = [
        *_unwritable(_DAEMON, written, properties),
        *_hidden(_DAEMON, [*intake.inboxes, settings.bundle.path, *written], properties),
        *_unreachable(settings, properties),
        *_cut_short(settings.pipeline.drain_s, properties),
    ]
    yield from found or [ok(_CHECK, f"{_DAEMON} reaches everything the settings name.")]


def care_findings(settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    """What the nightly unit would be kept from: its drop-ins are its own."""
    written = [settings.results.database.parent, settings.results.backups]
    found = [*_unwritable(_CARE, written, properties), *_hidden(_CARE, written, properties)]
    yield from found or [ok(_CHECK, f"{_CARE} reaches the database and its backups.")]


def _unwritable(unit: str, folders: list[Path], properties: Mapping[str, str]) -> Iterator[Finding]:
    if properties.get("ProtectSystem") != "strict":
        return
    writable = [_STATE / name for name in properties.get("StateDirectory", "").split()]
    writable += [Path(path.lstrip("-+")) for path in properties.get("ReadWritePaths", "").split()]
    if properties.get("PrivateTmp", "no") != "no":
        writable += _TEMPORARY  # of its own, which is told as such
    for folder in dict.fromkeys(folders):
        if not any(folder.is_relative_to(path) for path in writable):
            yield failure(
                _CHECK,
                f"{unit} may not write {folder}.",
                f"systemctl edit {unit}: [Service] ReadWritePaths={folder}",
            )


def _hidden(unit: str, paths: list[Path], properties: Mapping[str, str]) -> Iterator[Finding]:
    closed = properties.get("ProtectHome") in ("yes", "tmpfs")
    private = properties.get("PrivateTmp", "no") != "no"
    for path in dict.fromkeys(paths):
        if closed and any(path.is_relative_to(home) for home in _HOMES):
            yield failure(
                _CHECK,
                f"{unit} does not see {path}.",
                f"systemctl edit {unit}: [Service] ProtectHome=read-only",
            )
        if private and any(path.is_relative_to(folder) for folder in _TEMPORARY):
            yield failure(
                _CHECK,
                f"{unit} has a temporary folder of its own and does not see {path}.",
                f"Name another folder, or systemctl edit {unit}: [Service] PrivateTmp=no",
            )


def _unreachable(settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    url = settings.webhook.url
    allowed = properties.get("IPAddressAllow", "").split()
    if url is None or not allowed or not all(_is_loopback(network) for network in allowed):
        return
    if url.host not in ("127.0.0.1", "::1", "[::1]", "localhost"):
        yield failure(
            _CHECK,
            f"{_DAEMON} speaks to this machine only, and the webhook is at {url.host}.",
            "systemctl edit her2d: [Service] IPAddressAllow= and its address",
        )


def _is_loopback(network: str) -> bool:
    try:
        return ipaddress.ip_network(network).is_loopback
    except ValueError:
        return False


def _cut_short(drain_s: float, properties: Mapping[str, str]) -> Iterator[Finding]:
    spans = _SPAN.findall(properties.get("TimeoutStopUSec", ""))
    stop_s = sum(float(number) * _SECONDS[unit] for number, unit in spans)
    if spans and drain_s + _LEFT_S > stop_s:  # without a number it is infinity
        yield warning(
            _CHECK,
            f"systemd ends a stop after {stop_s:.0f} s, and [pipeline] drain_s is {drain_s:.0f} s:"
            " slides under way may be killed, and run again at the next start.",
            f"systemctl edit her2d: [Service] TimeoutStopSec={drain_s + 60:.0f}",
        )
