"""The newest event that was sent, noted outside the database.

A database that was restored from a backup, or whose write-ahead log was lost, lacks events that the
receiver has. Without the note nobody would know.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlite_utils import Database

from her2d.system.clock import now
from her2d.system.files import write_whole
from her2d.system.write_transaction import write_transaction


@dataclass(frozen=True, slots=True)
class SentMark:
    """An event that was sent, and when it happened."""

    event_id: int
    at: str


def mark_of(database: Path) -> Path:
    """Return the path of the note, beside the database."""
    place = database.resolve()
    return place.with_name(f"{place.name}.sent")


def note_sent(database: Path, event: SentMark) -> None:
    """Replace the note. Raises OSError."""
    write_whole(mark_of(database), json.dumps(asdict(event)).encode())


def report_lost_events(db: Database, database: Path) -> str | None:
    """Return a sentence if the database lacks an event that was sent; else None.

    The loss becomes an event of the database, and the note is deleted, so that it is reported once.

    Args:
        db: a connection to the database.
        database: its file.

    Raises:
        OSError: the note cannot be read or deleted.
        sqlite3.Error: the database cannot be read or written.
    """
    sent = _noted(database)
    if sent is None or _has(db, sent):
        return None
    newest = db.execute("select max(at) from events").fetchone()[0]
    kept = f"Its newest event is of {newest}." if newest else "It has no events."
    sentence = (
        f"The webhook was sent events up to {sent.at}, which this database lacks: it was replaced,"
        f" or its write-ahead log was lost. {kept} Slides that are scored again are sent again;"
        " compare the receiver's entries since then."
    )
    with write_transaction(db):
        db.execute(
            "insert into events (at, name, detail) values (?, 'sent-events-lost', ?)",
            [now(), sentence],
        )
    mark_of(database).unlink()
    return sentence


def _noted(database: Path) -> SentMark | None:
    try:
        return SentMark(**json.loads(mark_of(database).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # nothing was sent yet, or the file is not a note


def _has(db: Database, sent: SentMark) -> bool:
    rows = db.execute("select 1 from events where id = ? and at = ?", [sent.event_id, sent.at])
    return rows.fetchone() is not None
