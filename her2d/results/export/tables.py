"""Export a run's tiles, without background, as CSV or Parquet with one row per tile."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from her2d.results.stored_run import StoredRun


class TileRow(NamedTuple):
    """A tile: x, y, width and height in level-0 pixels; what was not computed is None."""

    column: int
    row: int
    x: float
    y: float
    width: float
    height: float
    tile_class: str
    tumor_pixels: int
    p_strong: float | None
    p_fold_1: float | None
    p_fold_2: float | None
    p_fold_3: float | None
    p_fold_4: float | None
    p_fold_5: float | None
    attention: float | None


def tile_rows(run: StoredRun) -> Iterator[TileRow]:
    """Generate the tiles, row by row."""
    tiles = run.tiles
    for index, tile_class in enumerate(tiles.tile_class):
        row, column = int(tiles.row[index]), int(tiles.column[index])
        left, top, right, bottom = run.geometry.box(column, row)
        p = (
            None if np.isnan(value) else float(value)
            for value in (
                tiles.p_strong[index],
                *tiles.p_folds[index],
                np.nan if tiles.attention is None else tiles.attention[index],
            )
        )
        yield TileRow(
            column,
            row,
            left,
            top,
            right - left,
            bottom - top,
            tile_class,
            int(tiles.tumor_pixels[index]),
            *p,
        )


def write_csv(run: StoredRun, file: IO[str]) -> None:
    """Write the tiles as CSV. Raises OSError, TilesPruned."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(TileRow._fields)
    table.writerows(tile_rows(run))


def write_parquet(run: StoredRun, path: Path) -> None:
    """Write the tiles as Parquet, with the slide's result in its metadata.

    Raises OSError, TilesPruned.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {name: pa.float64() for name in TileRow._fields}
    numbers |= {"column": pa.int32(), "row": pa.int32(), "tumor_pixels": pa.int32()}
    schema = pa.schema(
        [(name, pa.string() if name == "tile_class" else kind) for name, kind in numbers.items()],
        metadata={"her2d": json.dumps(run.result.model_dump(mode="json"))},
    )
    rows = [row._asdict() for row in tile_rows(run)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
