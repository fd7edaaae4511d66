"""A folder -> a durable job queue."""

from her2d.intake.identity import FileState, content_hash
from her2d.intake.inbox import Completeness, Inbox, Verdict
from her2d.intake.jobs import Job, JobQueue, JobState
from her2d.intake.watcher import Watcher

__all__ = [
    "Completeness",
    "FileState",
    "Inbox",
    "Job",
    "JobQueue",
    "JobState",
    "Verdict",
    "Watcher",
    "content_hash",
]
