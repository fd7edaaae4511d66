"""Store a result in one transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
from sqlite_utils import Database
from sqlite_utils.db import Table

from her2d.pipeline.slide_quality import SlideQuality
from her2d.results.records import (
    BundleRecord,
    CalibrationRecord,
    PictureRecord,
    RunRecord,
    SlideRecord,
    StepTiming,
    TileTable,
)
from her2d.results.renaming import rename_slide
from her2d.system.write_transaction import write_transaction


def record_run(
    db: Database,
    *,
    slide: SlideRecord,
    bundle: BundleRecord,
    run: RunRecord,
    tiles: TileTable,
    pictures: PictureRecord | None = None,
    timings: Sequence[StepTiming] = (),
    job_id: int | None = None,
    actor: str | None = None,
) -> int:
    """Store a run with its slide, bundle, tiles, pictures and timings, and return its id.

    With `job_id` the job is done in the same transaction, so that no crash can leave a result
    without its job being done, or a job done without its result.

    `actor` is the user and the command if a person had the slide scored.

    Raises:
        sqlite3.Error: nothing was stored.
    """
    with write_transaction(db):
        slide_id = _slide_id(db, slide, run.finished_at)
        bundle_id = _bundle_id(db, bundle, run.finished_at)
        run_id = _insert_run(db, run, slide_id, bundle_id, bundle.calibration)
        _insert_tiles(db, run_id, tiles)
        _insert_details(db, run_id, run.quality, pictures, timings)
        if job_id is not None:
            db.table("jobs").update(
                job_id,
                {
                    "state": "done",
                    "reason": None,
                    "content_hash": slide.content_hash,
                    "slide_id": slide_id,
                    "run_id": run_id,
                    "finished_at": run.finished_at,
                },
            )
        db.table("events").insert(
            {
                "at": run.finished_at,
                "job_id": job_id,
                "slide_id": slide_id,
                "name": "done",
                "detail": str(run.score.her2_status),
                "actor": actor,
            }
        )
    return run_id


def _insert_run(
    db: Database,
    run: RunRecord,
    slide_id: int,
    bundle_id: int,
    calibration: CalibrationRecord | None,
) -> int:
    """Insert the run with its score and the calibration that it used, and return its id."""
    if calibration is not None:
        db.execute(
            "insert or ignore into calibrations (digest, bundle_id, content, first_used_at)"
            " values (?, ?, ?, ?)",
            [calibration.digest, bundle_id, calibration.content, run.finished_at],
        )
    columns = {field.name: getattr(run, field.name) for field in fields(run)}
    del columns["score"], columns["quality"], columns["software"]
    values = {**run.score.model_dump(mode="json"), **columns, **asdict(run.software)}
    table = db.table("runs").insert(
        {
            **values,
            "slide_id": slide_id,
            "bundle_id": bundle_id,
            "calibration": None if calibration is None else calibration.digest,
        }
    )
    return _inserted(table)


def _inserted(table: Table) -> int:
    """Return the id of the row that was just inserted."""
    return int(cast(int, table.last_pk))


def _slide_id(db: Database, slide: SlideRecord, at: str) -> int:
    # A file with the same content and a new name is the same slide; the new name replaces the old.
    known = db.query("select id from slides where content_hash = ?", [slide.content_hash])
    for row in list(known):
        rename_slide(db, row["id"], Path(slide.path))
    row = next(
        db.query(
            "insert into slides (content_hash, file_name, path, barcode, vendor, width, height,"
            " magnification, mpp, first_seen_at, barcode_source, label_barcode, barcode_mismatch,"
            " magnification_source, size, mtime_ns, ctime_ns, first_block) values (:content_hash,"
            " :file_name, :path, :barcode, :vendor, :width, :height, :magnification, :mpp, :at,"
            " :barcode_source, :label_barcode, :barcode_mismatch, :magnification_source, :size,"
            " :mtime_ns, :ctime_ns, :first_block)"
            " on conflict (content_hash) do update set file_name = excluded.file_name,"
            " path = excluded.path, size = excluded.size, mtime_ns = excluded.mtime_ns,"
            " ctime_ns = excluded.ctime_ns, first_block = excluded.first_block,"
            " magnification = excluded.magnification, mpp = excluded.mpp,"
            " barcode = excluded.barcode, barcode_source = excluded.barcode_source,"
            " label_barcode = excluded.label_barcode,"
            " barcode_mismatch = excluded.barcode_mismatch,"
            " magnification_source = excluded.magnification_source returning id",
            {**asdict(slide), "at": at},
        )
    )
    return int(row["id"])


def _bundle_id(db: Database, bundle: BundleRecord, at: str) -> int:
    row = next(
        db.query(
            "insert into bundles (digest, name, version, manifest, first_used_at)"
            " values (?, ?, ?, ?, ?)"
            " on conflict (digest) do update set name = excluded.name returning id",
            [bundle.digest, bundle.name, bundle.version, bundle.manifest, at],
        )
    )
    return int(row["id"])


def _insert_details(
    db: Database,
    run_id: int,
    quality: SlideQuality,
    pictures: PictureRecord | None,
    timings: Sequence[StepTiming],
) -> None:
    """Insert the quality, pictures and timings of a run."""
    db.table("run_quality").insert({"run_id": run_id, **asdict(quality)})
    if pictures is not None:
        db.table("run_pictures").insert({"run_id": run_id, **asdict(pictures)})
    for timing in timings:
        db.table("run_timings").insert({"run_id": run_id, **asdict(timing)})


def _insert_tiles(db: Database, run_id: int, tiles: TileTable) -> None:
    db.conn.executemany(
        "insert into tiles values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _tile_rows(run_id, tiles)
    )


def _tile_rows(run_id: int, tiles: TileTable) -> Iterator[tuple[Any, ...]]:
    for index, tile_class in enumerate(tiles.tile_class):
        weight = np.nan if tiles.attention is None else tiles.attention[index]
        p = (tiles.p_strong[index], *tiles.p_folds[index], weight)
        yield (
            run_id,
            int(tiles.row[index]),
            int(tiles.column[index]),
            tile_class,
            int(tiles.tumor_pixels[index]),
            *(None if np.isnan(value) else float(value) for value in p),
        )
