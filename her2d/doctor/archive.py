"""Can finished files be moved out of the inboxes, where the settings ask for it?"""

import os
from collections.abc import Iterator
from pathlib import Path

from her2d.archive.archiver import inbox_that_finds
from her2d.daemon.storage_probe import inbox_answers
from her2d.doctor.database import writable
from her2d.doctor.finding import Finding, failure, ok
from her2d.doctor.inboxes import ANSWER_S
from her2d.settings import IntakeSettings
from her2d.system.ownership import who_may


def archive_findings(settings: IntakeSettings) -> Iterator[Finding]:
    """Look at the inboxes, which lose a file, and at the folders that gain one."""
    targets = archive_folders(settings)
    if not targets:
        return
    # What does not answer the check of the inbox itself has told.
    answering = tuple(inbox for inbox in settings.inboxes if inbox_answers(inbox, ANSWER_S))
    for inbox in answering:
        if os.access(inbox, os.W_OK | os.X_OK, effective_ids=True):
            yield ok(f"inbox {inbox}", "Finished files can be moved out of it.")
        else:
            yield failure(
                f"inbox {inbox}",
                f"Finished files cannot be moved out of it by user {os.geteuid()}.",
                'Let that user write it, or set [intake] on_success and on_failure to "leave".',
            )
    asked = settings.model_copy(update={"inboxes": answering})
    for key, folder in targets.items():
        try:
            yield _target(f"[intake] {key}", folder, asked)
        except PermissionError:
            yield failure(
                f"[intake] {key}", f"{folder} is closed to user {os.geteuid()}.", who_may(folder)
            )


def _target(check: str, folder: Path, settings: IntakeSettings) -> Finding:
    example = folder / f"slide{settings.extensions[0]}"
    if (inbox := inbox_that_finds(example, settings)) is None:
        return writable(check, folder)
    return failure(
        check,
        f"{folder} leads into the inbox {inbox}: what is moved there would be found again.",
        "Name a folder outside the inboxes, or name it as the path below the inbox that it is.",
    )


def archive_folders(settings: IntakeSettings) -> dict[str, Path]:
    """The settings that name folders which finished files are moved to, with those folders."""
    targets = {}
    if settings.on_success == "move":
        targets["archive"] = settings.archive
    if settings.on_failure == "move":
        targets["quarantine"] = settings.quarantine
    return targets
