"""Check that inboxes can be read and hold only scans, and that events and clocks are right."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from her2d.daemon.storage_probe import inbox_answers
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.permissions import user
from her2d.intake.discovery import Found, ScanRules, walk
from her2d.intake.watcher import UnwatchableError, Watcher
from her2d.settings import IntakeSettings, Settings
from her2d.system.filesystems import needs_polling
from her2d.system.io_errors import is_forbidden
from her2d.system.linux import inotify_watches, unmounted_above
from her2d.system.ownership import forbidden_folder

ANSWER_S = 5.0
_EVENT_S = 5.0
_CLOCK_S = 60.0
_SCANS_S = 5.0
_MOST_SCANS = 10_000
_FSTAB = Path("/etc/fstab")


def inbox_findings(inbox: Path, settings: IntakeSettings | None = None) -> Iterator[Finding]:
    """Check one inbox, and create and delete a file in it if it is writable.

    Args:
        inbox: the folder.
        settings: which of its files are scans; None for the defaults.
    """
    settings = settings or IntakeSettings()
    check = f"inbox {inbox}"
    if not inbox_answers(inbox, ANSWER_S):
        yield failure(
            check,
            f"This share has not answered for {ANSWER_S:.0f} s.",
            "Check its server and the network. Programs that access the share hang until then.",
        )
        return
    if (point := unmounted_above(inbox, _FSTAB)) is not None:
        yield failure(
            check,
            f"{point} is not mounted, which /etc/fstab lists, so scans there are not found.",
            f"Run sudo mount {point}, whose message says what is wrong.",
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
    if (barred := forbidden_folder(inbox)) is not None:
        yield failure(
            check,
            f"User {user()} cannot enter {barred}, which this folder is in.",
            f"Run sudo chmod o+x {barred}, or add the user to the group of that folder.",
        )
        return
    if not os.access(inbox, os.R_OK | os.X_OK, effective_ids=True):
        yield failure(
            check,
            f"User {user()} cannot read this folder.",
            "Give that user read permission with chmod, or add it to the folder's group.",
        )
        return
    yield from _files(check, inbox, ScanRules.of(settings))
    if not os.access(inbox, os.W_OK, effective_ids=True):
        yield ok(
            check, "This folder is not writable, so events were not tested. Sweeps find all files."
        )
        return
    yield from _with_a_file(inbox, check, expect_all=not needs_polling(inbox, settings.watch))


def overlap_findings(settings: Settings) -> Iterator[Finding]:
    """Check that no inbox is in another, and that her2d's own files are not in one."""
    check = "inboxes"
    found = []
    inboxes = settings.intake.inboxes
    real = {inbox: _resolved(inbox) for inbox in inboxes}
    for number, inbox in enumerate(inboxes):
        for other in inboxes[:number]:
            if real[inbox] == real[other]:
                found.append(
                    failure(
                        check,
                        f"{inbox} and {other} are the same folder, so each scan is found twice.",
                        "Remove one of them from [intake] inboxes.",
                    )
                )
            for inner, outer in ((inbox, other), (other, inbox)):
                if real[inner] != real[outer] and real[inner].is_relative_to(real[outer]):
                    found.append(
                        warning(
                            check,
                            f"The inbox {inner} is in the inbox {outer}, so chance decides to which"
                            " of them its scans belong, and where in the archive they are moved.",
                            f"Remove {inner} from [intake] inboxes. {outer} is searched with its"
                            " subfolders.",
                        )
                    )
    results = settings.results
    for key, folder in (
        ("[results] heatmaps", results.heatmaps),
        ("[results] backups", results.backups),
        ("[results] database", results.database),
    ):
        for inbox in inboxes:
            if _resolved(folder).is_relative_to(real[inbox]):
                found.append(
                    warning(
                        check,
                        f"{folder} is in the inbox {inbox}, which is searched for scans.",
                        f"Set {key} to a place outside the inboxes.",
                    )
                )
    yield from found or [ok(check, "No inbox is in another one.")]


