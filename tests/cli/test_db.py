"""`her2d db backup|check|prune|migrate`, and `her2d config`."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from her2d.db.backup import back_up
from her2d.db.connection import (
    newest_schema,
    open_database,
    open_readonly,
    schema_version,
)
from her2d.db.integrity import problems
from her2d.db.migrate import migrate
from her2d.db.prune import prune_tiles
from her2d.results.listing import list_results


@pytest.fixture
def scanned(laboratory, write_slide):
    laboratory.run("scan", write_slide(["Sw"], "a.tif"), write_slide(["ww"], "b.tif"))
    return laboratory


def backups(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_backup_holds_every_result_and_needs_no_other_file(scanned, tmp_path):
    folder = tmp_path / "backups"
    assert scanned.run("db", "backup", folder).exit_code == 0
    (copy,) = backups(folder)
    assert list_results(open_readonly(copy)) == list_results(open_readonly(scanned.database))
    assert backups(folder) == [copy]


def test_a_backup_of_a_database_being_written_is_sound(scanned, tmp_path):
    stop = threading.Event()

    def write() -> None:
        db = open_database(scanned.database)
        while not stop.is_set():
            db.table("events").insert_all({"at": "now", "name": "noise"} for _ in range(500))
        db.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [back_up(scanned.database, tmp_path / "backups") for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    assert [problems(copy) for copy in copies] == [[]] * 5


def test_only_the_newest_backups_are_kept(scanned, tmp_path):
    folder = tmp_path / "backups"
    made = [back_up(scanned.database, folder) for _ in range(4)]
    assert scanned.run("db", "backup", folder, "--keep", 2).exit_code == 0
    assert backups(folder)[0] == made[3]
    assert len(backups(folder)) == 2


def test_a_backup_that_cannot_be_written_is_one_clear_line_and_leaves_nothing(
    scanned, her2d, tmp_path
):
    (tmp_path / "file").write_text("in the way")
    code, _, err = her2d("db", "backup", tmp_path / "file" / "backups")
    assert code == 1
    assert "cannot be backed up" in err
    assert err.count("\n") == 1


def test_no_damage_is_found_in_a_sound_database(scanned):
    assert "No damage was found in" in scanned.run("db", "check").stdout


def test_damage_is_reported(scanned, her2d):
    with scanned.database.open("r+b") as file:
        file.seek(4 * 4096)  # the head of the fifth page
        file.write(b"\xff" * 64)
    code, _, err = her2d("db", "check")
    assert code == 1
    assert "is damaged" in err


def test_a_row_that_lost_its_parent_is_damage(scanned, her2d):
    connection = sqlite3.connect(scanned.database)
    with connection:
        connection.execute("delete from slides where id = 1")
    connection.close()
    code, _, err = her2d("db", "check")
    assert code == 1
    assert "refers to a missing row of slides" in err


def test_pruning_deletes_old_tile_rows_and_no_results(scanned):
    db = open_database(scanned.database)
    db.execute("update runs set finished_at = '2020-01-01T00:00:00.000000Z' where id = 1")
    db.conn.commit()
    before = list_results(db)
    found = prune_tiles(db, keep_days=365)
    assert (found.runs, found.tiles) == (1, 2)
    assert [row["run_id"] for row in db.query("select distinct run_id from tiles")] == [2]
    assert list_results(db) == before
    assert prune_tiles(db, keep_days=365).tiles == 0


def test_pruning_without_a_limit_says_so_and_deletes_nothing(scanned):
    assert "Nothing to prune" in scanned.run("db", "prune").stdout
    assert "4 tile rows of 2 runs" in scanned.run("db", "prune", "--days", 0).stdout


@pytest.mark.parametrize("days", ["10000000", "-1", "nan", "inf"])
def test_days_out_of_range_are_refused_in_one_clear_line(scanned, her2d, days):
    code, _, err = her2d("db", "prune", "--days", days)
    assert code == 1
    assert err.startswith("her2d: --days must be 0 to 36500")


@pytest.mark.slow
def test_a_locked_database_is_not_reported_as_damaged(scanned, her2d):
    with closing(sqlite3.connect(scanned.database)) as other:
        other.execute("pragma locking_mode = exclusive")
        other.execute("delete from events")
        other.commit()
        code, _, err = her2d("db", "check")
    assert code == 1
    assert "database is locked" in err
    assert "damaged" not in err


def test_pruning_leaves_no_free_pages_in_the_file(scanned):
    db = open_database(scanned.database)
    db.table("events").insert_all({"at": "now", "name": "noise"} for _ in range(5000))
    db.execute("delete from events")
    assert db.execute("pragma freelist_count").fetchone()[0] > 0
    assert scanned.run("db", "prune", "--days", 0).exit_code == 0
    assert db.execute("pragma freelist_count").fetchone()[0] == 0


def test_a_database_is_vacuumed_by_command(scanned):
    found = scanned.run("db", "vacuum")
    assert found.exit_code == 0
    assert "MB ->" in found.stdout


def test_a_backup_is_restored_by_command(scanned, tmp_path):
    before = list_results(open_readonly(scanned.database))
    scanned.run("db", "backup")
    (copy,) = backups(scanned.folder / "backups")
    scanned.database.unlink()
    found = scanned.run("db", "restore", copy)
    assert found.exit_code == 0, found.output
    assert found.stdout == f"Restored {scanned.database} from {copy}.\n"
    assert list_results(open_readonly(scanned.database)) == before


@pytest.fixture
def of_an_older_version(laboratory, second_migration):
    """A database that lacks the last migration, with a row."""
    with second_migration.not_yet(), closing(open_database(laboratory.database)) as db:
        db.table("events").insert({"at": "now", "name": "kept"})
    return laboratory


def test_a_database_of_an_earlier_version_is_brought_up_to_date(of_an_older_version):
    found = of_an_older_version.run("db", "migrate")
    assert found.exit_code == 0
    assert "schema 1 -> 2" in found.stdout
    assert schema_version(of_an_older_version.database) == 2
    fresh = open_database(of_an_older_version.folder / "fresh.sqlite")
    assert open_database(of_an_older_version.database).schema == fresh.schema


def test_a_database_is_made_with_the_newest_schema(laboratory):
    open_database(laboratory.database).close()
    assert schema_version(laboratory.database) == newest_schema() == 1


def assert_the_copy_is_of_before(folder: Path) -> None:
    (copy,) = folder.glob("her2d.schema-1-*.sqlite")
    assert schema_version(copy) == 1
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("select name from events").fetchall() == [("kept",)]


def test_before_a_migration_the_database_is_copied(of_an_older_version):
    found = of_an_older_version.run("db", "migrate")
    assert found.exit_code == 0, found.output
    assert "A copy from before is" in found.stdout
    assert_the_copy_is_of_before(of_an_older_version.folder)


def test_the_copy_can_be_put_elsewhere(of_an_older_version, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert of_an_older_version.run("db", "migrate", "--copy-to", elsewhere).exit_code == 0
    assert_the_copy_is_of_before(elsewhere)


def test_a_database_that_cannot_be_copied_is_not_migrated(of_an_older_version, her2d, tmp_path):
    code, _, err = her2d("db", "migrate", "--copy-to", tmp_path / "absent")
    assert code == 1
    assert "cannot be backed up" in err
    assert schema_version(of_an_older_version.database) == 1


def test_a_scan_copies_a_database_before_it_migrates_it(of_an_older_version, write_slide):
    of_an_older_version.run("scan", write_slide(["Sw"], "a.tif"))
    assert schema_version(of_an_older_version.database) == 2
    assert_the_copy_is_of_before(of_an_older_version.folder)


def test_a_database_that_is_new_or_up_to_date_is_not_copied(laboratory):
    for _ in range(2):
        migrate(laboratory.database)
    assert [path.name for path in laboratory.folder.glob("*.sqlite")] == ["her2d.sqlite"]


# What needs no bundle's digest or webhook to come as far as the database.
CHANGES = [
    ("queue", "retry", "1"),
    ("queue", "cancel", "1"),
    ("queue", "priority", "1", "5"),
    ("queue", "reprocess"),
    ("db", "prune", "--days", "1"),
    ("db", "vacuum"),
    ("webhook", "resend", "--event", "1"),
]


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_only_commands_that_copy_the_database_first_migrate_it(
    of_an_older_version, her2d, command, monkeypatch
):
    monkeypatch.setenv("HER2D_WEBHOOK__URL", "http://127.0.0.1:9/hook")
    code, _, err = her2d(*command)
    assert code == 1
    assert "was written by an older version of her2d" in err
    assert schema_version(of_an_older_version.database) == 1


@pytest.mark.parametrize("command", [*CHANGES, ("db", "migrate")], ids=" ".join)
def test_a_mistyped_path_makes_no_database(laboratory, her2d, command, monkeypatch):
    monkeypatch.setenv("HER2D_WEBHOOK__URL", "http://127.0.0.1:9/hook")
    before = sorted(laboratory.folder.iterdir())
    code, _, err = her2d(*command)
    assert code == 1
    assert "There is no database" in err
    assert sorted(laboratory.folder.iterdir()) == before


def in_the_way(database: Path) -> None:
    """What no migration can get past."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table second (x)")
        connection.commit()


