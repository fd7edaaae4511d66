"""Check whether the systemd units let her2d access what the settings name; see systemd.exec(5)."""

import ipaddress
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from her2d.doctor.archive import archive_folders
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.programs import NoAnswerError, output_of
from her2d.processing.threads import threads_needed
from her2d.settings import Settings
from her2d.system.cpus import usable_cpus

_DAEMON = "her2d.service"
_CARE = "her2d-care.service"
_CHECK = "systemd sandbox"
_STATE = Path("/var/lib")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
_PROPERTIES = (
    "LoadState,User,ProtectSystem,ProtectHome,PrivateTmp,StateDirectory,ReadWritePaths,"
    "IPAddressAllow,TimeoutStopUSec,TasksMax"
)
_STOP_RESERVE_S = 10.0  # to return unfinished slides to the queue after drain_s

# A time span as systemctl prints it, such as "1min 30s": systemd.time(7).
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
    """Query systemd for the unit of the daemon and that of the nightly backup, and check both."""
    try:
        daemon, care = unit_properties(_DAEMON), unit_properties(_CARE)
    except NoAnswerError as error:
        yield warning(_CHECK, str(error), "Run systemctl show her2d.")
        return
    if daemon:
        yield user_finding(_DAEMON, daemon)
    yield from sandbox_findings(settings, daemon)
    if care:
        yield from care_findings(settings, care)


def unit_properties(unit: str) -> Mapping[str, str]:
    """Return the installed unit's properties; none if systemd or the unit is not installed.

    Raises:
        NoAnswerError: systemctl did not end in time or cannot be started.
    """
    printed = output_of("systemctl", "show", unit, f"--property={_PROPERTIES}") or ""
    pairs = (line.partition("=") for line in printed.splitlines())
    properties = {key: value for key, _, value in pairs}
    return properties if properties.get("LoadState") == "loaded" else {}


def user_finding(unit: str, properties: Mapping[str, str]) -> Finding:
    """Check that doctor runs as the unit's user, because another user has other permissions."""
    check = "user"
    name = properties.get("User") or "root"
    try:
        number = pwd.getpwnam(name).pw_uid
    except KeyError:
        return failure(
            check,
            f"{unit} runs as user {name}, which does not exist.",
            "Run systemd-sysusers her2d.conf to create it.",
        )
    if number != os.geteuid():
        return warning(
            check,
            f"{unit} runs as user {name}, but her2d doctor runs as user {os.geteuid()}. What it"
            " reports about permissions does not apply to the unit.",
            f"Run sudo -u {name} her2d doctor.",
        )
    return ok(check, f"her2d doctor runs as user {name}, as {unit} does.")


