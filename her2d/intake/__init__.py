"""A folder -> a durable job queue."""

from her2d.intake.by_hand import RefusedByQueue, cancel, forget, prioritise, reprocess, retry
from her2d.intake.filesystems import needs_polling
from her2d.intake.filing import Filing, follow, inbox_that_finds
from her2d.intake.finding import Rules, lies_within
from her2d.intake.holdings import Holdings
from her2d.intake.identity import FileState, content_hash
from her2d.intake.inbox import Inbox
from her2d.intake.job import (
    BACKFILL,
    NEW_SCAN,
    Job,
    JobState,
    in_seconds,
    not_where_it_was_filed,
    now,
)
from her2d.intake.jobs import JobQueue
from her2d.intake.linux import inotify_watches, mounts_below
from her2d.intake.pressure import existing_folder, least_free_mb, should_pause
from her2d.intake.settling import Completeness, Verdict
from her2d.intake.storage import is_away, is_gone, may_be_the_share
from her2d.intake.watcher import Watcher

__all__ = [
    "BACKFILL",
    "NEW_SCAN",
    "Completeness",
    "FileState",
    "Filing",
    "Holdings",
    "Inbox",
    "Job",
    "JobQueue",
    "JobState",
    "RefusedByQueue",
    "Rules",
    "Verdict",
    "Watcher",
    "cancel",
    "content_hash",
    "existing_folder",
    "follow",
    "forget",
    "in_seconds",
    "inbox_that_finds",
    "inotify_watches",
    "is_away",
    "is_gone",
    "least_free_mb",
    "lies_within",
    "may_be_the_share",
    "mounts_below",
    "needs_polling",
    "not_where_it_was_filed",
    "now",
    "prioritise",
    "reprocess",
    "retry",
    "should_pause",
]
