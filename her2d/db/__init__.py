"""The SQLite file and its care."""
