"""Check whether finished files can be moved out of the inboxes, if the settings ask for that."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from her2d.archive.archiver import inbox_that_finds
from her2d.daemon.storage_probe import inbox_answers
from her2d.doctor.database import room, writable
from her2d.doctor.finding import Finding, Severity, failure, ok, warning
from her2d.doctor.inboxes import ANSWER_S
from her2d.doctor.permissions import closed, user
from her2d.settings import IntakeSettings
from her2d.system.disk_space import existing_folder
from her2d.system.linux import unmounted_above


def archive_findings(settings: IntakeSettings, *, as_service: bool = False) -> Iterator[Finding]:
    """Check the inboxes that files are moved out of, and the folders they are moved to.

    Args:
        settings: name the folders.
        as_service: whether permissions are checked as the user of the daemon's unit.
    """
    targets = archive_folders(settings)
    if not targets:
        return
    # `inbox_findings` reports the inboxes that do not answer, or are not there.
    answering = tuple(
        inbox
        for inbox in settings.inboxes
        if inbox_answers(inbox, ANSWER_S) and os.access(inbox, os.F_OK, effective_ids=True)
    )
    for inbox in answering:
        if os.access(inbox, os.W_OK | os.X_OK, effective_ids=True):
            yield ok(f"inbox {inbox}", "Finished files can be moved out of this inbox.")
        else:
            yield failure(
                f"inbox {inbox}",
                f"User {user()} cannot move finished files out of this inbox.",
                "Give that user write permission, or set [intake] on_success and on_failure to"
                ' "leave".',
            )
    reachable = settings.model_copy(update={"inboxes": answering})
    for key, folder in targets.items():
        check = f"[intake] {key}"
        try:
            yield from _target(check, folder, reachable)
        except PermissionError:
            yield closed(check, folder, as_service=as_service)


def _target(check: str, folder: Path, settings: IntakeSettings) -> Iterator[Finding]:
    example = folder / f"slide{settings.extensions[0]}"
    if (inbox := inbox_that_finds(example, settings)) is not None:
        yield failure(
            check,
            f"{folder} is a link into the inbox {inbox}. Files that are moved there would be found"
            " as new scans.",
            f"Set {check} to a folder outside the inboxes, or to the folder's path below {inbox}.",
        )
        return
    if (point := unmounted_above(folder)) is not None:
        yield failure(
            check,
            f"{point} is not mounted, which /etc/fstab lists, so finished files would be moved to"
            " another disk.",
            f"Run sudo mount {point}, whose message says what is wrong.",
        )
        return
    can_write = writable(check, folder)
    yield can_write
    if can_write.severity is not Severity.OK:
        return
    yield room(check, folder, "Move old files away, or set another folder.")
    yield from _by_copy(check, folder, settings.inboxes)


def _by_copy(check: str, folder: Path, inboxes: Iterable[Path]) -> Iterator[Finding]:
    """Report the inboxes on other file systems, whose files are not simply renamed."""
    device = existing_folder(folder).stat().st_dev
    for inbox in inboxes:
        if inbox.is_dir() and inbox.stat().st_dev != device:
            yield warning(
                check,
                f"{folder} is on another file system than the inbox {inbox}, so each finished file"
                " is copied, compared and then deleted.",
                "No action is needed if that is fast enough. In a folder on the inbox's file system"
                " a file is there at once.",
            )


def archive_folders(settings: IntakeSettings) -> dict[str, Path]:
    """Return the folders that finished files are moved to, by the setting that names them."""
    targets = {}
    if settings.on_success == "move":
        targets["archive"] = settings.archive
    if settings.on_failure == "move":
        targets["quarantine"] = settings.quarantine
    return targets