def test_a_migration_that_fails_changes_nothing_and_says_so(of_an_older_version, her2d):
    in_the_way(of_an_older_version.database)
    code, _, err = her2d("db", "migrate")
    assert code == 1
    assert "already exists. It is unchanged" in err
    assert err.count("\n") == 1
    assert schema_version(of_an_older_version.database) == 1
    with closing(sqlite3.connect(of_an_older_version.database)) as connection:
        columns = connection.execute("select name from pragma_table_info('run_quality')")
        assert ("sharpness",) not in columns.fetchall()


def copies(laboratory) -> list[Path]:
    return list(laboratory.folder.glob("her2d.schema-*"))


def test_a_service_that_fails_to_migrate_at_every_start_leaves_no_copies(of_an_older_version):
    in_the_way(of_an_older_version.database)
    for _ in range(3):
        assert of_an_older_version.run("db", "migrate").exit_code == 1
    assert copies(of_an_older_version) == []


@pytest.fixture
def killed(of_an_older_version, monkeypatch):
    """Migrates as far as a process that is killed once it has its copy."""

    def power_cut(_: Path) -> None:
        raise KeyboardInterrupt

    def killed() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("her2d.db.migrate.apply_migrations", power_cut)
            with pytest.raises(KeyboardInterrupt):
                migrate(of_an_older_version.database)

    return killed


