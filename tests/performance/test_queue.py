"""A claim costs the same with 100 waiting jobs and with 100,000, of one inbox and of ten.

make bench        prints the milliseconds of processor time of each, the median of 50 claims
"""

import statistics
import time
from pathlib import Path

import pytest

from her2d.db.connection import open_database
from her2d.queue.store import JobQueue

pytestmark = pytest.mark.benchmark

CLAIMS = 50
_WAITING = """
with recursive n(i) as (select 1 union all select i + 1 from n where i < ?)
insert into jobs (path, file_name, inbox, state, size, mtime_ns, discovered_at)
select '/in/' || i, i || '.tif', '/in' || (i % ?), 'queued', 1, 1, '2026-01-01T00:00:00.000000Z'
from n
"""


def claim_ms(path: Path, waiting: int, inboxes: int) -> float:
    """Return the median processor time of a claim, in milliseconds."""
    db = open_database(path)
    with db.atomic():
        db.execute(_WAITING, [waiting, inboxes])
    jobs, taken = JobQueue(db), []
    for _ in range(CLAIMS):
        started = time.process_time()
        job = jobs.claim()
        taken.append(1000 * (time.process_time() - started))
        assert job is not None
        jobs.give_back(job)
    db.close()
    return statistics.median(taken)


@pytest.mark.parametrize("inboxes", [1, 10])
def test_a_claim_does_not_depend_on_how_many_jobs_wait(tmp_path, inboxes):
    few = claim_ms(tmp_path / "few.sqlite", 100, inboxes)
    many = claim_ms(tmp_path / "many.sqlite", 100_000, inboxes)
    print(f"\n100 jobs: {few:.2f} ms, 100,000 jobs: {many:.2f} ms, ratio {many / few:.2f}", end="")
    assert many < 1.2 * few
