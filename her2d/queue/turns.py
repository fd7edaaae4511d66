"""Which job is claimed next: priorities, and turns among the sources of jobs.

A source is an inbox or a back-fill. Of the jobs that are due, those with the highest priority come
first. Among these the sources take turns: the next job is one of the source from which the last
claim is longest ago, so that one scanner's ten thousand slides do not delay another's single one.
Within a source the jobs with fewer interruptions come first, then the oldest.

Whose turn it is follows from `job_counts`, which has a row for each kind of job that there is. So a
claim looks for one job only, in the order of an index, and costs the same however many jobs wait.
"""

from sqlite_utils import Database

from her2d.queue.job import FREE_INTERRUPTIONS, RETRY, Job
from her2d.system.clock import in_seconds, now

_MOST_AT_ONCE = 200  # jobs that become due by one claim, so that a share that returns delays none

_DUE = "state in ('queued', 'failed') and not_before is null"

_IS_ACTIVE = "source not in (select source from backfills where paused_at is not null)"

# Jobs of sources that are not paused whose wait is over. The times are compared as text, and only
# here, so that nothing else looks at jobs that wait.
_WAITING = f"""
    select jobs.id from (select distinct source from job_counts
                         where state in ('queued', 'failed') and waits = 1 and {_IS_ACTIVE}) as some
    cross join jobs indexed by jobs_that_wait on jobs.source = some.source
    where state in ('queued', 'failed') and not_before is not null
"""
_WAITED = f"{_WAITING} and not_before <= :at union all {_WAITING} and not_before > :longest"
_END_WAITS = f"update jobs set not_before = null where id in ({_WAITED} limit :most)"
_NUMBER_WAITED = f"select count(*) from ({_WAITED} limit :most)"

_IS_COUNTED_DUE = "state in ('queued', 'failed') and waits = 0"

_HIGHEST = f"select max(priority) from job_counts where {_IS_COUNTED_DUE} and {_IS_ACTIVE}"

# Sources that never had a turn go in the order of their oldest jobs.
_NEXT = f"""
    with sources (source, priority, turn) as materialized (
        select job_counts.source, job_counts.priority, coalesce(turns.claim, 0)
        from job_counts left join turns on turns.source = job_counts.source
        where {_IS_COUNTED_DUE} and job_counts.{_IS_ACTIVE} and priority = ({_HIGHEST}))
    select source, (
        select id from jobs indexed by jobs_to_claim
        where {_DUE} and jobs.priority = sources.priority and jobs.source = sources.source
        order by interruptions, id limit 1) as oldest
    from sources where turn = (select min(turn) from sources)
    order by oldest limit 1
"""

_RUNNING_OR_DUE = f"""
    select (select total(number) from job_counts where state = 'running')
        + (select total(number) from job_counts where {_IS_COUNTED_DUE} and {_IS_ACTIVE})
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
    (number,) = db.execute(_RUNNING_OR_DUE).fetchone()
    if number < most:
        number += db.execute(_NUMBER_WAITED, _waits(most)).fetchone()[0]
    return min(most, int(number))


def _waits(most: int) -> dict[str, object]:
    """Return the limits between which a wait is not over, and how many jobs are read at most."""
    return {"at": now(), "longest": in_seconds(RETRY.longest_s + 1), "most": most}


def _next(db: Database) -> tuple[str, int] | None:
    """Return whose turn it is, and that source's next job."""
    row = db.execute(_NEXT).fetchone()
    return None if row is None else (str(row[0]), int(row[1]))
