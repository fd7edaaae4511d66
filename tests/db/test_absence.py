"""A database that is gone is told from one that was never made."""

from contextlib import closing
from pathlib import Path

import pytest

from her2d.db.absence import require_not_lost
from her2d.db.backup import back_up
from her2d.db.connection import DatabaseError, open_database
from her2d.system.linux import unmounted_above


@pytest.fixture
def database(tmp_path) -> Path:
    return tmp_path / "state" / "her2d.sqlite"


def check(database: Path) -> None:
    folder = database.parent.parent
    require_not_lost(database, folder / "heatmaps", folder / "backups")


def with_a_heatmap(database: Path) -> None:
    heatmap = database.parent.parent / "heatmaps" / "a.0123456789ab.01234567.png"
    heatmap.parent.mkdir()
    heatmap.touch()


def with_a_backup(database: Path) -> None:
    back_up(database, database.parent.parent / "backups")


def test_a_first_database_may_be_made(database):
    check(database)


def test_a_database_that_is_there_is_no_concern_of_this_check(database):
    open_database(database).close()
    with_a_backup(database)
    check(database)


@pytest.mark.parametrize("trace", [with_a_heatmap, with_a_backup])
@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_database_that_left_files_elsewhere_is_not_made_again(database, trace, lose):
    open_database(database).close()
    trace(database)
    lose(database)
    with pytest.raises(DatabaseError, match=r"is missing, but there .* her2d db create"):
        check(database)
    with closing(open_database(database)):  # as `her2d db create` does
        check(database)


def test_other_pictures_are_no_trace_of_a_database(database):
    folder = database.parent.parent / "heatmaps"
    folder.mkdir()
    (folder / "logo.png").touch()
    check(database)


def test_a_mount_of_fstab_that_is_missing_above_the_database_is_named(tmp_path):
    fstab, point = tmp_path / "fstab", tmp_path / "with space"
    fstab.write_text(
        "# a comment /nothing ext4\n"
        "/dev/sda1 / ext4 defaults 0 1\n"
        "/dev/sdb1 none swap sw 0 0\n"
        f"/dev/sdc1 {str(point).replace(' ', chr(92) + '040')} ext4 defaults 0 2\n"
        "\n"
    )
    assert unmounted_above(point / "deep" / "her2d.sqlite", fstab) == point
    assert unmounted_above(tmp_path / "her2d.sqlite", fstab) is None
    assert unmounted_above(tmp_path / "her2d.sqlite", tmp_path / "absent") is None
