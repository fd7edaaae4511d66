"""Acts of persons on the whole database, as rows of `events`."""

from sqlite_utils import Database

from her2d.system.clock import now
from her2d.system.text import readable_text
from her2d.system.write_transaction import write_transaction


def record_act(db: Database, name: str, detail: str, actor: str) -> None:
    """Record what a person did.

    Args:
        db: the database.
        name: of the event, such as `pruned`.
        detail: what was done, as a sentence; names in it may hold bytes that are not UTF-8.
        actor: the user and the command.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    with write_transaction(db):
        db.execute(
            "insert into events (at, name, detail, actor) values (?, ?, ?, ?)",
            [now(), name, readable_text(detail), actor],
        )
