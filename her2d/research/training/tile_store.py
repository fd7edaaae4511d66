"""Prepared tiles on disk, one Zarr group a slide.

Zarr, because training draws single tiles at random from far more than memory holds: each tile is a
chunk of its own, decompressed alone, while sharding packs the chunks into a few files (never a
million PNGs), and the labels beside them are plain arrays that are read without touching a pixel.
Parquet would have to decode a row group for each tile; WebDataset reads only in order.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from her2d.research.training.fingerprint import Fingerprint
from her2d.system.files import replace_folder

TILE = 512
TUMOR_FRACTION = 0.10
_SHARD_TILES = 16
_FINGERPRINT = "fingerprint"
_CONTENT = "content"

Array: TypeAlias = zarr.Array[Any]


@dataclass(frozen=True, slots=True)
class PreparedTile:
    """One tissue tile with its labels.

    Attributes:
        pixels: uint8 (512, 512, 3) RGB.
        tumor: uint8 (512, 512), 1 where tumour.
        strong_pixels: tumour pixels of high expression; -1 where nobody knows.
    """

    column: int
    row: int
    pixels: NDArray[np.uint8]
    tumor: NDArray[np.uint8]
    strong_pixels: int


@dataclass(frozen=True, slots=True)
class ExcludedTile:
    """A tile that is not learned from, and why."""

    column: int
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class TileTable:
    """The tissue tiles of several slides, without their pixels; int64 or bool (T,) each.

    Attributes:
        slide: which of the slides.
        position: which of the slide's tiles.
        tumor_pixels: of the tile.
        strong: at least half of the tile's tumour is of high expression (paper, section 4.4).
        labelled: the tile's expression is known.
    """

    slide: NDArray[np.int64]
    position: NDArray[np.int64]
    tumor_pixels: NDArray[np.int64]
    strong: NDArray[np.bool_]
    labelled: NDArray[np.bool_]

    @property
    def is_tumor(self) -> NDArray[np.bool_]:
        """bool (T,), tiles whose tumour share is over 10 %: the classifier's (section 4.3)."""
        return np.asarray(self.tumor_pixels > TUMOR_FRACTION * TILE * TILE)