def sandbox_findings(settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    """Check what the daemon's unit can access, given its properties."""
    if not properties:
        yield ok(_CHECK, f"{_DAEMON} is not installed.")
        return
    intake, results = settings.intake, settings.results
    written = [results.database.parent, results.heatmaps, *archive_folders(intake).values()]
    if archive_folders(intake):
        written += intake.inboxes
    found = [
        *_unwritable(_DAEMON, written, properties),
        *_hidden(_DAEMON, [*intake.inboxes, *_bundle_paths(settings), *written], properties),
        *_unreachable(settings, properties),
        *_cut_short(settings.pipeline.drain_s, properties),
        *_too_few_tasks(settings, properties),
    ]
    yield from found or [ok(_CHECK, f"{_DAEMON} can access everything that the settings name.")]


def care_findings(settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    """Check what the nightly unit can access, given its properties; it has separate drop-ins."""
    written = [settings.results.database.parent, settings.results.backups]
    found = [*_unwritable(_CARE, written, properties), *_hidden(_CARE, written, properties)]
    yield from found or [ok(_CHECK, f"{_CARE} can access the database and its backups.")]


def _bundle_paths(settings: Settings) -> list[Path]:
    """Return the bundle's folder, and its calibration if the settings name one elsewhere."""
    bundle = settings.bundle
    return [bundle.path, *filter(None, [bundle.calibration])]


def _unwritable(unit: str, folders: list[Path], properties: Mapping[str, str]) -> Iterator[Finding]:
    if properties.get("ProtectSystem") != "strict":
        return
    writable = [_STATE / name for name in properties.get("StateDirectory", "").split()]
    writable += [Path(path.lstrip("-+")) for path in properties.get("ReadWritePaths", "").split()]
    if properties.get("PrivateTmp", "no") != "no":
        writable += _TEMPORARY  # `_hidden` reports that the unit sees other folders there
    for folder in dict.fromkeys(folders):
        if not any(folder.is_relative_to(path) for path in writable):
            yield failure(
                _CHECK,
                f"{unit} cannot write to {folder}.",
                f"Run systemctl edit {unit} and add: [Service] ReadWritePaths={folder}",
            )


def _hidden(unit: str, paths: list[Path], properties: Mapping[str, str]) -> Iterator[Finding]:
    closed = properties.get("ProtectHome") in ("yes", "tmpfs")
    private = properties.get("PrivateTmp", "no") != "no"
    for path in dict.fromkeys(paths):
        if closed and any(path.is_relative_to(home) for home in _HOMES):
            yield failure(
                _CHECK,
                f"{unit} cannot see {path}.",
                f"Run systemctl edit {unit} and add: [Service] ProtectHome=read-only",
            )
        if private and any(path.is_relative_to(folder) for folder in _TEMPORARY):
            yield failure(
                _CHECK,
                f"{unit} has a private temporary folder and cannot see {path}.",
                f"Use another folder, or run systemctl edit {unit} and add: [Service]"
                " PrivateTmp=no",
            )


def _unreachable(settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    url = settings.webhook.url
    allowed = properties.get("IPAddressAllow", "").split()
    if url is None or not allowed or not all(_is_loopback(network) for network in allowed):
        return
    if url.host not in ("127.0.0.1", "::1", "[::1]", "localhost"):
        yield failure(
            _CHECK,
            f"{_DAEMON} can only connect to this machine, but the webhook is at {url.host}.",
            "Run systemctl edit her2d and add: [Service] IPAddressAllow= with its IP address",
        )


def _too_few_tasks(settings: Settings, properties: Mapping[str, str]) -> Iterator[Finding]:
    allowed, cpus = properties.get("TasksMax", ""), usable_cpus()
    if not allowed.isdecimal():  # "infinity", or a systemd that does not limit them
        return
    needed, least = threads_needed(settings, cpus), threads_needed(settings, 1)
    if int(allowed) >= needed:
        return
    remedy = f"Run systemctl edit her2d and add: [Service] TasksMax={2 * needed}"
    if int(allowed) < least:
        yield failure(
            _CHECK,
            f"{_DAEMON} may have {allowed} threads (TasksMax), but needs at least {least}.",
            remedy,
        )
    else:
        yield warning(
            _CHECK,
            f"{_DAEMON} may have {allowed} threads (TasksMax), but needs {needed} to use all"
            f" {cpus} CPUs.",
            remedy,
        )


def _is_loopback(network: str) -> bool:
    try:
        return ipaddress.ip_network(network).is_loopback
    except ValueError:
        return False


def _cut_short(drain_s: float, properties: Mapping[str, str]) -> Iterator[Finding]:
    spans = _SPAN.findall(properties.get("TimeoutStopUSec", ""))
    stop_s = sum(float(number) * _SECONDS[unit] for number, unit in spans)
    if spans and drain_s + _STOP_RESERVE_S > stop_s:  # no number means infinity
        yield warning(
            _CHECK,
            f"systemd kills her2d {stop_s:.0f} s after a stop, but [pipeline] drain_s is"
            f" {drain_s:.0f} s. Slides may be interrupted, and start again at the next start.",
            f"Run systemctl edit her2d and add: [Service] TimeoutStopSec={drain_s + 60:.0f}",
        )
