"""The SQLite database: opening, migrations, backups, restoring, pruning and vacuuming."""
