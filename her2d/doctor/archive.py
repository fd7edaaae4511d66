"""Check whether finished files can be moved out of the inboxes, if the settings ask for that."""

import os
from collections.abc import Iterator
from pathlib import Path

from her2d.archive.archiver import inbox_that_finds
from her2d.daemon.storage_probe import inbox_answers
from her2d.doctor.database import writable
from her2d.doctor.finding import Finding, failure, ok
from her2d.doctor.inboxes import ANSWER_S
from her2d.settings import IntakeSettings
from her2d.system.ownership import access_hint


def archive_findings(settings: IntakeSettings) -> Iterator[Finding]:
    """Check the inboxes that files are moved out of, and the folders they are moved to."""
    targets = archive_folders(settings)
    if not targets:
        return
    # `inbox_findings` reports the inboxes that do not answer.
    answering = tuple(inbox for inbox in settings.inboxes if inbox_answers(inbox, ANSWER_S))
    for inbox in answering:
        if os.access(inbox, os.W_OK | os.X_OK, effective_ids=True):
            yield ok(f"inbox {inbox}", "Finished files can be moved out of this inbox.")
        else:
            yield failure(
                f"inbox {inbox}",
                f"User {os.geteuid()} cannot move finished files out of this inbox.",
                "Give that user write permission, or set [intake] on_success and on_failure to"
                ' "leave".',
            )
    reachable = settings.model_copy(update={"inboxes": answering})
    for key, folder in targets.items():
        try:
            yield _target(f"[intake] {key}", folder, reachable)
        except PermissionError:
            yield failure(
                f"[intake] {key}",
                f"User {os.geteuid()} cannot access {folder}.",
                access_hint(folder),
            )


def _target(check: str, folder: Path, settings: IntakeSettings) -> Finding:
    example = folder / f"slide{settings.extensions[0]}"
    if (inbox := inbox_that_finds(example, settings)) is None:
        return writable(check, folder)
    return failure(
        check,
        f"{folder} is a link into the inbox {inbox}. Files that are moved there would be found as"
        " new scans.",
        f"Set {check} to a folder outside the inboxes, or to the folder's path below {inbox}.",
    )


def archive_folders(settings: IntakeSettings) -> dict[str, Path]:
    """Return the folders that finished files are moved to, by the setting that names them."""
    targets = {}
    if settings.on_success == "move":
        targets["archive"] = settings.archive
    if settings.on_failure == "move":
        targets["quarantine"] = settings.quarantine
    return targets
