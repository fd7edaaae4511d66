"""Check whether there is a recent backup, and whether the next one can be written."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from her2d.db.backup import newest_backup
from her2d.db.connection import DatabaseError, open_readonly
from her2d.doctor.database import writable
from her2d.doctor.finding import Finding, ok, warning
from her2d.doctor.permissions import closed
from her2d.doctor.units import TIMER, Units, is_loaded
from her2d.settings import ResultsSettings
from her2d.system.clock import in_seconds

_CHECK = "backups"
_DAY_S = 86_400.0
_OLD_DAYS = 3.0  # as the alert Her2dBackupOld


def backup_findings(
    settings: ResultsSettings, units: Units, *, as_service: bool = False
) -> Iterator[Finding]:
    """Check the folder of the backups and the age of the newest one.

    Args:
        settings: name the folder.
        units: tell whether a timer makes backups here.
        as_service: whether permissions are checked as the user of the unit.
    """
    try:
        yield writable("backups' folder", settings.backups)
        yield _age(settings, units)
    except PermissionError:
        yield closed("backups' folder", settings.backups, as_service=as_service)


def _age(settings: ResultsSettings, units: Units) -> Finding:
    newest = newest_backup(settings.backups)
    how = (
        f"Run journalctl -u her2d-care, which says why; systemctl list-timers {TIMER} names the"
        " next run."
        if is_loaded(units.timer)
        else "Run her2d db backup each night, for example from cron."
    )
    if newest is not None:
        days = (time.time() - newest.stat().st_mtime) / _DAY_S
        if days <= _OLD_DAYS:
            return ok(_CHECK, f"The newest backup is {newest}.")
        return warning(_CHECK, f"The newest backup, {newest}, is {days:.0f} days old.", how)
    if not _is_old(settings.database):
        return ok(_CHECK, "There is no backup yet.")
    return warning(_CHECK, f"There is no backup of {settings.database}.", how)


def _is_old(database: Path) -> bool:
    """Return whether the database has had scans for longer than a backup may be missing."""
    try:
        with closing(open_readonly(database)) as db:
            (first,) = db.execute("select min(discovered_at) from jobs").fetchone()
    except (DatabaseError, sqlite3.Error):
        return False  # there is none yet, or `storage_findings` reports it
    return first is not None and first < in_seconds(-_OLD_DAYS * _DAY_S)
