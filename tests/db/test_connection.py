"""Opening the database."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from her2d.db.connection import (
    DatabaseError,
    ForeignDatabase,
    UnreleasedDatabase,
    known_schema_version,
    open_database,
    open_existing,
    open_readonly,
    schema_version,
)


def test_a_new_database_has_the_tables_and_view_of_the_design(tmp_path):
    db = open_database(tmp_path / "deep" / "her2d.sqlite")
    assert {"slides", "jobs", "runs", "tiles", "bundles", "events"} <= set(db.table_names())
    assert "slide_results" in db.view_names()


def test_the_view_has_at_least_the_columns_of_the_design(tmp_path):
    db = open_database(tmp_path / "her2d.sqlite")
    wanted = (
        "slide_id file_name path content_hash her2_status reason high_expression_percent ci_low"
        " ci_high borderline tumor_pixels strong_pixels tiles_total tiles_tissue tiles_tumor"
        " tiles_strong tiles_unreadable bundle_name bundle_version backend software_version"
        " queued_at started_at finished_at elapsed_s um_per_px magnification magnification_source"
        " bundle_digest threshold_percent tile_cut precision runtime runtime_version"
        " scikit_learn_version git_commit"
    )
    assert set(wanted.split()) <= {column.name for column in db.view("slide_results").columns}


def test_writes_survive_a_power_cut_and_readers_do_not_wait(tmp_path):
    db = open_database(tmp_path / "her2d.sqlite")
    pragmas = {
        name: db.execute(f"pragma {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_opening_again_changes_nothing(tmp_path):
    path = tmp_path / "her2d.sqlite"
    before = open_database(path).schema
    assert open_database(path).schema == before


def test_many_threads_can_open_a_new_database_at_once(tmp_path):
    path = tmp_path / "her2d.sqlite"
    errors: list[Exception] = []

    def open_it() -> None:
        try:
            open_database(path).close()
        except DatabaseError as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert "slide_results" in open_readonly(path).view_names()


def test_a_database_of_a_newer_her2d_is_refused(tmp_path):
    path = tmp_path / "her2d.sqlite"
    open_database(path).execute("pragma user_version = 999")
    for opened in (open_database, open_readonly):
        with pytest.raises(DatabaseError, match="written by a newer version of her2d"):
            opened(path)


def test_a_file_that_is_not_a_database_is_refused_and_not_changed(tmp_path):
    path = tmp_path / "her2d.sqlite"
    path.write_bytes(b"this is a letter, not a database" * 100)
    for opened in (open_database, open_readonly):
        with pytest.raises(DatabaseError, match="cannot be opened"):
            opened(path)
    assert path.read_bytes().startswith(b"this is a letter")


def test_a_missing_database_cannot_be_opened_for_reading(tmp_path):
    with pytest.raises(DatabaseError, match="There is no database"):
        open_readonly(tmp_path / "her2d.sqlite")


def test_a_read_only_connection_cannot_write(tmp_path):
    path = tmp_path / "her2d.sqlite"
    open_database(path).close()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        open_readonly(path).execute("delete from jobs")


@pytest.fixture(params=[0, 3])
def foreign_database_error(request, tmp_path) -> Path:
    path = tmp_path / "her2d.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table patients (name)")
        connection.execute(f"pragma user_version = {request.param}")
        connection.commit()
    return path


@pytest.mark.parametrize("opened", [open_database, open_existing, open_readonly, schema_version])
def test_a_database_of_another_program_is_refused_and_not_changed(foreign_database_error, opened):
    before = foreign_database_error.read_bytes()
    with pytest.raises(ForeignDatabase, match="the database of another program"):
        opened(foreign_database_error)
    assert foreign_database_error.read_bytes() == before
    assert [path.name for path in foreign_database_error.parent.iterdir()] == ["her2d.sqlite"]


@pytest.mark.parametrize("opened", [open_database, open_existing, open_readonly, schema_version])
def test_the_error_for_a_folder_says_that_it_is_a_folder(tmp_path, opened):
    with pytest.raises(DatabaseError, match="is a folder"):
        opened(tmp_path)


def test_a_database_that_must_exist_is_not_created(tmp_path):
    with pytest.raises(DatabaseError, match="There is no database"):
        open_existing(tmp_path / "typo" / "her2d.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_an_older_schema_is_not_updated_without_a_copy(tmp_path, second_migration):
    path = tmp_path / "her2d.sqlite"
    with second_migration.not_yet():
        open_database(path).close()
    for opened in (open_database, open_existing, open_readonly):
        with pytest.raises(DatabaseError, match="her2d db migrate make a copy and update it"):
            opened(path)
    assert schema_version(path) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("alter table runs drop column backend", "table runs"),
        ("drop view quality_concerns", "view quality_concerns"),
        ("drop index jobs_by_path", "index jobs_by_path"),
        ("drop trigger runs_newest_is_current", "trigger runs_newest_is_current"),
    ],
)
def test_a_schema_of_the_same_number_that_is_not_the_same_is_refused_in_one_sentence(
    tmp_path, change, named
):
    path = tmp_path / "her2d.sqlite"
    open_database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        if change.startswith("alter"):
            for view in connection.execute(
                "select name from sqlite_master where type = 'view'"
            ).fetchall():
                connection.execute(f"drop view {view[0]}")
        connection.execute(change)
        connection.commit()
    for opened in (open_database, open_existing, open_readonly, known_schema_version):
        with pytest.raises(UnreleasedDatabase, match=f"unreleased version.*{named} differs"):
            opened(path)


def test_tables_and_indexes_that_a_person_added_are_no_reason_to_refuse(tmp_path):
    path = tmp_path / "her2d.sqlite"
    open_database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table my_notes (slide_id, note)")
        connection.execute("create index mine on slides (vendor)")
    open_database(path).close()
