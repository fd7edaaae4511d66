"""The pictures that the browser shows, encoded and kept in caches of limited size.

Pictures of a run are cached by its id, because runs never change. Scans are cached by path, size
and modification time.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from her2d.browse.zoom import Image, ZoomGrid, tile_from_picture, tile_from_scan
from her2d.errors import Her2dError
from her2d.results.overlay import overlaid_slide, slide_extent, transparent_overlay
from her2d.results.pictures import PicturesMissing, jpeg_bytes, png_bytes, read_heatmap
from her2d.results.stored_run import StoredRun, TilesPruned
from her2d.slides.errors import SlideError
from her2d.slides.levels import SlideLevels, open_levels

_OPEN_SCANS = 8
_TILES = 2048  # about 50 kB each
_THUMBNAILS = 1024
_OVERVIEWS = 16  # at most 6 MB each
_THUMBNAIL_SIDE = 360

ReadRun = Callable[[int], StoredRun]
"""Read a run by its id. Raises KeyError."""


class ScanMissing(Her2dError):  # noqa: N818  the name is the problem
    """The original scan cannot be shown; `str(error)` says why in one sentence."""


class PictureCache:
    """Pictures of runs and tiles of scans, cached. Safe to use from several threads."""

    def __init__(self, read_run: ReadRun) -> None:
        self._read_run = read_run
        self._levels = lru_cache(_OPEN_SCANS)(_open_scan)
        self.overview = lru_cache(_OVERVIEWS)(self._overview)
        self.thumbnail = lru_cache(_THUMBNAILS)(self._thumbnail)
        self.overlay = lru_cache(_OVERVIEWS)(self._overlay)
        self._tile = lru_cache(_TILES)(self._encoded_tile)

    def scan(self, run: StoredRun) -> SlideLevels:
        """Open the original scan of a run. Raises ScanMissing."""
        path = Path(run.result.path)
        try:
            state = path.stat()
        except OSError as error:
            raise ScanMissing(
                f"The original scan cannot be found at {path} ({error.strerror})."
            ) from error
        try:
            levels = self._levels(path, state.st_size, state.st_mtime_ns)
        except SlideError as error:
            raise ScanMissing(f"The original scan cannot be shown: {error}") from error
        size = (levels.levels[0].width, levels.levels[0].height)
        if size != (run.geometry.width, run.geometry.height):
            raise ScanMissing(f"The file at {path} is not the scan that was processed.")
        return levels

    def tile(self, run_id: int, level: int, column: int, row: int) -> bytes:
        """Return a deep-zoom tile as JPEG. Raises KeyError, NoSuchTile, ScanMissing."""
        return self._tile(run_id, level, column, row)

    def _encoded_tile(self, run_id: int, level: int, column: int, row: int) -> bytes:
        run = self._read_run(run_id)
        grid = ZoomGrid(run.geometry.width, run.geometry.height)
        box = grid.box(level, column, row)
        try:
            pixels = tile_from_scan(self.scan(run), box)
        except OSError as error:
            raise ScanMissing(f"The original scan cannot be read: {error.strerror}.") from error
        if pixels is None:
            pixels = tile_from_picture(self._whole(run), grid, box)
        return jpeg_bytes(pixels)

    def _whole(self, run: StoredRun) -> Image:
        try:
            pictures = run.pictures()
        except PicturesMissing:
            return np.full((1, 1, 3), 240, np.uint8)
        width, height = slide_extent(run, pictures)
        return pictures.rgb[:height, :width]

    def _overview(self, run_id: int) -> bytes:
        """Return a small picture of the slide as JPEG. Raises KeyError, PicturesMissing."""
        run = self._read_run(run_id)
        pictures = run.pictures()
        width, height = slide_extent(run, pictures)
        return jpeg_bytes(pictures.rgb[:height, :width])

    def _overlay(self, run_id: int) -> bytes:
        """Return the heatmap as transparent PNG.

        Raises:
            KeyError, PicturesMissing: there is no such run, or it has no pictures.
            TilesPruned: its tile rows were deleted.
        """
        run = self._read_run(run_id)
        return png_bytes(transparent_overlay(run, run.pictures()))

    def _thumbnail(self, run_id: int) -> bytes:
        """Return a thumbnail with the heatmap as JPEG. Raises KeyError, PicturesMissing."""
        run = self._read_run(run_id)
        try:
            image = overlaid_slide(run, run.pictures())
        except TilesPruned:
            image = read_heatmap(run.result.heatmap_path)
        scale = min(1.0, _THUMBNAIL_SIDE / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return jpeg_bytes(np.asarray(small, np.uint8))


def _open_scan(path: Path, _size: int, _mtime_ns: int) -> SlideLevels:
    return open_levels(path)
