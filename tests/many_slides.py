"""Many scored slides in a laboratory's database, made from one that was scanned."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from her2d.db.connection import open_existing

# Columns that a copy has from the slide that it is made from.
_SLIDE = "vendor, width, height, magnification, mpp, first_seen_at"
_OWN = ("id", "slide_id", "her2_status", "high_expression_percent", "ci_low", "ci_high")


def add_scored_slides(database: Path, percents: Sequence[float]) -> list[str]:
    """Add a slide for each P, scored by the bundle that scored the newest one.

    Returns:
        Their file names: m000.tif, m001.tif...
    """
    names = [f"m{number:03}.tif" for number in range(len(percents))]
    with closing(open_existing(database)) as db, db.atomic():
        model = next(db.query("select max(id) as run, slide_id from runs"))
        generated = ("finished_on", "waited_s", *_OWN)
        kept = [c.name for c in db.table("runs").columns if c.name not in generated]
        columns = ", ".join(kept)
        quality = [c.name for c in db.table("run_quality").columns if c.name != "run_id"]
        for name, percent in zip(names, percents, strict=True):
            db.execute(
                f"insert into slides (content_hash, file_name, path, {_SLIDE})"
                f" select 'blake2b:' || ?, ?, '/in/' || ?, {_SLIDE} from slides where id = ?",
                [name, name, name, model["slide_id"]],
            )
            db.execute(
                f"insert into runs (slide_id, her2_status, high_expression_percent, ci_low,"
                f" ci_high, {columns}) select (select max(id) from slides),"
                f" iif(? >= threshold_percent, 'positive', 'negative'), ?, max(? - 4, 0),"
                f" min(? + 4, 100), {columns} from runs where id = ?",
                [percent, percent, percent, percent, model["run"]],
            )
            db.execute(
                f"insert into run_quality (run_id, {', '.join(quality)})"
                f" select (select max(id) from runs), {', '.join(quality)}"
                " from run_quality where run_id = ?",
                [model["run"]],
            )
    return names
