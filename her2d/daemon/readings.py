"""Read database, disks and pipeline once, for each scrape of /metrics."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

import numpy as np
from sqlite_utils import Database

from her2d.bundle.loading import Bundle
from her2d.daemon.ihc_readings import read_ihc
from her2d.daemon.storage_probe import StorageProbe
from her2d.db.connection import DatabaseError, open_readonly
from her2d.db.write_ahead_log import log_bytes
from her2d.monitoring.reading import DayReading, Reading, StageReading, VolumeReading
from her2d.pipeline.bottleneck import BOTTLENECKS
from her2d.pipeline.pipeline import Pipeline
from her2d.queue.job import LEAST_NEW
from her2d.queue.store import JobQueue
from her2d.settings import Settings
from her2d.system.clock import in_seconds
from her2d.system.disk_space import existing_folder
from her2d.system.gpus import Gpus
from her2d.system.loggers import get_logger
from her2d.webhook.outbox import Outbox

log = get_logger(__name__)

_QUARTILES = (0.25, 0.5, 0.75)
_FLAGS = {
    "blurred": "run_quality.blurred",
    "folded": "run_quality.folded",
    "pen_marked": "run_quality.pen_marked",
    "stain_outlier": "run_quality.stain_outlier",
    "off_scale": "scale_remark is not null",
}
_OUTCOMES = ("done", "failed", "postponed", "quarantined", "cancelled", "duplicate", "vanished")
# An index has the jobs of one kind in the order of a time, but not those of several kinds.
_KINDS_OF_NEW = "select distinct state, priority from job_counts where priority >= ?"
_WAITING = ("settling", "queued", "running", "failed")


class Outcomes:
    """Counts how jobs end, no matter whether a worker, the inbox or `her2d queue` ends them.

    Every change of state is a row of `events`, so that no change is missed or counted twice. The
    counts begin at 0 when the process starts, as Prometheus expects of counters.
    """

    def __init__(self, db: Database) -> None:
        self._last = _last_event(db)
        self._counts = dict.fromkeys(_OUTCOMES, 0)
        self._lock = threading.Lock()

    def advance(self, db: Database) -> Mapping[str, int]:
        """Return how many jobs ended in each way so far. Safe to call from several threads."""
        with self._lock:
            last = _last_event(db)
            rows = db.execute(
                "select name, count(*) from events where id > ? and id <= ? and job_id is not null"
                " group by name",
                [self._last, last],
            ).fetchall()
            for name, number in rows:
                if name in self._counts:
                    self._counts[name] += number
            self._last = last
            return dict(self._counts)


def read_daemon(
    settings: Settings,
    pipeline: Pipeline | None,
    outcomes: Outcomes,
    *,
    bundle: Bundle,
    gpus: Gpus,
    storage: StorageProbe,
    progress_at: float,
    intake_paused: bool,
) -> Reading:
    """Read every value once, through a new database connection.

    It takes a few milliseconds, or as long as storage and other processes make it wait.

    Values that cannot be read are left out, so that an unreachable share or a locked database does
    not make the daemon look as if it were down.
    """
    reading = read_memory(
        Reading(volumes=tuple(_volumes(settings, storage)), gpus=gpus.read()),
        settings,
        pipeline,
        storage=storage,
        progress_at=progress_at,
        intake_paused=intake_paused,
    )
    try:
        return _with_database(reading, settings, outcomes, bundle)
    except (DatabaseError, sqlite3.Error, OSError) as error:
        log.warning("scrape_incomplete", reason=str(error))
        return replace(reading, database_readable=False)


def read_memory(
    reading: Reading,
    settings: Settings,
    pipeline: Pipeline | None,
    *,
    storage: StorageProbe,
    progress_at: float,
    intake_paused: bool,
) -> Reading:
    """Return a reading with the values of this moment that are in memory, which never waits."""
    if pipeline is not None:
        bottleneck = pipeline.bottleneck()
        reading = replace(
            reading,
            stages=tuple(_stages(pipeline)),
            bottleneck={name: name == bottleneck.stage for name in BOTTLENECKS},
            busy_ratio=bottleneck.busy,
            decoded_tiles=pipeline.decoding.tiles,
            decode_wait_s=pipeline.decoding.wait_s,
        )
    return replace(
        reading,
        progress_at=progress_at,
        intake_paused=intake_paused,
        unreachable_inboxes=sum(
            storage.problem(inbox) is not None for inbox in settings.intake.inboxes
        ),
        last_backup_at=storage.last_backup_at(),
    )


def _with_database(
    reading: Reading, settings: Settings, outcomes: Outcomes, bundle: Bundle
) -> Reading:
    """Add the values that are in the database. Raises DatabaseError, sqlite3.Error, OSError."""
    database = settings.results.database
    db = open_readonly(database)
    try:
        queue = JobQueue(db)
        jobs = {state.value: number for state, number in queue.counts().items()}
        delivers = settings.webhook.url is not None
        outbox = Outbox(db)
        return replace(
            reading,
            jobs=jobs,
            outcomes=outcomes.advance(db),
            waiting=sum(jobs[state] for state in _WAITING),
            overdue=_overdue(db),
            unresolved=queue.unresolved(),
            oldest_waiting_s=_since(_first_complete(db)),
            oldest_unfinished_s=_since(_first_unfinished(db)),
            last_scan_at=_last_scan(db),
            last_success_at=_last_success(db),
            first_event_at=_first_event(db),
            webhook_waiting=outbox.waiting() if delivers else None,
            webhook_oldest_s=outbox.oldest_waiting_s() if delivers else None,
            database_bytes=database.stat().st_size + log_bytes(database),
            database_log_bytes=log_bytes(database),
            day=_day(db),
            ihc=read_ihc(db, bundle),
        )
    finally:
        db.close()


def _last_success(db: Database) -> float | None:
    """Return when a result was last stored; None if there is none."""
    row = db.execute(
        "select finished_at from runs where is_current = 1 order by finished_at desc limit 1"
    ).fetchone()
    return _seconds(row[0] if row else None)


def _last_event(db: Database) -> int:
    return int(db.execute("select coalesce(max(id), 0) from events").fetchone()[0])


def _stages(pipeline: Pipeline) -> Iterator[StageReading]:
    for stage in (pipeline.uploading, pipeline.segmenting, pipeline.classifying):
        queue = stage.queue
        yield StageReading(
            stage.name, stage.tiles, stage.batches, stage.busy_s, len(queue), queue.capacity
        )


def _first_complete(db: Database) -> float | None:
    """Return since when the complete new scan that was queued first has waited.

    A file that the scanner has not finished waits for the scanner, not for this daemon. Back-fill
    and reprocessing do not count, and the wait of a retry begins when it is requested.
    """
    row = db.execute(
        "select min((select min(coalesce(queued_at, discovered_at))"
        " from jobs indexed by jobs_complete where state in ('queued', 'running', 'failed')"
        " and state = kinds.state and priority = kinds.priority))"
        f" from ({_KINDS_OF_NEW}) as kinds where state in ('queued', 'running', 'failed')",
        [LEAST_NEW],
    ).fetchone()
    return _seconds(row[0])


def _first_unfinished(db: Database) -> float | None:
    """Return since when the new scan has been waited for that was found first and is not overdue.

    A file that is always written to never becomes overdue. One that changed while it was processed
    is waited for from then on.
    """
    row = db.execute(
        "select min((select min(settling_since) from jobs indexed by jobs_unfinished"
        " where state = 'settling' and overdue_at is null and priority = kinds.priority))"
        f" from ({_KINDS_OF_NEW}) as kinds where state = 'settling'",
        [LEAST_NEW],
    ).fetchone()
    return _seconds(row[0])


def _last_scan(db: Database) -> float | None:
    """Return when the newest scan arrived."""
    # Ids grow with time, so the last one of each kind is its newest; no other row is read.
    row = db.execute(
        "select discovered_at from jobs where id = (select max((select max(id)"
        " from jobs indexed by jobs_by_state where state = kinds.state"
        f" and priority = kinds.priority)) from ({_KINDS_OF_NEW}) as kinds)",
        [LEAST_NEW],
    ).fetchone()
    return _seconds(row[0] if row else None)


def _first_event(db: Database) -> float | None:
    row = db.execute("select at from events order by id limit 1").fetchone()
    return _seconds(row[0] if row else None)


def _overdue(db: Database) -> int:
    row = db.execute(
        "select total(number) from job_counts where state = 'settling' and is_overdue = 1"
    ).fetchone()
    return int(row[0])


def _day(db: Database) -> DayReading:
    since = in_seconds(-86_400)
    rows = db.execute(
        "select her2_status, high_expression_percent, send_to_ihc, tiles_tissue, tiles_tumor,"
        " run_quality.stain_distance, run_quality.saturation, run_quality.saturation_distance,"
        f" {', '.join(_FLAGS.values())}"
        " from runs join run_quality on run_quality.run_id = runs.id"
        " where is_current = 1 and finished_at >= ?",
        [since],
    ).fetchall()
    if not rows:
        return DayReading(results=0, stain_results=0, saturation_results=0)
    status, percent, to_ihc, tissue, tumor, stain, saturation, faded, *flags = zip(
        *rows, strict=True
    )
    p = [value / 100 for value in percent if value is not None]
    return DayReading(
        results=len(rows),
        stain_results=_known(stain),
        saturation_results=_known(faded),
        positive_ratio=status.count("positive") / len(rows),
        send_to_ihc_ratio=_ratio(to_ihc),
        tumor_tile_ratio=sum(tumor) / sum(tissue) if sum(tissue) else None,
        high_expression=dict(zip(_QUARTILES, _quantiles(p, _QUARTILES), strict=False)),
        stain_distance=_median(stain),
        saturation=_median(saturation),
        saturation_distance=_median(faded),
        flagged_ratio={
            flag: sum(values) / len(rows) for flag, values in zip(_FLAGS, flags, strict=True)
        },
    )


def _known(values: Iterable[float | None]) -> int:
    return sum(value is not None for value in values)


def _ratio(values: Iterable[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _quantiles(values: list[float], quantiles: tuple[float, ...]) -> list[float]:
    return [float(value) for value in np.quantile(values, quantiles)] if values else []


def _volumes(settings: Settings, storage: StorageProbe) -> Iterator[VolumeReading]:
    results = {"database": settings.results.database.parent, "heatmaps": settings.results.heatmaps}
    for holds, folder in results.items():
        try:
            usage = shutil.disk_usage(existing_folder(folder))
        except OSError as error:
            log.debug("disk_unknown", holds=holds, reason=str(error))
            continue
        yield VolumeReading(holds, usage.free, usage.total)
    for number, inbox in enumerate(settings.intake.inboxes, start=1):
        status = storage.status(inbox)
        if status is not None and status.free_bytes is not None and status.size_bytes is not None:
            holds = "inbox" if number == 1 else f"inbox_{number}"
            yield VolumeReading(holds, status.free_bytes, status.size_bytes)


def _since(at: float | None) -> float:
    """Return the seconds since that time; 0 without one, or if the clock was set back."""
    return max(0.0, time.time() - at) if at is not None else 0.0


def _seconds(time: str | None) -> float | None:
    return datetime.fromisoformat(time).timestamp() if time is not None else None
