"""Query systemd for her2d's units, and check whether it starts them; see systemctl(1)."""

import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import her2d
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.programs import output_of
from her2d.system.ownership import forbidden_folder, permissions_of

DAEMON = "her2d.service"
CARE = "her2d-care.service"
TIMER = "her2d-care.timer"
_CHECK = "systemd units"
# Files of Python and of her2d: a user who cannot read them cannot run the daemon.
_PROGRAM = (Path(os.__file__), Path(her2d.__file__))
_PROPERTIES = (
    "LoadState,UnitFileState,ActiveState,SubState,NeedDaemonReload,User,MainPID,ProtectSystem,"
    "ProtectHome,PrivateTmp,StateDirectory,ReadWritePaths,ReadOnlyPaths,InaccessiblePaths,"
    "MemoryDenyWriteExecute,IPAddressAllow,IPAddressDeny,TimeoutStopUSec,WatchdogUSec,TasksMax,MemoryMax,MemoryHigh,Environment,"
    "EnvironmentFiles"
)
_ENABLED = ("enabled", "static", "alias", "linked", "generated", "indirect")

Properties = Mapping[str, str]
"""What `systemctl show` prints of a unit."""


@dataclass(frozen=True, slots=True)
class Units:
    """The properties of her2d's units; all empty where no systemd runs."""

    daemon: Properties = field(default_factory=dict)
    care: Properties = field(default_factory=dict)
    timer: Properties = field(default_factory=dict)


def query_units() -> Units:
    """Query systemd for the properties of her2d's units.

    Raises:
        NoAnswerError: systemctl did not end in time or cannot be started.
    """
    return Units(_properties(DAEMON), _properties(CARE), _properties(TIMER))


def _properties(unit: str) -> Properties:
    printed = output_of("systemctl", "show", unit, f"--property={_PROPERTIES}") or ""
    found: dict[str, str] = {}
    for key, _, value in (line.partition("=") for line in printed.splitlines()):
        found[key] = f"{found[key]}\n{value}" if key in found else value  # several files
    return found


def is_loaded(properties: Properties) -> bool:
    """Return whether systemd has a unit of that name."""
    return properties.get("LoadState") == "loaded"


def service_user(units: Units) -> pwd.struct_passwd | None:
    """Return the user that the daemon's unit runs as; None if there is no unit or no such user."""
    if not is_loaded(units.daemon):
        return None
    try:
        return pwd.getpwnam(units.daemon.get("User") or "root")
    except KeyError:
        return None


def user_to_check_as(units: Units) -> tuple[pwd.struct_passwd | None, Finding | None]:
    """Return the user whose permissions root should check, and what keeps root from that.

    Returns:
        The user of the daemon's unit, None to check as the user of this process; and the finding
        that the unit's user cannot run her2d at all, if so.
    """
    user = service_user(units) if os.geteuid() == 0 else None
    if user is None:
        return None, None
    try:
        with permissions_of(user):
            barred = next(filter(None, map(forbidden_folder, _PROGRAM)), None)
    except OSError:
        return None, None  # root of a container without that user; `user_finding` reports it
    if barred is None:
        return user, None
    return None, failure(
        "user",
        f"User {user.pw_name} cannot enter {barred}, where her2d or its Python is.",
        "Install her2d with an interpreter that all users may run: sudo make install"
        " PYTHON=/usr/bin/python3",
    )


def user_finding(unit: str, properties: Properties) -> Finding:
    """Check that permissions are checked as the unit's user, because others have others."""
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
    return ok(check, f"Permissions are checked as user {name}, as which {unit} runs.")


def state_findings(units: Units) -> Iterator[Finding]:
    """Check whether systemd starts the daemon and the nightly backup, also after a power cut."""
    if not units.daemon:
        yield ok(_CHECK, "systemd does not run here.")
        return
    problems = [*_state(DAEMON, units.daemon, _NOT_INSTALLED)]
    if is_loaded(units.daemon):
        problems += _state(TIMER, units.timer, _NO_BACKUPS)
        problems += _care(units.care)
    yield from problems or [ok(_CHECK, f"systemd starts {DAEMON} and {TIMER}.")]


_NOT_INSTALLED = warning(
    _CHECK,
    f"{DAEMON} is not installed, so her2d does not start with this machine.",
    f"Run sudo make install in a clone of her2d, then sudo systemctl enable --now {DAEMON} {TIMER}."
    " To only try her2d, no action is needed.",
)
_NO_BACKUPS = warning(
    _CHECK,
    f"{TIMER} is not installed, so no backups are made at night.",
    f"Run sudo make install in a clone of her2d, then sudo systemctl enable --now {TIMER}.",
)


def _state(unit: str, properties: Properties, missing: Finding) -> Iterator[Finding]:
    state = properties.get("LoadState", "not-found")
    if state == "not-found":
        yield missing
        return
    if state == "masked":
        yield failure(
            _CHECK,
            f"{unit} is masked, so systemd does not start it.",
            f"Run sudo systemctl unmask {unit}.",
        )
        return
    if state != "loaded":
        yield failure(
            _CHECK,
            f"systemd cannot read {unit} ({state}).",
            f"Run systemctl status {unit}, which names the wrong line.",
        )
        return
    if properties.get("NeedDaemonReload") == "yes":
        yield warning(
            _CHECK,
            f"The file of {unit} or a drop-in was changed, and systemd has not read it yet.",
            f"Run sudo systemctl daemon-reload, then sudo systemctl restart {unit}.",
        )
    enabled = properties.get("UnitFileState", "")
    if enabled and enabled not in _ENABLED:
        yield warning(
            _CHECK,
            f"{unit} is not enabled, so it does not start after a power cut.",
            f"Run sudo systemctl enable --now {unit}.",
        )
    elif unit == TIMER and properties.get("ActiveState") == "inactive":
        yield warning(
            _CHECK,
            f"{unit} is enabled, but not started, so no backup is made tonight.",
            f"Run sudo systemctl start {unit}.",
        )
    if properties.get("ActiveState") == "failed" or properties.get("SubState") == "auto-restart":
        yield failure(
            _CHECK,
            f"{unit} has failed.",
            f"Run journalctl -u {unit} -e, whose last lines say why.",
        )


def _care(properties: Properties) -> Iterator[Finding]:
    if properties.get("ActiveState") == "failed":
        yield warning(
            _CHECK,
            f"The last run of {CARE} failed, so there is no backup of that night.",
            f"Run journalctl -u {CARE} -e, whose last lines say why.",
        )


def edit(unit: str, line: str) -> str:
    """Return the remedy that adds a line to a unit's drop-in, and makes systemd use it."""
    return f"Run sudo systemctl edit {unit} and add: [Service] {line}"


def paths(properties: Properties, key: str) -> list[Path]:
    """Return the folders that a property lists, without the marks of systemd.exec(5)."""
    return [Path(path.lstrip("-+")) for path in properties.get(key, "").split()]
