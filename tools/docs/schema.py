"""The database's tables and views, from a database that her2d just made."""

import re
import tempfile
from contextlib import closing
from pathlib import Path

from sqlite_utils import Database

from her2d.db.connection import open_database
from tools.docs.markdown import block, code, introduction, page, table

_COMMENT = re.compile(r"^\s*(\w+)\s[^\n]*?--\s*(.+)$", re.MULTILINE)


def schema_page() -> str:
    """The page `reference/database.md`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(open_database(Path(folder) / "her2d.sqlite")) as db,
    ):
        views = [_view(db, name) for name in db.view_names()]
        tables = [_table(db, name) for name in db.table_names() if not _is_internal(name)]
    return page("Database", introduction("database"), "## Views", *views, "## Tables", *tables)


def _is_internal(table: str) -> bool:
    """Return whether a table is SQLite's own, or one in which its search index keeps its parts."""
    return "sqlite" in table or table.startswith("slide_names_")


def _view(db: Database, name: str) -> str:
    sql = db.view(name).schema
    columns = " ".join(code(column.name) for column in db.view(name).columns)
    return f"### {name}\n\n{columns}\n\n{block(sql, 'sql')}"


def _table(db: Database, name: str) -> str:
    found = db.table(name)
    notes = dict(_COMMENT.findall(found.schema))
    keys = {key.column: f"{key.other_table}.{key.other_column}" for key in found.foreign_keys}
    rows = [
        [
            code(column.name),
            column.type.lower(),
            "key" if column.is_pk else ("" if column.notnull else "may be null"),
            f"-> {code(keys[column.name])}" if column.name in keys else notes.get(column.name, ""),
        ]
        for column in found.columns
    ]
    return f"### {name}\n\n{table(['column', 'type', '', ''], rows)}"
