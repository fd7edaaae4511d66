"""Events that the receiver has and the database lacks."""

from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from her2d.db.backup import back_up
from her2d.db.connection import open_database
from her2d.db.restore import restore
from her2d.webhook.sent_mark import SentMark, mark_of, note_sent, report_lost_events


@pytest.fixture
def database(tmp_path) -> Path:
    path = tmp_path / "her2d.sqlite"
    with closing(open_database(path)) as db:
        add(db, "2026-03-01T10:00:00.000000Z")
    return path


def add(db: Database, at: str) -> SentMark:
    """Add an event, and return it as one that was sent."""
    db.table("events").insert({"at": at, "name": "done"})
    return SentMark(int(db.execute("select max(id) from events").fetchone()[0]), at)


def reported(database: Path) -> str | None:
    with closing(open_database(database)) as db:
        return report_lost_events(db, database)


def test_a_database_that_has_all_that_was_sent_is_not_reported(database):
    with closing(open_database(database)) as db:
        note_sent(database, add(db, "2026-03-01T11:00:00.000000Z"))
        add(db, "2026-03-01T12:00:00.000000Z")
    assert reported(database) is None
    assert mark_of(database).exists()


def test_a_database_whose_webhook_never_sent_anything_is_not_reported(database):
    assert reported(database) is None


@pytest.mark.parametrize("again", [False, True], ids=["missing", "with another event of its id"])
def test_events_that_were_sent_after_the_backup_are_reported_once(database, tmp_path, again):
    backup = back_up(database, tmp_path / "backups")
    with closing(open_database(database)) as db:
        note_sent(database, add(db, "2026-03-01T11:00:00.000000Z"))
    restore(backup, database)
    if again:
        with closing(open_database(database)) as db:
            add(db, "2026-03-01T13:00:00.000000Z")
    sentence = reported(database) or ""
    assert (
        "was sent events up to 2026-03-01T11:00:00.000000Z, which this database lacks" in sentence
    )
    assert reported(database) is None
    with closing(open_database(database)) as db:
        names = [name for (name,) in db.execute("select name from events order by id")]
    assert names[-1] == "sent-events-lost"


@pytest.mark.parametrize("text", ["", "not json", "[1]", '{"event_id": 1}'])
def test_a_note_that_cannot_be_read_is_no_note(database, text):
    mark_of(database).write_text(text)
    assert reported(database) is None
