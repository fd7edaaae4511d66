"""Database, disks and pipeline -> one reading, for each scrape of /metrics."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlite_utils import Database

from her2d.database import open_readonly
from her2d.intake import JobQueue
from her2d.ops import DayReading, Reading, StageReading, VolumeReading
from her2d.pipeline import Pipeline
from her2d.settings import Settings

_QUARTILES = (0.25, 0.5, 0.75)
_WAITING = ("settling", "queued", "running", "failed")


def read_daemon(
    settings: Settings, pipeline: Pipeline, *, progress_at: float, intake_paused: bool
) -> Reading:
    """Look at everything once, through a connection of its own; a few milliseconds.

    Raises:
        DatabaseError: the database cannot be read; the scrape fails, which is what `up` tells.
    """
    database = settings.results.database
    db = open_readonly(database)
    try:
        jobs = {state.value: number for state, number in JobQueue(db).counts().items()}
        oldest, newest = _arrivals(db)
        day = _day(db)
    finally:
        db.close()
    now = datetime.now(UTC).timestamp()
    return Reading(
        jobs=jobs,
        stages=tuple(_stages(pipeline)),
        waiting=sum(jobs[state] for state in _WAITING),
        oldest_waiting_s=max(0.0, now - oldest) if oldest is not None else 0.0,
        last_scan_at=newest,
        progress_at=progress_at,
        intake_paused=intake_paused,
        database_bytes=sum(_sizes(database)),
        volumes=tuple(_volumes(settings)),
        day=day,
    )


def last_success(db: Database) -> float | None:
    """When a slide last got a result, seconds since 1970; None where none ever did."""
    return _seconds(db.execute("select max(finished_at) from runs").fetchone()[0])


def _stages(pipeline: Pipeline) -> Iterator[StageReading]:
    for stage in (pipeline.uploading, pipeline.segmenting, pipeline.classifying):
        queue = stage.queue
        yield StageReading(
            stage.name, stage.tiles, stage.batches, stage.busy_s, len(queue), queue.capacity
        )


def _arrivals(db: Database) -> tuple[float | None, float | None]:
    """When the file that waits longest was discovered, and the newest of all."""
    marks = ", ".join("?" for _ in _WAITING)
    oldest = db.execute(
        f"select min(discovered_at) from jobs where state in ({marks})", list(_WAITING)
    ).fetchone()[0]
    # Ids grow with time: the last row is the newest without a look at the others.
    newest = db.execute("select discovered_at from jobs order by id desc limit 1").fetchone()
    return _seconds(oldest), _seconds(newest[0] if newest else None)


def _day(db: Database) -> DayReading:
    since = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M:%S.%fZ}"
    rows = db.execute(
        "select her2_status, high_expression_percent, tiles_tissue, tiles_tumor"
        " from slide_results where finished_at >= ?",
        [since],
    ).fetchall()
    if not rows:
        return DayReading()
    tissue = sum(row[2] for row in rows)
    p = [row[1] / 100 for row in rows if row[1] is not None]
    quartiles = np.quantile(p, _QUARTILES) if p else ()
    return DayReading(
        results=len(rows),
        positive_ratio=sum(row[0] == "positive" for row in rows) / len(rows),
        tumor_tile_ratio=sum(row[3] for row in rows) / tissue if tissue else None,
        high_expression=dict(zip(_QUARTILES, map(float, quartiles), strict=False)),
    )


def _volumes(settings: Settings) -> Iterator[VolumeReading]:
    folders = {
        "database": settings.results.database.parent,
        "heatmaps": settings.results.heatmaps,
        "inbox": settings.intake.inboxes[0],
    }
    for holds, folder in folders.items():
        there = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
        if there is not None:
            usage = shutil.disk_usage(there)
            yield VolumeReading(holds, usage.free, usage.total)


def _sizes(database: Path) -> Iterator[int]:
    for path in (database, database.with_name(f"{database.name}-wal")):
        if path.exists():
            yield path.stat().st_size


def _seconds(time: str | None) -> float | None:
    return datetime.fromisoformat(time).timestamp() if time is not None else None