def test_a_service_that_is_killed_while_it_migrates_at_every_start_keeps_one_copy(
    of_an_older_version, killed
):
    half = "her2d.schema-1-20260101T000000000000Z.part"
    (of_an_older_version.folder / half).write_bytes(b"half a copy")
    for _ in range(3):
        killed()
    assert_the_copy_is_of_before(of_an_older_version.folder)
    assert len(copies(of_an_older_version)) == 1


def test_a_database_that_changed_after_a_killed_migration_is_copied_again(
    of_an_older_version, killed
):
    killed()
    with closing(sqlite3.connect(of_an_older_version.database)) as connection:
        connection.execute("insert into events (at, name) values ('now', 'later')")
        connection.commit()
    killed()
    assert len(copies(of_an_older_version)) == 2


@pytest.fixture
def of_another_program(laboratory):
    with closing(sqlite3.connect(laboratory.database)) as connection:
        connection.execute("create table patients (name)")
    return laboratory


@pytest.mark.parametrize(
    "command", [("check",), ("backup",), ("migrate",), ("prune", "--days", "1"), ("vacuum",)]
)
def test_another_programs_database_is_left_alone(of_another_program, her2d, command):
    before = of_another_program.database.read_bytes()
    code, _, err = her2d("db", *command)
    assert code == 1
    assert "is the database of another program" in err
    assert of_another_program.database.read_bytes() == before
    assert list(of_another_program.folder.rglob("her2d-*")) == []


def test_config_show_prints_the_settings_that_are_in_force(laboratory, monkeypatch):
    monkeypatch.setenv("HER2D_PIPELINE__QUEUE_TILES", "9")
    found = laboratory.json("config", "show")
    assert found["pipeline"]["queue_tiles"] == 9
    assert found["intake"]["settle_s"] == 0.3
    assert "settle_s = 0.3" in laboratory.run("config", "show").stdout


def test_config_check_names_the_key_that_is_wrong(her2d, laboratory):
    code, out, _ = her2d("config", "check")
    assert code == 0
    assert "are well formed. To check the files and services that they name" in out
    with (laboratory.folder / "config.toml").open("a") as file:
        file.write("[pipeline]\nqueue_tiles = 0\n")
    code, _, err = her2d("config", "check")
    assert code == 1
    assert "pipeline.queue_tiles" in err


def acts(laboratory) -> dict[str, str]:
    """What persons did to the database: the act to the command."""
    return {act["act"]: act["actor"].partition(": ")[2] for act in laboratory.json("db", "history")}


def test_every_act_on_the_database_is_recorded_with_its_command(scanned, tmp_path):
    scanned.run("db", "backup", tmp_path / "backups")
    scanned.run("db", "prune", "--days", 0)
    scanned.run("db", "vacuum")
    assert acts(scanned) == {
        "done": "her2d scan",
        "pruned": "her2d db prune",
        "vacuumed": "her2d db vacuum",
    }
    (copy,) = backups(tmp_path / "backups")
    assert scanned.run("db", "restore", copy).exit_code == 0
    restored = scanned.json("db", "history")[0]
    assert (restored["act"], restored["detail"]) == ("restored", f"From {copy}.")
    assert acts(scanned) == {"done": "her2d scan", "restored": "her2d db restore"}


def test_the_acts_on_a_slide_are_shown_with_it(scanned):
    (act,) = scanned.json("show", "a.tif")["acts"]
    assert (act["act"], act["actor"].partition(": ")[2]) == ("done", "her2d scan")
    assert "her2d scan" in scanned.run("show", "a.tif").stdout


def test_an_empty_database_is_created_on_request_only_where_there_is_none(laboratory, her2d):
    assert laboratory.run("db", "create").exit_code == 0
    assert acts(laboratory) == {"created": "her2d db create"}
    code, _, error = her2d("db", "create")
    assert (code, error) == (1, f"her2d: {laboratory.database} already exists.\n")


def test_a_scan_does_not_make_a_database_again_that_is_gone(scanned, write_slide, her2d):
    scanned.database.unlink()
    code, _, error = her2d("scan", write_slide(["SS"], "c.tif"))
    assert code == 1
    assert "is missing, but there are heatmaps of its results" in error
    assert not scanned.database.exists()


def test_a_damaged_database_is_one_sentence(scanned, her2d):
    with scanned.database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (scanned.database.stat().st_size - 4096))
    for command in (["results"], ["show", "a.tif"], ["queue", "ls"], ["queue", "cancel", 1]):
        code, _, error = her2d(*command)
        assert (code, error.count("\n")) == (1, 1), error
