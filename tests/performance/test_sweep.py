"""Watching 100,000 known files takes less than 1 % of a processor.

make bench        prints the seconds of processor time that a minute of sweeps takes
"""

import statistics
import time
from pathlib import Path

import pytest
from queue_fixtures import Check, Clock

from her2d.db.connection import open_database
from her2d.intake.inbox import Inbox
from her2d.queue.store import JobQueue
from her2d.settings import IntakeSettings
from her2d.system.file_identity import FileState

pytestmark = pytest.mark.benchmark

FILES = 100_000
MINUTES = 6
TICK_S = 0.5
_DONE = (
    "insert into jobs (path, file_name, inbox, state, size, mtime_ns, inode, ctime_ns,"
    " discovered_at) values (?, ?, ?, 'done', ?, ?, ?, ?, '2026-01-01T00:00:00.000000Z')"
)


def filled(inbox: Path, jobs: JobQueue, folders: int) -> None:
    """Write files that the database knows as done, into that many folders of the inbox."""
    rows = []
    for number in range(folders):
        folder = inbox / f"case-{number:05}" if folders > 1 else inbox
        folder.mkdir(exist_ok=True)
        for file in range(FILES // folders):
            path = folder / f"slide-{file:06}.tif"
            path.write_bytes(b"x")
            state = FileState.of(path)
            known = [state.size, state.mtime_ns, state.inode, state.ctime_ns]
            rows.append([str(path), path.name, str(inbox), *known])
    with jobs.transaction():
        jobs.database.conn.executemany(_DONE, rows)


def minutes(inbox: Inbox, clock: Clock, arrives) -> list[float]:
    """Return the processor time of each minute after the first, with a scan that arrives in it."""
    taken = []
    for minute in range(1 + MINUTES):
        arrives(minute)
        started = time.process_time()
        for _ in range(round(60 / TICK_S)):
            inbox.sweep()
            clock.pass_(TICK_S)
        taken.append(time.process_time() - started)
    return taken[1:]


@pytest.mark.parametrize("watch", ["events", "poll"])
@pytest.mark.parametrize("folders", [1, 10_000])
def test_a_minute_of_sweeps_takes_less_than_one_percent_of_a_processor(tmp_path, folders, watch):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    db = open_database(tmp_path / "her2d.sqlite")
    jobs, clock = JobQueue(db), Clock()
    filled(inbox, jobs, folders)
    settings = IntakeSettings(inboxes=(inbox,), watch=watch)

    def arrives(minute: int) -> None:
        (inbox / f"new-{minute}.tif").write_bytes(b"x")

    taken = minutes(Inbox(jobs, settings, Check(), clock), clock, arrives)
    found = db.execute("select count(*) from jobs where state = 'settling'").fetchone()[0]
    db.close()
    print(
        f"\n{folders} folders, {watch}: {statistics.median(taken):.2f} s a minute"
        f" ({min(taken):.2f} to {max(taken):.2f}), {found} of {1 + MINUTES} new files found",
        end="",
    )
    assert statistics.median(taken) < 0.6
