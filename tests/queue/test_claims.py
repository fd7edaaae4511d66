"""What workers hold, in memory."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from her2d.db.connection import open_database, open_existing
from her2d.queue.claims import ClaimRegistry
from her2d.queue.store import JobQueue
from her2d.system.file_identity import FileState


def test_workers_that_ask_at_once_hold_no_more_than_there_is_room_for(tmp_path):
    database = tmp_path / "her2d.sqlite"
    with closing(open_database(database)) as db:
        jobs = JobQueue(db)
        for number in range(12):
            job = jobs.discover(Path(f"/in/{number}.tif"), Path("/in"), FileState(1, 1, 1))
            jobs.queue(job)
    claims = ClaimRegistry()

    def claim(_: int) -> bool:
        with closing(open_existing(database, busy_timeout_s=60)) as db:
            return claims.claim(JobQueue(db), 2) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 2
