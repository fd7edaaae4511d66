"""A laboratory with as many rows as a test wants, and what the daemon and its users ask of it.

There are as many slides with results, and as many jobs of each kind, as its size says: done, queued
in thirty inboxes, in a back-fill that is paused, failed and waiting in it, settling, quarantined,
and named by a person. The events of all of them are there, too.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from a_result import BUNDLE, RUN, SLIDE, TILES
from laboratory_sql import NUMBERS_SQL, OUTCOMES_SQL, QUALITY_SQL, RUNS_SQL, SLIDES_SQL
from queue_fixtures import Check, Clock

from her2d.archive.archiver import Archiver
from her2d.browse.pages import ListQuery, slide_list, slide_page
from her2d.daemon.readings import Outcomes, read_daemon
from her2d.daemon.storage_probe import StorageProbe
from her2d.db.connection import open_database
from her2d.intake.inbox import Inbox
from her2d.queue.backfills import Backfills
from her2d.queue.store import JobQueue
from her2d.results.history import acts_on_slide
from her2d.results.listing import ResultFilter, count_results, list_results
from her2d.results.queries import find_slide, may_have_result
from her2d.results.store import record_run
from her2d.settings import IntakeSettings, ResultsSettings, Settings, WebhookSettings
from her2d.system.clock import in_seconds
from her2d.system.file_identity import FileState
from her2d.system.gpus import Gpus
from her2d.webhook.outbox import Outbox

SCRAPE = "scrape of /metrics"
INBOXES = 30
A_DAY = 100  # results of the last day, which a scrape summarises

_BACKFILL = "insert into backfills (id, folder, requested_at, requested_by, searched_at, paused_at)"
_JOBS = """
insert into jobs (path, file_name, inbox, state, priority, size, mtime_ns, discovered_at, queued_at,
    finished_at, not_before, slide_id, run_id, backfill_id, settling_since, reason)
select '/in/{kind}/' || i, '{kind}-' || i || '.tif', {inbox}, '{state}', {priority}, 1, 1, :at,
    {queued}, {finished}, {not_before}, {slide}, {slide}, {backfill}, :at, {reason} from n
