"""Freeing the disk space of pruned rows."""

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from her2d.db.connection import DatabaseError, open_database
from her2d.db.integrity import problems
from her2d.db.prune import prune_tiles
from her2d.db.vacuum import return_free_pages, vacuum

ROWS = 20_000


SLIDE = {
    "id": 1,
    "content_hash": "aa",
    "file_name": "a.tif",
    "path": "/in/a.tif",
    "vendor": "motic",
    "width": 1,
    "height": 1,
    "magnification": 4.0,
    "first_seen_at": "2020-01-01T00:00:00.000000Z",
}
BUNDLE = {
    "id": 1,
    "digest": "dd",
    "name": "test",
    "version": "1",
    "manifest": "{}",
    "first_used_at": "2020-01-01T00:00:00.000000Z",
}
OLD_RUN = {
    "slide_id": 1,
    "bundle_id": 1,
    "her2_status": "indeterminate",
    "borderline": 0,
    "threshold_percent": 10.0,
    "tile_cut": 0.5,
    **dict.fromkeys(("tumor_pixels", "strong_pixels", "tiles_total", "tiles_tissue"), 0),
    **dict.fromkeys(("tiles_tumor", "tiles_strong", "tiles_unreadable"), 0),
    **dict.fromkeys(("grid_columns", "grid_rows"), 1),
    "um_per_px": 2.5,
    "level0_downsample": 10.0,
    **dict.fromkeys(("backend", "runtime"), "onnxruntime"),
    "precision": "fp32",
    **dict.fromkeys(("runtime_version", "scikit_learn_version", "software_version"), "0"),
    "started_at": "2020-01-01T00:00:00.000000Z",
    "finished_at": "2020-01-01T00:00:00.000000Z",
    "elapsed_s": 0.0,
}


def fill(database: Path) -> None:
    """Add an old run with many tiles."""
    with closing(open_database(database)) as db:
        db.table("slides").upsert(SLIDE, pk="id")
        db.table("bundles").upsert(BUNDLE, pk="id")
        db.table("runs").insert(OLD_RUN)
        run = db.execute("select max(id) from runs").fetchone()[0]
        db.table("tiles").insert_all(
            {
                "run_id": run,
                "tile_row": row,
                "tile_column": 0,
                "tile_class": "weak",
                "tumor_pixels": 7,
            }
            for row in range(ROWS)
        )


def prune(database: Path) -> int:
    """Return the size that stays in the file, as `her2d db prune` reports it."""
    with closing(open_database(database)) as db:
        assert prune_tiles(db, keep_days=30).tiles == ROWS
        return return_free_pages(db)


def size(database: Path) -> int:
    return sum(path.stat().st_size for path in database.parent.glob(f"{database.name}*"))


@pytest.fixture
def database(tmp_path) -> Path:
    path = tmp_path / "her2d.sqlite"
    fill(path)
    assert size(path) > 450_000
    return path


@pytest.fixture
def older(tmp_path) -> Path:
    """A database without incremental vacuum, as older versions of her2d made it."""
    path = tmp_path / "older.sqlite"
    open_database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma auto_vacuum = none")
        connection.execute("vacuum")
    fill(path)
    assert size(path) > 450_000
    return path


def test_pruning_makes_the_file_smaller(database):
    before = size(database)
    assert prune(database) == 0
    assert size(database) < before / 2


def test_the_file_shrinks_while_the_daemon_has_it_open_and_writes(database):
    before = database.stat().st_size
    with closing(open_database(database)) as daemon:
        daemon.table("events").insert({"at": "now", "name": "before"})
        prune(database)
        daemon.table("events").insert({"at": "now", "name": "after"})
        assert database.stat().st_size < before / 2
    assert problems(database) == []


def test_pruning_a_database_without_incremental_vacuum_frees_space_only_for_new_rows(older):
    before = size(older)
    assert prune(older) > 450_000
    assert size(older) >= before
    fill(older)
    assert older.stat().st_size <= before * 1.1


def test_after_a_vacuum_pruning_makes_the_file_smaller(older):
    prune(older)
    sizes = vacuum(older)
    assert sizes.after < sizes.before / 2
    assert sizes.after == older.stat().st_size
    fill(older)
    full = size(older)
    assert prune(older) == 0
    assert size(older) < full / 2


def test_a_connection_opened_before_a_vacuum_can_still_write(older):
    with closing(open_database(older)) as daemon:
        daemon.table("events").insert({"at": "now", "name": "before"})
        vacuum(older)
        daemon.table("events").insert_all({"at": "now", "name": "after"} for _ in range(5000))
        daemon.execute("delete from events where id % 2")
        daemon.conn.commit()
        return_free_pages(daemon)
    assert problems(older) == []


def test_a_vacuum_without_enough_free_space_is_refused_before_it_begins(older, monkeypatch):
    monkeypatch.setattr("her2d.db.vacuum.disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    before = older.stat().st_size
    with pytest.raises(DatabaseError, match="Cannot vacuum"):
        vacuum(older)
    assert older.stat().st_size == before


def test_a_vacuum_waits_for_a_writer_for_a_limited_time(older, monkeypatch):
    monkeypatch.setattr("her2d.db.vacuum._BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(older)) as writer:
        writer.execute("begin immediate")
        with pytest.raises(DatabaseError, match="locked"):
            vacuum(older)


def test_a_vacuum_does_not_create_a_missing_database(tmp_path):
    with pytest.raises(DatabaseError, match="There is no database"):
        vacuum(tmp_path / "her2d.sqlite")
    assert list(tmp_path.iterdir()) == []
