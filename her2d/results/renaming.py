"""The name of a slide whose file was renamed: in the database, and in its pictures."""

from pathlib import Path

from sqlite_utils import Database

from her2d.results.heatmap import heading, renamed_heatmap, with_heading, write_png
from her2d.results.pictures import read_heatmap
from her2d.results.queries import SlideNotFound, result_of_slide
from her2d.system.clock import now
from her2d.system.files import write_whole
from her2d.system.write_transaction import write_transaction


def rename_slide(db: Database, slide_id: int, path: Path, *, job_id: int | None = None) -> None:
    """Record where a slide's file is now and, if its name is another one, what it was before.

    The former name continues to mean the slide, and an event tells of the new one.

    Args:
        db: the database, in a transaction or not.
        slide_id: the slide.
        path: its file.
        job_id: the job that found the file there.

    Raises:
        sqlite3.Error: nothing was changed.
    """
    with write_transaction(db):
        for row in list(db.query("select file_name, path from slides where id = ?", [slide_id])):
            if row["file_name"] != path.name:
                _record(db, slide_id, row, path.name, job_id)
        db.execute(
            "update slides set path = ?, file_name = ? where id = ?",
            [str(path), path.name, slide_id],
        )


def _record(
    db: Database, slide_id: int, former: dict[str, str], name: str, job_id: int | None
) -> None:
    at = now()
    db.execute(
        "insert into former_names (slide_id, file_name, path, until) values (?, ?, ?, ?)",
        [slide_id, former["file_name"], former["path"], at],
    )
    db.execute(
        "insert into events (at, job_id, slide_id, name, detail) values (?, ?, ?, 'renamed', ?)",
        [at, job_id, slide_id, f"{former['file_name']} is now {name}."],
    )


def rename_pictures(db: Database, slide_id: int) -> bool:
    """Give the current run's heatmap and pictures the slide's name, if they have another one.

    The old files are deleted when the database names the new ones.

    Returns:
        Whether they had another name.

    Raises:
        OSError: a picture cannot be written.
        PicturesMissing: the heatmap cannot be read.
        sqlite3.Error: the database cannot be changed; it names the old files.
    """
    try:
        result = result_of_slide(db, slide_id)
    except SlideNotFound:
        return False
    if result.heatmap_path is None:
        return False
    old = Path(result.heatmap_path)
    new = renamed_heatmap(old, Path(result.file_name))
    if new == old:
        return False
    write_png(new, with_heading(read_heatmap(str(old)), heading(result.file_name, result)))
    replaced = {old: new}
    rows = db.query(
        "select slide_path, tumor_path from run_pictures where run_id = ?", [result.run_id]
    )
    for row in list(rows):
        for was, end in (
            (Path(row["slide_path"]), ".slide.jpg"),
            (row["tumor_path"], ".tumor.png"),
        ):
            replaced[Path(was)] = Path(f"{new.with_suffix('')}{end}")
            write_whole(replaced[Path(was)], Path(was).read_bytes())
    with write_transaction(db):
        db.execute("update runs set heatmap_path = ? where id = ?", [str(new), result.run_id])
        for was, now_ in replaced.items():
            for column in ("slide_path", "tumor_path"):
                db.execute(
                    f"update run_pictures set {column} = ? where run_id = ? and {column} = ?",
                    [str(now_), result.run_id, str(was)],
                )
    for was in replaced:
        was.unlink(missing_ok=True)
    return True