def write_slide(
    path: Path,
    tiles: Iterator[PreparedTile | ExcludedTile],
    *,
    expression_from: str,
    fingerprint: Fingerprint | None = None,
) -> None:
    """Write a slide's group, whole or not at all, holding 16 tiles in memory at a time.

    Replaces what was there.

    Args:
        path: the group's folder.
        tiles: in any order.
        expression_from: where `strong_pixels` come from, for the record.
        fingerprint: what the tiles are made from.

    Raises:
        OSError: the folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    group = zarr.create_group(part)
    pixels = _create(group, "pixels", (TILE, TILE, 3))
    tumor = _create(group, "tumor", (TILE, TILE))
    excluded: list[ExcludedTile] = []
    content = hashlib.sha256()
    rows: list[tuple[int, int, int, int]] = []
    waiting: list[PreparedTile] = []
    for tile in tiles:
        if isinstance(tile, ExcludedTile):
            excluded.append(tile)
            continue
        rows.append((tile.column, tile.row, int(tile.tumor.sum()), tile.strong_pixels))
        waiting.append(tile)
        if len(waiting) == _SHARD_TILES:
            _flush(pixels, tumor, waiting, content)
    _flush(pixels, tumor, waiting, content)
    table = np.array(rows, np.int64).reshape(-1, 4)
    group.create_array("table", data=table if len(table) else np.zeros((0, 4), np.int64))
    group.attrs.update(
        {
            "expression_from": expression_from,
            "table": ["column", "row", "tumor_pixels", "strong_pixels"],
            "excluded": [[t.column, t.row, t.reason] for t in excluded],
            _CONTENT: content.hexdigest(),
            _FINGERPRINT: fingerprint,
        }
    )
    replace_folder(path, part)


class TileStore:
    """The prepared slides of a folder, opened for reading; tiles are fetched one by one.

    Args:
        directory: as written by `write_slide`, a group for each slide.
        names: the slides, in the order `table` numbers them.

    Raises:
        FileNotFoundError: a slide was not prepared.
    """

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self._paths = [slide_path(directory, name) for name in names]
        for path in self._paths:
            if not path.is_dir():
                raise FileNotFoundError(2, "This slide was not prepared", str(path))
        self._open: dict[int, tuple[Array, Array]] = {}
        self.names = tuple(names)
        tables = [np.asarray(_array(path, "table")[:], np.int64) for path in self._paths]
        counts = [len(table) for table in tables]
        joined = np.concatenate([np.zeros((0, 4), np.int64), *tables])
        self.table = TileTable(
            slide=np.repeat(np.arange(len(names)), counts),
            position=np.concatenate([np.zeros(0, np.int64), *map(np.arange, counts)]),
            tumor_pixels=joined[:, 2],
            strong=2 * joined[:, 3] >= np.maximum(joined[:, 2], 1),
            labelled=joined[:, 3] >= 0,
        )

    def __len__(self) -> int:
        return len(self.table.slide)

    def digest(self, *more: NDArray[Any]) -> str:
        """SHA-256, 64 hexadecimal digits, of the slides' names, all their tiles and `more`.

        Pixels and masks were hashed as they were written and are not read again; of slides that
        were written before that, only the labels count.
        """
        table = self.table
        found = hashlib.sha256("\n".join(self.names).encode())
        for column in (table.slide, table.position, table.tumor_pixels, table.labelled):
            found.update(column.tobytes())
        found.update((table.strong & table.labelled).tobytes())
        found.update(self._contents)
        for array in more:
            found.update(array.tobytes())
        return found.hexdigest()

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """uint8 (512, 512, 3) RGB of a tile of `table`."""
        return np.asarray(self._arrays(index)[0][int(self.table.position[index])], np.uint8)

    def tumor(self, index: int) -> NDArray[np.uint8]:
        """uint8 (512, 512) of a tile of `table`, 1 where tumour."""
        return np.asarray(self._arrays(index)[1][int(self.table.position[index])], np.uint8)

    @cached_property
    def _contents(self) -> bytes:
        return "".join(map(_content, self._paths)).encode()

    def _arrays(self, index: int) -> tuple[Array, Array]:
        slide = int(self.table.slide[index])
        if slide not in self._open:
            path = self._paths[slide]
            self._open[slide] = _array(path, "pixels"), _array(path, "tumor")
        return self._open[slide]


def read_fingerprint(path: Path) -> Fingerprint | None:
    """What a slide's group was made from; None where it does not say."""
    found: Any = zarr.open_group(path, mode="r").attrs.get(_FINGERPRINT)
    return found if isinstance(found, dict) else None


def write_fingerprint(path: Path, fingerprint: Fingerprint) -> None:
    """Say of a slide's group what it was made from. Raises OSError."""
    zarr.open_group(path, mode="r+").attrs[_FINGERPRINT] = fingerprint


def _content(path: Path) -> str:
    """Digest of the pixels and masks of a slide's group; empty where it does not say."""
    found: Any = zarr.open_group(path, mode="r").attrs.get(_CONTENT)
    return found if isinstance(found, str) else ""


def slide_path(directory: Path, name: str) -> Path:
    """Where a slide's group lies."""
    return directory / f"{name}.zarr"


def _create(group: zarr.Group, name: str, shape: tuple[int, ...]) -> Array:
    return group.create_array(
        name,
        shape=(0, *shape),
        chunks=(1, *shape),
        shards=(_SHARD_TILES, *shape),
        dtype="uint8",
    )


def _flush(
    pixels: Array, tumor: Array, waiting: list[PreparedTile], content: "hashlib._Hash"
) -> None:
    if waiting:
        for tile in waiting:
            content.update(tile.pixels.tobytes())
            content.update(tile.tumor.tobytes())
        pixels.append(np.stack([tile.pixels for tile in waiting]))
        tumor.append(np.stack([tile.tumor for tile in waiting]))
        waiting.clear()


def _array(path: Path, name: str) -> Array:
    return zarr.open_array(path / name, mode="r")
