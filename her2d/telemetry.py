"""Database, disks and pipeline -> one reading, for each scrape of /metrics."""

import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlite_utils import Database

from her2d.database import open_readonly
from her2d.intake import JobQueue, existing_folder, in_seconds
from her2d.ops import DayReading, Gpus, Reading, StageReading, VolumeReading
from her2d.pipeline import Pipeline
from her2d.settings import Settings

_QUARTILES = (0.25, 0.5, 0.75)
_FLAGS = ("blurred", "folded", "pen_marked", "stain_outlier")
_OUTCOMES = ("done", "failed", "quarantined", "duplicate", "vanished")
_WAITING = ("settling", "queued", "running", "failed")


class Outcomes:
    """Counts how jobs end, whoever ends them: worker, inbox or `her2d queue`.

    Every change of state is a row of `events`, so what was counted is never missed nor counted
    twice. Counts begin at 0 with the process, as Prometheus expects of counters.
    """

    def __init__(self, db: Database) -> None:
        self._last = _last_event(db)
        self._counts = dict.fromkeys(_OUTCOMES, 0)
        self._alone = threading.Lock()

    def advance(self, db: Database) -> Mapping[str, int]:
        """How many jobs ended in each way so far. Safe to call from several threads."""
        with self._alone:
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
    pipeline: Pipeline,
    outcomes: Outcomes,
    *,
    gpus: Gpus,
    progress_at: float,
    intake_paused: bool,
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
        ended = outcomes.advance(db)
    finally:
        db.close()
    now = datetime.now(UTC).timestamp()
    return Reading(
        jobs=jobs,
        outcomes=ended,
        stages=tuple(_stages(pipeline)),
        waiting=sum(jobs[state] for state in _WAITING),
        oldest_waiting_s=max(0.0, now - oldest) if oldest is not None else 0.0,
        last_scan_at=newest,
        progress_at=progress_at,
        intake_paused=intake_paused,
        database_bytes=sum(_sizes(database)),
        volumes=tuple(_volumes(settings)),
        gpus=gpus.read(),
        day=day,
    )


def last_success(db: Database) -> float | None:
    """When a slide last got a result, seconds since 1970; None where none ever did."""
    return _seconds(db.execute("select max(finished_at) from runs").fetchone()[0])


def _last_event(db: Database) -> int:
    return int(db.execute("select coalesce(max(id), 0) from events").fetchone()[0])


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
    since = in_seconds(-86_400)
    rows = db.execute(
        "select her2_status, high_expression_percent, tiles_tissue, tiles_tumor,"
        " run_quality.stain_distance, run_quality.saturation, run_quality.saturation_distance,"
        f" {', '.join(f'coalesce(run_quality.{flag}, 0)' for flag in _FLAGS)}"
        " from slide_results left join run_quality using (run_id) where finished_at >= ?",
        [since],
    ).fetchall()
    if not rows:
        return DayReading()
    status, percent, tissue, tumor, stain, saturation, faded, *flags = zip(*rows, strict=True)
    p = [value / 100 for value in percent if value is not None]
    return DayReading(
        results=len(rows),
        positive_ratio=status.count("positive") / len(rows),
        tumor_tile_ratio=sum(tumor) / sum(tissue) if sum(tissue) else None,
        high_expression=dict(zip(_QUARTILES, _quantiles(p, _QUARTILES), strict=False)),
        stain_distance=_median(stain),
        saturation=_median(saturation),
        saturation_distance=_median(faded),
        flagged_ratio={
            flag: sum(values) / len(rows) for flag, values in zip(_FLAGS, flags, strict=True)
        },
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _quantiles(values: list[float], quantiles: tuple[float, ...]) -> list[float]:
    return [float(value) for value in np.quantile(values, quantiles)] if values else []


def _volumes(settings: Settings) -> Iterator[VolumeReading]:
    folders = {
        "database": settings.results.database.parent,
        "heatmaps": settings.results.heatmaps,
        "inbox": settings.intake.inboxes[0],
    }
    for holds, folder in folders.items():
        usage = shutil.disk_usage(existing_folder(folder))
        yield VolumeReading(holds, usage.free, usage.total)


def _sizes(database: Path) -> Iterator[int]:
    for path in (database, database.with_name(f"{database.name}-wal")):
        if path.exists():
            yield path.stat().st_size


def _seconds(time: str | None) -> float | None:
    return datetime.fromisoformat(time).timestamp() if time is not None else None
