"""Recording a result costs the same with 100 slides in the database and with 100,000.

make bench        prints, as medians of 60 results, the milliseconds of processor time, those until
                  a result is on the disk, and by how much it makes the file larger
"""

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from a_result import BUNDLE, RUN, SLIDE
from laboratory_sql import NUMBERS_SQL, QUALITY_SQL, RUNS_SQL, SLIDES_SQL, TILES_SQL
from sqlite_utils import Database

from her2d.db.connection import open_database
from her2d.queue.store import JobQueue
from her2d.results.records import StepTiming, TileTable
from her2d.results.store import record_run
from her2d.system.file_identity import FileState

pytestmark = pytest.mark.benchmark

RECORDED = 60
TILES = 200
_JOBS = """
insert into jobs (path, file_name, inbox, state, size, mtime_ns, discovered_at, slide_id, run_id)
select path, file_name, '/in', 'done', 1, 1, first_seen_at, id, id from slides
"""
_EVENTS = """
insert into events (at, job_id, slide_id, name)
select first_seen_at, id, id, 'done' from slides
"""


def tile_table() -> TileTable:
    numbers, p = np.arange(TILES), np.linspace(0, 1, TILES, dtype=np.float32)
    return TileTable(
        row=numbers // 20,
        column=numbers % 20,
        tile_class=("strong",) * TILES,
        tumor_pixels=numbers,
        p_strong=p,
        p_folds=np.stack([p] * 5, axis=1),
    )


@dataclass(frozen=True)
class Recording:
    """What it takes to record a claimed job's result: medians in ms, and growth in bytes."""

    cpu_ms: float
    wall_ms: float
    size: int


def recording(path: Path, slides: int) -> Recording:
    """Record some results beside those of so many slides."""
    db = open_database(path)
    with db.atomic():
        db.execute("insert into bundles values (1, 'd', 'demo', '1', '{}', 't')")
        for statement in (SLIDES_SQL, RUNS_SQL.format(bundle=1, step=1.7)):
            db.execute(NUMBERS_SQL.format(last=slides) + statement)
        db.execute(QUALITY_SQL)
        db.execute(NUMBERS_SQL.format(last=5) + TILES_SQL, [1, slides])
        db.execute(_JOBS)
        db.execute(_EVENTS)
    jobs, tiles = JobQueue(db), tile_table()
    cpu_ms, wall_ms, size = [], [], size_of(db)
    timings = tuple(StepTiming(step, 1.0) for step in ("hash", "tiles", "pictures"))
    for number in range(RECORDED):
        file = Path(f"/in/new-{number}.tif")
        job = jobs.discover(file, Path("/in"), FileState(0, 1, 1))
        assert job is not None
        name = f"blake2b:new-{number}"
        cpu, wall = time.process_time(), time.monotonic()
        record_run(
            db,
            slide=replace(SLIDE, content_hash=name, file_name=file.name, path=str(file)),
            bundle=replace(BUNDLE, digest="d"),
            run=RUN,
            tiles=tiles,
            timings=timings,
            job_id=job.id,
        )
        cpu_ms.append(1000 * (time.process_time() - cpu))
        wall_ms.append(1000 * (time.monotonic() - wall))
    grown = (size_of(db) - size) // RECORDED
    db.close()
    return Recording(statistics.median(cpu_ms), statistics.median(wall_ms), grown)


def size_of(db: Database) -> int:
    (pages,), (page,) = (
        db.execute(f"pragma {name}").fetchone() for name in ("page_count", "page_size")
    )
    return int(pages * page)


def test_recording_does_not_depend_on_how_many_slides_there_are(tmp_path):
    numbers = (100, 1000, 10_000, 100_000)
    taken = {slides: recording(tmp_path / f"{slides}.sqlite", slides) for slides in numbers}
    print()
    for slides, found in taken.items():
        print(
            f"{slides:,} slides: {found.cpu_ms:.2f} ms of processor time, {found.wall_ms:.1f} ms in"
            f" all, {found.size:,} bytes"
        )
    assert taken[100_000].cpu_ms < 1.2 * taken[100].cpu_ms
