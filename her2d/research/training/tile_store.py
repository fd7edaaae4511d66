"""Prepared tiles on disk, as one Zarr group per slide.

Training samples single tiles at random from far more data than memory holds. In Zarr each tile is
a separate chunk that is decompressed alone, sharding packs the chunks into a few files, and labels
are plain arrays that can be read without the pixels. Parquet would have to decode a row group for
each tile, and WebDataset can only be read in order.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from her2d.method import TILE_PX, TUMOR_FRACTION
from her2d.research.training.fingerprint import Fingerprint
from her2d.system.files import replace_folder

_SHARD_TILES = 16
_FINGERPRINT = "fingerprint"
_CONTENT = "content"
_ALIGNMENT = "alignment"

Array: TypeAlias = zarr.Array[Any]
Change: TypeAlias = Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class PreparedTile:
    """A tissue tile with its labels.

    Attributes:
        column, row: Position on the slide's tile grid, from 0.
        pixels: uint8 (512, 512, 3) RGB.
        tumor: uint8 (512, 512), 1 where tumour.
        strong_pixels: Number of tumour pixels of high HER2 expression; -1 if it is not known.
    """

    column: int
    row: int
    pixels: NDArray[np.uint8]
    tumor: NDArray[np.uint8]
    strong_pixels: int


@dataclass(frozen=True, slots=True)
class ExcludedTile:
    """A tile that is left out of training.

    Attributes:
        column, row: Position on the slide's tile grid, from 0.
        reason: Why it is left out.
    """

    column: int
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class TileTable:
    """Labels of the T tissue tiles of several slides, without their pixels.

    Attributes:
        slide: Index of the tile's slide, int64 (T,).
        position: Index of the tile within its slide, int64 (T,).
        column, row: Position on the slide's tile grid, int64 (T,).
        tumor_pixels: Number of tumour pixels in the tile by the annotation, int64 (T,).
        gate_pixels: Number of tumour pixels by which the tile is gated, int64 (T,); those of the
            annotation, or a segmenter's, see `gate`.
        strong_pixels: Number of annotated tumour pixels with high expression, int64 (T,); 0 if it
            is not known.
        strong: Whether at least half of the tile's tumour has high expression, bool (T,) (paper,
            section 4.4).
        labelled: Whether the tile's expression is known, bool (T,).
    """

    slide: NDArray[np.int64]
    position: NDArray[np.int64]
    column: NDArray[np.int64]
    row: NDArray[np.int64]
    tumor_pixels: NDArray[np.int64]
    gate_pixels: NDArray[np.int64]
    strong_pixels: NDArray[np.int64]
    strong: NDArray[np.bool_]
    labelled: NDArray[np.bool_]

    @property
    def is_tumor(self) -> NDArray[np.bool_]:
        """Whether more than 10 % of the tile is tumour, bool (T,) (paper, section 4.3)."""
        return np.asarray(self.gate_pixels > TUMOR_FRACTION * TILE_PX * TILE_PX)


def write_slide(
    path: Path,
    tiles: Iterator[PreparedTile | ExcludedTile],
    *,
    expression_from: str,
    fingerprint: Fingerprint,
    alignment: dict[str, float] | None = None,
) -> None:
    """Write a slide's group atomically, replacing an earlier one.

    At most 16 tiles are in memory at a time.

    Args:
        path: The group's folder.
        tiles: The slide's tiles, in any order.
        expression_from: Source of `strong_pixels`, for the record.
        fingerprint: Fingerprint of the inputs that the tiles are made from.
        alignment: How the IHC slide lies on the H&E slide, for the record; None if it was not
            measured.

    Raises:
        OSError: The folder cannot be written.
    """
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    group = zarr.create_group(part)
    pixels = _create(group, "pixels", (TILE_PX, TILE_PX, 3))
    tumor = _create(group, "tumor", (TILE_PX, TILE_PX))
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
            _ALIGNMENT: alignment,
        }
    )
    replace_folder(path, part)


class TileStore:
    """Prepared slides opened for reading; tiles are read one at a time.

    Args:
        directory: Folder with a group for each slide, as `write_slide` wrote them.
        names: Names of the slides, in the order in which `table` numbers them.

    Attributes:
        names: Names of the slides.
        table: Labels of all their tiles.

    Raises:
        FileNotFoundError: A slide is not prepared.
    """

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self._paths = [slide_path(directory, name) for name in names]
        for path in self._paths:
            if not path.is_dir():
                raise FileNotFoundError(2, "This slide is not prepared", str(path))
        self._open: dict[int, tuple[Array, Array]] = {}
        self._change: Change = _as_stored
        self._changes: tuple[str, ...] = ()
        self.names = tuple(names)
        tables = [np.asarray(_array(path, "table")[:], np.int64) for path in self._paths]
        counts = [len(table) for table in tables]
        joined = np.concatenate([np.zeros((0, 4), np.int64), *tables])
        self.table = TileTable(
            slide=np.repeat(np.arange(len(names)), counts),
            position=np.concatenate([np.zeros(0, np.int64), *map(np.arange, counts)]),
            column=joined[:, 0],
            row=joined[:, 1],
            tumor_pixels=joined[:, 2],
            gate_pixels=joined[:, 2],
            strong_pixels=np.maximum(joined[:, 3], 0),
            strong=2 * joined[:, 3] >= np.maximum(joined[:, 2], 1),
            labelled=joined[:, 3] >= 0,
        )

    def __len__(self) -> int:
        return len(self.table.slide)

    def gated(self, tumor_pixels: NDArray[np.int64]) -> "TileStore":
        """Return the same tiles, gated by another count of tumour pixels.

        Args:
            tumor_pixels: Number of tumour pixels of each tile, int64 (T,).
        """
        found = copy(self)
        found.table = replace(self.table, gate_pixels=tumor_pixels)
        return found

    def changed(self, name: str, change: Change) -> "TileStore":
        """Return the same tiles with pixels that are changed when they are read.

        Args:
            name: Name of the change, which becomes part of the digest.
            change: Maps the index of a tile and its pixels, uint8 (512, 512, 3) RGB, to others.
        """
        found = copy(self)
        found._change = change
        found._changes = (*self._changes, name)
        return found

    def digest(self, *more: NDArray[Any]) -> str:
        """Return the SHA-256, in hex, of the slides' names, their tiles and further arrays.

        Pixels and masks were hashed when they were written and are not read again.

        Args:
            more: Arrays to include in the digest.
        """
        table = self.table
        digest = hashlib.sha256("\n".join(self.names).encode())
        for column in (table.slide, table.position, table.gate_pixels, table.labelled):
            digest.update(column.tobytes())
        digest.update((table.strong & table.labelled).tobytes())
        digest.update(self._contents)
        for change in self._changes:
            digest.update(change.encode())
        for array in more:
            digest.update(array.tobytes())
        return digest.hexdigest()

    def slide_digest(self, name: str, tiles: NDArray[np.int64]) -> str:
        """Return the SHA-256, in hex, of some tiles of one slide.

        Args:
            name: Name of the slide.
            tiles: Indices of its tiles, int64 (T,).
        """
        digest = hashlib.sha256(_content(self._paths[self.names.index(name)]).encode())
        digest.update(self.table.position[tiles].tobytes())
        return digest.hexdigest()

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Read the pixels of the tile at `index` of `table`, uint8 (512, 512, 3) RGB."""
        stored = self._arrays(index)[0][int(self.table.position[index])]
        return self._change(index, np.asarray(stored, np.uint8))

    def tumor(self, index: int) -> NDArray[np.uint8]:
        """Read the tumour mask of the tile at `index` of `table`, uint8 (512, 512), 0 or 1."""
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


def _as_stored(index: int, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels


def read_fingerprint(path: Path) -> Fingerprint:
    """Read the fingerprint of the inputs that a slide's group was made from.

    Raises:
        KeyError: The group does not have one, so `write_slide` did not write it.
    """
    found: Any = zarr.open_group(path, mode="r").attrs[_FINGERPRINT]
    return dict(found)


def read_alignment(path: Path) -> dict[str, float] | None:
    """Read how the IHC slide of a slide's group lies on its H&E slide; None if not measured."""
    found: Any = zarr.open_group(path, mode="r").attrs.get(_ALIGNMENT)
    return None if found is None else dict(found)


def _content(path: Path) -> str:
    """Read the SHA-256 of the pixels and masks of a slide's group, in hex."""
    return str(zarr.open_group(path, mode="r").attrs[_CONTENT])


def slide_path(directory: Path, name: str) -> Path:
    """Return the folder of a slide's group."""
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