"""
_KINDS = {
    "done": {"finished": ":at", "slide": "i"},
    "queued": {"inbox": f"'/in' || (i % {INBOXES})", "queued": ":at", "priority": "i % 3"},
    "old": {"state": "queued", "queued": ":at", "priority": -10, "backfill": 1, "inbox": "'/old'"},
    "again": {
        "state": "failed",
        "queued": ":at",
        "priority": -10,
        "backfill": 1,
        "inbox": "'/old'",
        "not_before": ":over",
    },
    "settling": {"inbox": "'/slow'"},
    "quarantined": {"finished": ":at", "reason": "'It is not a slide.'"},
    "named": {"state": "done", "inbox": "''", "finished": ":at"},
}
_EVENTS = "insert into events (at, job_id, name) select discovered_at, id, 'discovered' from jobs"


@dataclass(frozen=True)
class Laboratory:
    """A database of one size, and what asks it."""

    jobs: JobQueue
    settings: Settings
    inbox: Inbox
    numbers: Iterator[int]

    @property
    def db(self):
        return self.jobs.database


def fill(db, size: int) -> None:
    """Write a laboratory of that size into a new database."""
    numbers = NUMBERS_SQL.format(last=size)
    values = {"at": in_seconds(-7200), "over": in_seconds(-60)}
    usual = dict.fromkeys(("queued", "finished", "not_before", "slide", "backfill", "reason"))
    with db.atomic():
        db.execute("insert into bundles values (1, 'd', 'demo', '1', '{}', 't')")
        for statement in (SLIDES_SQL, RUNS_SQL.format(bundle=1, step=1.7), OUTCOMES_SQL):
            db.execute(numbers + statement)
        db.execute(QUALITY_SQL)
        db.execute("update slides set size = 1000, first_block = 'block ' || id")
        db.execute(f"update runs set finished_at = ? where id > {size - A_DAY}", [in_seconds(-60)])
        db.execute(f"{_BACKFILL} values (1, '/old', :at, 'li', :at, :at)", values)
        for kind, differing in _KINDS.items():
            given = usual | {"inbox": "'/in0'", "state": kind, "priority": 0} | differing
            text = {name: "null" if value is None else value for name, value in given.items()}
            db.execute(numbers + _JOBS.format(kind=kind, **text), values)
        db.execute(_EVENTS)
        db.execute("insert into webhook_cursor values (1, 0, :at)", values)


@contextmanager
def laboratory(folder: Path, size: int) -> Iterator[Laboratory]:
    """Make a database of that size, whose settling files have all been looked at once."""
    folder.mkdir()
    (folder / "inbox").mkdir()
    database = folder / "her2d.sqlite"
    with closing(open_database(database)) as db:
        fill(db, size)
        settings = Settings(
            intake=IntakeSettings(
                inboxes=(folder / "inbox",), on_success="move", archive=folder / "archive"
            ),
            results=ResultsSettings(database=database, heatmaps=folder),
            webhook=WebhookSettings(),
        )
        jobs = JobQueue(db)
        db.execute(
            "update jobs set archived_at = '2026' where state in ('done', 'duplicate')"
            " and inbox <> ''"
        )
        clock = Clock()
        inbox = Inbox(jobs, settings.intake, Check(), clock)
        inbox.leave_out(frozenset(), frozenset({Path("/slow")}))
        inbox.settle()
        while any(inbox._times.due(clock())):
            inbox.settle()
        # The daemon does so each minute; a long log makes the next changes slower.
        db.execute("pragma wal_checkpoint(truncate)")
        yield Laboratory(jobs, settings, inbox, iter(range(10**9)))


def claim(site: Laboratory) -> None:
    job = site.jobs.claim()
    assert job is not None
    site.jobs.give_back(job)


def record(site: Laboratory) -> None:
    number = next(site.numbers)
    path = Path(f"/in/new-{number}.tif")
    job = site.jobs.discover(path, Path("/in"), FileState(0, 1, 1))
    assert job is not None
    slide = replace(
        SLIDE, content_hash=f"blake2b:new-{number}", file_name=path.name, path=str(path)
    )
    bundle = replace(BUNDLE, digest="d")
    record_run(site.db, slide=slide, bundle=bundle, run=RUN, tiles=TILES, job_id=job.id)
    site.db.execute("update jobs set archived_at = '2026' where id = ?", [job.id])


def scrape(site: Laboratory) -> None:
    with closing(StorageProbe((), site.settings.results.heatmaps)) as storage:
        reading = read_daemon(
            site.settings,
            None,
            Outcomes(site.db),
            bundle=SimpleNamespace(digest="d", calibration=None),
            gpus=Gpus(),
            storage=storage,
            progress_at=0.0,
            intake_paused=False,
        )
    assert reading.day.results >= A_DAY
    assert reading.oldest_unfinished_s > 0


def backfill_progress(site: Laboratory) -> None:
    backfills = Backfills(site.db)
    (found,) = backfills.all()
    assert backfills.progress(found).left > 0


ACTS: dict[str, Callable[[Laboratory], object]] = {
    "claim, 30 inboxes, and give back": claim,
    "number of jobs that are due": lambda site: site.jobs.due(10**9),
    "inboxes of unfinished jobs": lambda site: site.jobs.inboxes(),
    "counts of jobs": lambda site: site.jobs.counts(),
    "discover and record a result": record,
    "may a file be a duplicate": lambda site: may_have_result(site.db, 1000, "none", "d"),
    "settle, nothing is due": lambda site: site.inbox.settle(),
    SCRAPE: scrape,
    "archive, nothing to move": lambda site: Archiver().round(site.jobs, site.settings.intake),
    "progress of a back-fill": backfill_progress,
    "webhook, next event": lambda site: Outbox(site.db).has_new(),
    "webhook, number of events to deliver": lambda site: Outbox(site.db).waiting(),
    "her2d results": lambda site: list_results(site.db, limit=50),
    "her2d results, count": lambda site: count_results(site.db),
    "her2d results, count of positive": lambda site: count_results(
        site.db, ResultFilter(status="positive")
    ),
    "her2d show, by name": lambda site: find_slide(site.db, "S000077"),
    "her2d show, acts of persons": lambda site: acts_on_slide(site.db, 77),
    "browse, list": lambda site: slide_list(site.db, ListQuery()),
    "browse, slide": lambda site: slide_page(site.db, "id:77"),
}
