"""Rows that need not be kept for good, taken away in short transactions."""

from dataclasses import dataclass

from sqlite_utils import Database

from her2d.intake import in_seconds

_RUNS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune took away."""

    runs: int
    tiles: int


def prune_tiles(db: Database, keep_days: float) -> Pruned:
    """Delete the tile rows of runs that finished over `keep_days` days ago.

    Results, their intervals and their heatmaps stay; only the rows behind them go.
    """
    before = in_seconds(-86_400 * keep_days)
    rows = db.execute(
        "select id from runs where finished_at < ?"
        " and exists (select 1 from tiles where run_id = runs.id)",
        [before],
    ).fetchall()
    old = [int(row[0]) for row in rows]
    tiles = 0
    for start in range(0, len(old), _RUNS_AT_ONCE):
        some = old[start : start + _RUNS_AT_ONCE]
        marks = ", ".join("?" for _ in some)
        with db.atomic():
            tiles += db.execute(f"delete from tiles where run_id in ({marks})", some).rowcount
    return Pruned(len(old), tiles)