def _resolved(path: Path) -> Path:
    """Return the path without links; as it is if they lead in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def _files(check: str, inbox: Path, rules: ScanRules) -> Iterator[Finding]:
    """Check whether scans and folders may be read, and what else there is, as time allows."""
    forbidden: list[Path] = []
    others: list[Path] = []
    until = time.monotonic() + _SCANS_S

    def unreadable(folder: Path, error: OSError) -> None:
        if is_forbidden(error):
            forbidden.append(folder)

    def other(file: Found) -> None:
        others.append(file.path)

    found = walk(inbox, inbox, rules, on_unreadable=unreadable, on_other=other)
    for number, scan in enumerate(chain.from_iterable(found)):
        if number == _MOST_SCANS or time.monotonic() > until:
            break
        if not os.access(scan.path, os.R_OK, effective_ids=True):
            forbidden.append(scan.path)
    if forbidden:
        yield _forbidden(check, inbox, forbidden)
    else:
        yield ok(check, "This folder is readable.")
    if others:
        yield _unread(check, inbox, others)


def _forbidden(check: str, inbox: Path, forbidden: list[Path]) -> Finding:
    more = f" and {len(forbidden) - 1} more" if len(forbidden) > 1 else ""
    return failure(
        check,
        f"User {user()} cannot read {forbidden[0].relative_to(inbox)}{more}.",
        "Give that user read permission with chmod, or add it to the group of the files. Let the"
        " scanner create files that the group can read (umask 027).",
    )


def _unread(check: str, inbox: Path, others: list[Path]) -> Finding:
    """Say of the first file why nothing reads it, as the daemon does."""
    from her2d.slides.formats.unread import explain_unread

    first = min(others)
    more = f" Nor are {len(others) - 1} other files." if len(others) > 1 else ""
    try:
        explained = explain_unread(first)
    except OSError:
        explained = None  # what to do does not depend on its content
    reason = explained.reason if explained is not None else "It is part of a scan of several files."
    return warning(
        check,
        f"{first.relative_to(inbox)} is not read as a scan.{more}",
        reason,
    )


def _with_a_file(inbox: Path, check: str, *, expect_all: bool) -> Iterator[Finding]:
    wake = threading.Event()
    before = inotify_watches()
    watcher = Watcher(wake)
    try:
        watcher.watch(inbox)
        with tempfile.NamedTemporaryFile(dir=inbox, prefix=".her2d-doctor-") as file:
            file.write(b"test")
            file.flush()
            written_at = time.time()
            yield _clock(check, Path(file.name).stat().st_mtime - written_at)
            arrived = _arrives(watcher, wake, Path(file.name))
        watched, folders = inotify_watches() - before, _count_folders(inbox)
    except UnwatchableError as error:
        yield warning(
            check,
            f"Events are not used: {error}.",
            "Move old folders out of the inbox. Until then its files are found by searches only,"
            " and one that is replaced under its old name may be noticed minutes later.",
        )
        return
    except OSError as error:
        yield _no_watches(check, f"Events are not available: {error.strerror or error}.")
        return
    finally:
        watcher.stop()
    if arrived and watched < folders and expect_all:
        # The limit was reached on the way, which only the number shows.
        yield _no_watches(check, f"Only {watched} of {folders} folders are watched for events.")
    elif arrived:
        yield ok(check, "Events arrive.")
    else:
        yield warning(
            check,
            f"No event arrived within {_EVENT_S:.0f} s.",
            "Most network shares have no events. No file is missed, because sweeps find all files,"
            " but later. A shorter [intake] sweep_s finds them sooner.",
        )


def _no_watches(check: str, message: str) -> Finding:
    return warning(
        check,
        message,
        "If the limit of watches is reached, write fs.inotify.max_user_watches = 524288 and"
        " fs.inotify.max_user_instances = 512 to /etc/sysctl.d/her2d.conf, then run sudo sysctl"
        " --system.",
    )


def _count_folders(inbox: Path) -> int:
    """Return the number of folders that are to be watched. `Watcher` has bounded it."""
    return sum(1 for _ in os.walk(inbox))


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
