"""One job: a row of `jobs`, its states, and the waits between its attempts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from her2d.system.backoff import Backoff
from her2d.system.file_identity import FileState

# Half a minute after the first attempt; an hour at most, give or take a quarter.
RETRY = Backoff(first_s=30.0, longest_s=4500.0, jitter=0.25)

NEW_SCAN = 0
BACKFILL = -10
MOST_OF_INBOX = 4
"""How far an inbox's own priority may raise or lower that of its files."""
LEAST_NEW = NEW_SCAN - MOST_OF_INBOX
"""Back-fill has a lower priority than this in every inbox."""

THIS_MACHINE = "this machine"
"""The daemon's, among the machines that could not read a file; no node has a name with a space."""

MOST_INTERRUPTIONS = 10
FREE_INTERRUPTIONS = 2
_INTERRUPTED = Backoff(first_s=1.0, longest_s=64.0)


class JobState(StrEnum):
    """The states of a job; the documentation has their diagram."""

    SETTLING = "settling"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"
    DUPLICATE = "duplicate"
    VANISHED = "vanished"
    UNREAD = "unread"


LIVE = (JobState.SETTLING, JobState.QUEUED, JobState.RUNNING, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class Job:
    """One row of `jobs`; times are UTC ISO-8601 text as stored.

    Attributes:
        inbox: the inbox in which the file was found; None for a file that a person named.
        size, mtime_ns, inode, ctime_ns: the file's state (see `FileState`) before it was hashed, or
            as it was last seen.
        sidecar: the state of the sidecar that it was queued with; None without one.
        claim: how often the job was claimed; only the newest claim may end it.
        content_hash: known once the newest claim has read the whole file.
        interruptions: how often the daemon ended while it worked on the content.
        hash_first: whether the file is read to its end before it is scored, because the daemon
            ended while it worked on it.
        unforeseen: how often the job was postponed for an error that nobody foresaw.
        unreadable_on: the machines that opened the file and could not read it, in the order in
            which they failed: names of nodes, and `THIS_MACHINE`.
        overdue_at: when the file was reported as incomplete for too long.
        backfill_id: the back-fill that it belongs to; None for a file of an inbox.
        archived_path: where `on_success` or `on_failure` moves the file, also before it is there.
    """

    id: int
    path: Path
    inbox: Path | None
    state: JobState
    reason: str | None
    attempts: int
    priority: int
    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int
    sidecar: str | None
    content_hash: str | None
    claim: int
    interruptions: int
    hash_first: bool
    unforeseen: int
    discovered_at: str
    queued_at: str | None
    started_at: str | None
    heartbeat_at: str | None
    overdue_at: str | None
    slide_id: int | None
    archived_path: Path | None
    archived_at: str | None
    backfill_id: int | None = None
    unreadable_on: tuple[str, ...] = ()

    @property
    def file_state(self) -> FileState:
        """The recorded state of the job's file."""
        return FileState(self.inode, self.size, self.mtime_ns, self.ctime_ns)

    @property
    def inbox_around(self) -> Path | None:
        """The inbox that the path is in; None for a file that a person named or in the archive."""
        return self.inbox if self.inbox and self.path.is_relative_to(self.inbox) else None

    @property
    def whereabouts(self) -> Path:
        """The file's path now: in the archive if it was moved there, else where it was found."""
        return self.archived_path if self.archived_at and self.archived_path else self.path

    @property
    def attempt_id(self) -> str:
        """The name of this attempt in logs, such as "12.3": job 12, third claim.

        A row of `runs`, which has an id, exists only when the attempt has ended.
        """
        return f"{self.id}.{self.claim}"

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Job":
        """Return the job of a row of the table."""
        return cls(
            id=row["id"],
            path=Path(row["path"]),
            inbox=Path(row["inbox"]) if row["inbox"] else None,
            state=JobState(row["state"]),
            reason=row["reason"],
            attempts=row["attempts"],
            priority=row["priority"],
            size=row["size"],
            mtime_ns=row["mtime_ns"],
            inode=row["inode"],
            ctime_ns=row["ctime_ns"],
            sidecar=row["sidecar"],
            content_hash=row["content_hash"],
            claim=row["claim"],
            interruptions=row["interruptions"],
            hash_first=bool(row["hash_first"]),
            unforeseen=row["unforeseen"],
            discovered_at=row["discovered_at"],
            queued_at=row["queued_at"],
            started_at=row["started_at"],
            heartbeat_at=row["heartbeat_at"],
            overdue_at=row["overdue_at"],
            slide_id=row["slide_id"],
            archived_path=Path(row["archived_path"]) if row["archived_path"] else None,
            archived_at=row["archived_at"],
            backfill_id=row["backfill_id"],
            unreadable_on=tuple(json.loads(row["unreadable_on"])),
        )


@dataclass(frozen=True, slots=True)
class NewestJob:
    """What a sweep needs of the newest job of a path.

    Attributes:
        file_state: the recorded state of the job's file.
        is_unmoved: whether its file was to be moved, and was not there.
    """

    id: int
    state: JobState
    file_state: FileState
    is_unmoved: bool


def missing_from_archive(path: Path) -> str:
    """Return the reason of a job whose file is not in the folder that it was moved to.

    No sweep searches that folder, so the job waits for the file or until a person retries it.
    """
    return f"{path.name} is not in {path.parent}, where it was archived."


def interruption_wait_s(interruptions: int) -> float:
    """Return the seconds to wait before an interrupted job is tried again.

    The first two interruptions cost no wait, because a power cut can happen during any job. From
    the third on the wait doubles, so that a file that crashes its reader does not block the
    other files.

    Args:
        interruptions: how often the daemon ended while it worked on the job.
    """
    if interruptions <= FREE_INTERRUPTIONS:
        return 0.0
    return _INTERRUPTED.wait_s(interruptions - FREE_INTERRUPTIONS)
