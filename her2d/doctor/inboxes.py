"""Check whether an inbox can be read, whether its events arrive, and whether its clock is right."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from her2d.daemon.storage_probe import inbox_answers
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.intake.discovery import ScanRules, walk
from her2d.intake.watcher import Watcher
from her2d.settings import IntakeSettings
from her2d.system.io_errors import is_forbidden

ANSWER_S = 5.0
_EVENT_S = 5.0
_CLOCK_S = 60.0
_SCANS_S = 5.0
_MOST_SCANS = 10_000


def inbox_findings(inbox: Path, rules: ScanRules | None = None) -> Iterator[Finding]:
    """Check one inbox, and create and delete a file in it if it is writable.

    Args:
        inbox: the folder.
        rules: which of its files are scans; None for those of the default settings.
    """
    check = f"inbox {inbox}"
    if not inbox_answers(inbox, ANSWER_S):
        yield failure(
            check,
            f"This share has not answered for {ANSWER_S:.0f} s.",
            "Check its server and the network. Programs that access the share hang until then.",
        )
        return
    try:
        exists = inbox.is_dir()
    except PermissionError:
        exists = True  # reported below
    if not exists:
        yield failure(
            check,
            "This folder does not exist.",
            "Create it, mount its share, or correct [intake] inboxes.",
        )
        return
    if not os.access(inbox, os.R_OK | os.X_OK, effective_ids=True):
        yield failure(
            check,
            f"User {os.geteuid()} cannot read this folder.",
            "Give that user read permission with chmod, or add it to the folder's group.",
        )
        return
    yield _scans(check, inbox, rules or ScanRules.of(IntakeSettings()))
    if not os.access(inbox, os.W_OK, effective_ids=True):
        yield ok(
            check, "This folder is not writable, so events were not tested. Sweeps find all files."
        )
        return
    yield from _with_a_file(inbox, check)


def _scans(check: str, inbox: Path, rules: ScanRules) -> Finding:
    """Check whether the scans and the folders in an inbox may be read, as far as time allows."""
    forbidden: list[Path] = []
    until = time.monotonic() + _SCANS_S

    def unreadable(folder: Path, error: OSError) -> None:
        if is_forbidden(error):
            forbidden.append(folder)

    for number, scan in enumerate(walk(inbox, inbox, rules, on_unreadable=unreadable)):
        if number == _MOST_SCANS or time.monotonic() > until:
            break
        if not os.access(scan.path, os.R_OK, effective_ids=True):
            forbidden.append(scan.path)
    if not forbidden:
        return ok(check, "This folder is readable.")
    others = f" and {len(forbidden) - 1} more" if len(forbidden) > 1 else ""
    return failure(
        check,
        f"User {os.geteuid()} cannot read {forbidden[0].relative_to(inbox)}{others}.",
        "Give that user read permission with chmod, or add it to the group of the files. Let the"
        " scanner create files that the group can read (umask 027).",
    )


def _with_a_file(inbox: Path, check: str) -> Iterator[Finding]:
    wake = threading.Event()
    watcher = Watcher(wake)
    try:
        watcher.watch(inbox)
        with tempfile.NamedTemporaryFile(dir=inbox, prefix=".her2d-doctor-") as file:
            file.write(b"test")
            file.flush()
            written_at = time.time()
            yield _clock(check, Path(file.name).stat().st_mtime - written_at)
            arrived = _arrives(watcher, wake, Path(file.name))
    except OSError as error:
        yield warning(
            check,
            f"Events are not available: {error.strerror or error}.",
            "If the limit of watches is reached, run sysctl fs.inotify.max_user_watches=524288.",
        )
        return
    finally:
        watcher.stop()
    if arrived:
        yield ok(check, "Events arrive.")
    else:
        yield warning(
            check,
            f"No event arrived within {_EVENT_S:.0f} s.",
            "Most network shares have no events. No file is missed, because sweeps find all files,"
            " but later. A shorter [intake] sweep_s finds them sooner.",
        )


def _arrives(watcher: Watcher, wake: threading.Event, path: Path) -> bool:
    deadline = time.monotonic() + _EVENT_S
    while (left := deadline - time.monotonic()) > 0:
        paths = watcher.take()
        if paths is None or path in paths:  # None means that there were too many to keep
            return True
        wake.wait(left)
        wake.clear()
    return False


def _clock(check: str, ahead_s: float) -> Finding:
    if abs(ahead_s) <= _CLOCK_S:
        return ok(check, "The clock of this file system agrees with this machine's.")
    direction = "ahead of" if ahead_s > 0 else "behind"
    return warning(
        check,
        f"The clock of this file system is {abs(ahead_s):.0f} s {direction} this machine's.",
        "Synchronise both clocks with a time server (timedatectl set-ntp true).",
    )
