"""Can finished files be moved out of the inboxes, where the settings ask for it?"""

import os
from collections.abc import Iterator
from pathlib import Path

from her2d.checkup.finding import Finding, failure, ok
from her2d.checkup.inboxes import ANSWER_S
from her2d.checkup.storage import writable
from her2d.ownership import who_may
from her2d.settings import IntakeSettings
from her2d.storage import answers


def filing_findings(settings: IntakeSettings) -> Iterator[Finding]:
    """Look at the inboxes, which lose a file, and at the folders that gain one."""
    targets = filed_into(settings)
    if not targets:
        return
    for inbox in settings.inboxes:
        if not answers(inbox, ANSWER_S):
            continue  # which the check of the inbox itself has told
        if os.access(inbox, os.W_OK | os.X_OK, effective_ids=True):
            yield ok(f"inbox {inbox}", "Finished files can be moved out of it.")
        else:
            yield failure(
                f"inbox {inbox}",
                f"Finished files cannot be moved out of it by user {os.geteuid()}.",
                'Let that user write it, or set [intake] on_success and on_failure to "leave".',
            )
    for key, folder in targets.items():
        try:
            yield writable(f"[intake] {key}", folder)
        except PermissionError:
            yield failure(
                f"[intake] {key}", f"{folder} is closed to user {os.geteuid()}.", who_may(folder)
            )


def filed_into(settings: IntakeSettings) -> dict[str, Path]:
    """The settings that name folders which finished files are moved to, with those folders."""
    targets = {}
    if settings.on_success == "move":
        targets["archive"] = settings.archive
    if settings.on_failure == "move":
        targets["quarantine"] = settings.quarantine
    return targets
