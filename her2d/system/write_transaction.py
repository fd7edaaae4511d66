"""Write to SQLite in a transaction that holds the writing lock from its start."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlite_utils import Database


@contextmanager
def write_transaction(db: Database) -> Iterator[None]:
    """Make all changes of the block in one transaction, or in the one that is open already.

    A transaction that reads before it writes fails at once if another process wrote in between,
    however long the busy timeout is (https://sqlite.org/rescode.html#busy_snapshot). With `begin
    immediate` it waits for its turn instead, and what it reads does not change before its end.

    Args:
        db: the database.

    Raises:
        sqlite3.Error: nothing was changed.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    db.execute("begin immediate")
    try:
        yield
        db.commit()
    except BaseException:
        db.rollback()
        raise
