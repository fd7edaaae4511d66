"""Which job is claimed next: priorities, and turns among the sources of jobs.

A source is an inbox or a back-fill. Of the jobs that are due, those with the highest priority come
first. Among these the sources take turns: the next job is one of the source from which the last
claim is longest ago, so that one scanner's ten thousand slides do not delay another's single one.
Within a source the jobs with fewer interruptions come first, then the oldest.

A claim reads one row of each source, in the order of an index, and no row of a job that waits for
its time. Its cost does not depend on how many jobs wait.
"""

from collections.abc import Iterator

from sqlite_utils import Database

from her2d.queue.job import FREE_INTERRUPTIONS, RETRY, Job
from her2d.system.clock import in_seconds, now

_MOST_AT_ONCE = 200  # jobs that become due by one claim, so that a share that returns delays none

_DUE = "state in ('queued', 'failed') and not_before is null"

# The times are compared as text, and only here, so that claims need not look at jobs that wait.
_END_WAITS = """
    update jobs set not_before = null where id in (
        select id from jobs indexed by jobs_that_wait
        where state in ('queued', 'failed') and not_before is not null and not_before <= :at
        limit :most)
    or id in (
        select id from jobs indexed by jobs_that_wait
        where state in ('queued', 'failed') and not_before is not null and not_before > :longest
        limit :most)
"""

_HIGHEST = f"select max(priority) from jobs indexed by jobs_to_claim where {_DUE}"
_NEXT_LOWER = f"{_HIGHEST} and priority < :priority"

# Left to itself, SQLite reads every waiting job by another index and sorts them.
_SOURCES = f"""
    with recursive sources (source) as (
        select min(source) from jobs indexed by jobs_to_claim
        where {_DUE} and priority = :priority
        union all
        select (select min(jobs.source) from jobs indexed by jobs_to_claim
                where {_DUE} and priority = :priority and jobs.source > sources.source)
        from sources where sources.source is not null)
"""
_IS_PAUSED = "(select source from backfills where paused_at is not null)"
_IS_ACTIVE = f"sources.source is not null and sources.source not in {_IS_PAUSED}"

_SOURCE = f"""
    {_SOURCES}
    select sources.source,
        (select id from jobs indexed by jobs_to_claim
         where {_DUE} and priority = :priority and jobs.source = sources.source
         order by interruptions, id limit 1) as oldest
    from sources left join turns on turns.source = sources.source
    where {_IS_ACTIVE}
    order by coalesce(turns.claim, 0), oldest limit 1
"""

# What runs, and what waited for a time that is over and was not claimed since.
_RUNNING_OR_WAITED = f"""
    select count(*) from (
        select 1 from jobs where state = 'running'
        union all
        select 1 from jobs indexed by jobs_that_wait
        where state in ('queued', 'failed') and not_before is not null
          and (not_before <= :at or not_before > :longest) and source not in {_IS_PAUSED}
        limit :most)
"""

_NUMBER = f"""
    {_SOURCES}
    select total((
        select count(*) from (
            select 1 from jobs indexed by jobs_to_claim
            where {_DUE} and priority = :priority and jobs.source = sources.source limit :most)))
    from sources where {_IS_ACTIVE}
"""

_CLAIM = """
    update jobs set state = 'running', attempts = attempts + 1, claim = claim + 1,
        content_hash = null, started_at = :at, heartbeat_at = :at
    where id = :id and not exists (
        select 1 from jobs as running where running.state = 'running'
          and (running.interruptions > :free or jobs.interruptions > :free))
    returning *
"""

_TAKE_TURN = """
    insert into turns (source, claim)
    values (:source, (select coalesce(max(claim), 0) + 1 from turns))
    on conflict (source) do update set claim = excluded.claim
"""


def claim_next(db: Database) -> Job | None:
    """Set the next due job to running, in the caller's transaction.

    A job with several interruptions runs alone, so that a crash is not counted against other files.
    When it is next, no job is claimed until the running ones have ended. A wait that is longer than
    any the queue sets means that the clock was set back, and counts as over.

    Returns:
        The job, or None if no job is due or the next one must wait for those that run.
    """
    waits = _waits(_MOST_AT_ONCE)
    db.execute(_END_WAITS, waits)
    found = _next(db)
    if found is None:
        return None
    source, job_id = found
    rows = list(db.query(_CLAIM, {"at": waits["at"], "id": job_id, "free": FREE_INTERRUPTIONS}))
    if not rows:
        return None
    db.execute(_TAKE_TURN, {"source": source})
    return Job.of(rows[0])


def number_due(db: Database, most: int) -> int:
    """Return how many jobs run or could run now, and `most` if there are more.

    As with a claim, the jobs of a back-fill that is paused are not read.
    """
    (number,) = db.execute(_RUNNING_OR_WAITED, _waits(most)).fetchone()
    for priority in _priorities(db):
        found = db.execute(_NUMBER, {"priority": priority, "most": most}).fetchone()
        number += int(found[0])
        if number >= most:
            break
    return min(most, int(number))


def _waits(most: int) -> dict[str, object]:
    """Return the limits between which a wait is not over, and how many jobs are read at most."""
    return {"at": now(), "longest": in_seconds(RETRY.longest_s + 1), "most": most}


def _next(db: Database) -> tuple[str, int] | None:
    """Return whose turn it is, and that source's next job."""
    for priority in _priorities(db):
        row = db.execute(_SOURCE, {"priority": priority}).fetchone()
        if row is not None:
            return str(row[0]), int(row[1])
    return None


def _priorities(db: Database) -> Iterator[int]:
    """Yield the priorities of the jobs that are due, the highest first."""
    (priority,) = db.execute(_HIGHEST).fetchone()
    while priority is not None:
        yield priority
        (priority,) = db.execute(_NEXT_LOWER, {"priority": priority}).fetchone()
