"""Read a slide's current run with geometry, tiles and pictures, for exports and the browser."""

from dataclasses import dataclass

import numpy as np
from sqlite_utils import Database

from her2d.errors import Her2dError
from her2d.method import FOLDS, TILE_PX
from her2d.results.pictures import Pictures, PicturesMissing, read_pictures
from her2d.results.queries import result_of_run
from her2d.results.records import PictureRecord, SlideResult, TileTable
from her2d.system.clock import local_day


@dataclass(frozen=True, slots=True)
class SlideGeometry:
    """The positions of a run's tiles on its slide.

    Attributes:
        width, height: level-0 pixels.
        magnification: of the objective, at level 0.
        mpp: micrometres per level-0 pixel; None if the file does not state it.
        columns, rows: number of tiles; the last ones may extend beyond the slide's edge.
        um_per_px: micrometres per pixel of the 4x grid.
        tile_side: side of a tile in level-0 pixels, not always an integer.
    """

    width: int
    height: int
    magnification: float
    mpp: float | None
    columns: int
    rows: int
    um_per_px: float
    tile_side: float

    @property
    def level0_um_per_px(self) -> float | None:
        """Micrometres per level-0 pixel of the grid; None if the file does not state a scale."""
        return None if self.mpp is None else self.um_per_px * TILE_PX / self.tile_side

    def box(self, column: int, row: int) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of a tile in level-0 pixels, cut at the slide's edge."""
        side = self.tile_side
        return (
            column * side,
            row * side,
            min((column + 1) * side, self.width),
            min((row + 1) * side, self.height),
        )


class TilesPruned(Her2dError):  # noqa: N818  reads as what it says
    """A run's tile rows were deleted by `her2d db prune`; `str(error)` says when."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run as stored in the database; its pictures are read on demand.

    Attributes:
        stored_tiles: the tile rows that the database still has.
        picture_record: the paths of its pictures; None if it has none.
        tiles_pruned_at: when its tile rows were deleted; None if they were not.
    """

    result: SlideResult
    geometry: SlideGeometry
    stored_tiles: TileTable
    picture_record: PictureRecord | None
    tiles_pruned_at: str | None

    @property
    def tiles(self) -> TileTable:
        """The run's tiles. Raises TilesPruned: without them the slide would look like no tumour."""
        if self.tiles_pruned_at is not None:
            raise TilesPruned(tiles_pruned(self.result, self.tiles_pruned_at))
        return self.stored_tiles

    def pictures(self) -> Pictures:
        """Read the slide and its tumour mask at low resolution. Raises PicturesMissing."""
        if self.picture_record is None:
            raise PicturesMissing(
                f"The run of {self.result.file_name} has no pictures. Scan the slide again."
            )
        return read_pictures(self.picture_record)


def tiles_pruned(result: SlideResult, pruned_at: str) -> str:
    """Return the sentence that says that a run's tile rows were deleted, and what shows them."""
    day = local_day(pruned_at)
    sentence = f"The tile rows of {result.file_name} were deleted on {day} (her2d db prune)."
    if result.heatmap_path is None:
        return sentence
    return f"{sentence} Its heatmap shows them: {result.heatmap_path}"


def pruned_at(db: Database, run_id: int) -> str | None:
    """Return when a run's tile rows were deleted; None if they were not."""
    rows = db.query("select tiles_pruned_at from runs where id = ?", [run_id])
    return next((row["tiles_pruned_at"] for row in rows), None)


def read_run(db: Database, run_id: int) -> StoredRun:
    """Read a run, if it is its slide's current one. Raises KeyError if it is not."""
    return StoredRun(
        result=result_of_run(db, run_id),
        geometry=read_geometry(db, run_id),
        stored_tiles=read_tiles(db, run_id),
        picture_record=read_picture_record(db, run_id),
        tiles_pruned_at=pruned_at(db, run_id),
    )


def read_geometry(db: Database, run_id: int) -> SlideGeometry:
    """Read the positions of a run's tiles. Raises KeyError if there is no such run."""
    rows = db.query(
        "select width, height, magnification, mpp, grid_columns as columns, grid_rows as rows,"
        " um_per_px, level0_downsample * :side as tile_side"
        " from runs join slides on slides.id = runs.slide_id where runs.id = :run",
        {"run": run_id, "side": TILE_PX},
    )
    for row in rows:
        return SlideGeometry(**row)
    raise KeyError(run_id)


def read_tiles(db: Database, run_id: int) -> TileTable:
    """Read a run's tiles, without background, row by row."""
    rows = db.execute(
        "select tile_row, tile_column, tile_class, tumor_pixels, p_strong, p_fold_1, p_fold_2,"
        " p_fold_3, p_fold_4, p_fold_5, attention from tiles where run_id = ?"
        " order by tile_row, tile_column",
        [run_id],
    ).fetchall()
    p = np.array([row[4:] for row in rows], np.float32).reshape(len(rows), 2 + FOLDS)
    attention = p[:, 1 + FOLDS]
    return TileTable(
        row=np.array([row[0] for row in rows], np.int64),
        column=np.array([row[1] for row in rows], np.int64),
        tile_class=tuple(row[2] for row in rows),
        tumor_pixels=np.array([row[3] for row in rows], np.int64),
        p_strong=p[:, 0],
        p_folds=p[:, 1 : 1 + FOLDS],
        attention=None if np.isnan(attention).all() else attention,
    )


def read_picture_record(db: Database, run_id: int) -> PictureRecord | None:
    """Read the paths of a run's pictures; None if it has none."""
    rows = db.query(
        "select slide_path, tumor_path, tile_px from run_pictures where run_id = ?", [run_id]
    )
    return next((PictureRecord(**row) for row in rows), None)
