"""The pictures that the browser shows, encoded and kept in caches of limited size.

Pictures are kept by their run as it is recorded now, and tiles also by the state of the scan's
files, so that no picture outlives what it was made from.
"""

from pathlib import Path
from threading import Lock

import cv2
import numpy as np
from cachetools import LRUCache, cached

from her2d.browse.originals import Originals, ScanKey, ScanMissing, ScanReplaced
from her2d.browse.runs import RunKey, Runs
from her2d.browse.zoom import Image, ZoomGrid, tile_from_picture, tile_from_scan
from her2d.results.overlay import overlaid_slide, slide_extent, transparent_overlay
from her2d.results.pictures import PicturesMissing, jpeg_bytes, png_bytes, read_heatmap
from her2d.results.stored_run import StoredRun, TilesPruned
from her2d.slides.errors import SlideError
from her2d.slides.levels import SlideLevels, open_levels

_OPEN_SCANS = 8
_TILE_BYTES = 64 << 20
_THUMBNAIL_BYTES = 32 << 20
_OVERVIEW_BYTES = 32 << 20
_OVERLAY_BYTES = 32 << 20
_THUMBNAIL_SIDE = 360


class PictureCache:
    """Pictures of runs and tiles of scans, cached. Safe to use from several threads.

    Every method raises NoSuchRun, and the errors of `ResultsDatabase.run`.
    """

    def __init__(self, runs: Runs, originals: Originals) -> None:
        self._runs = runs
        self._originals = originals
        self._levels = cached(LRUCache(_OPEN_SCANS), lock=Lock())(self._open)
        self._overviews = cached(_bytes(_OVERVIEW_BYTES), lock=Lock())(self._draw_overview)
        self._thumbnails = cached(_bytes(_THUMBNAIL_BYTES), lock=Lock())(self._draw_thumbnail)
        self._overlays = cached(_bytes(_OVERLAY_BYTES), lock=Lock())(self._draw_overlay)
        self._tiles = cached(_bytes(_TILE_BYTES), lock=Lock())(self._draw_tile)

    def overview(self, run_id: int) -> bytes:
        """Return a small picture of the slide as JPEG. Raises PicturesMissing."""
        return self._overviews(self._runs.key(run_id))

    def thumbnail(self, run_id: int) -> bytes:
        """Return a thumbnail with the heatmap as JPEG. Raises PicturesMissing."""
        return self._thumbnails(self._runs.key(run_id))

    def overlay(self, run_id: int) -> bytes:
        """Return the heatmap as transparent PNG.

        Raises:
            PicturesMissing: the run has no pictures.
            TilesPruned: its tile rows were deleted.
        """
        return self._overlays(self._runs.key(run_id))

    def tile(self, run_id: int, level: int, column: int, row: int) -> bytes:
        """Return a deep-zoom tile of the original scan as JPEG. Raises NoSuchTile, ScanMissing."""
        key = self._runs.key(run_id)
        return self._tiles(key, self._originals.verify(key.original), level, column, row)

    def require_scan(self, key: RunKey, *, wait_s: float) -> None:
        """Check that the original scan of a run can be shown.

        Args:
            key: the run.
            wait_s: how long to wait if its content has to be compared.

        Raises:
            ScanMissing: it cannot be shown.
        """
        self._levels(key, self._originals.verify(key.original, wait_s=wait_s))

    def _open(self, key: RunKey, files: ScanKey) -> SlideLevels:
        """Open the original scan in the state that was verified. Raises ScanMissing."""
        try:
            levels = open_levels(Path(key.original.path))
        except SlideError as error:
            raise ScanMissing(f"The original scan cannot be shown: {error}") from error
        except OSError as error:
            raise ScanMissing(f"The original scan cannot be read: {error.strerror}.") from error
        if self._originals.verify(key.original) != files:
            raise ScanReplaced(f"The file at {key.original.path} changed while it was opened.")
        return levels

    def _draw_tile(self, key: RunKey, files: ScanKey, level: int, column: int, row: int) -> bytes:
        run = self._runs.read(key)
        grid = ZoomGrid(run.geometry.width, run.geometry.height)
        box = grid.box(level, column, row)
        try:
            pixels = tile_from_scan(self._levels(key, files), box)
        except OSError as error:
            raise ScanMissing(f"The original scan cannot be read: {error.strerror}.") from error
        if pixels is None:
            pixels = tile_from_picture(_whole(run), grid, box)
        return jpeg_bytes(pixels)

    def _draw_overview(self, key: RunKey) -> bytes:
        run = self._runs.read(key)
        pictures = run.pictures()
        width, height = slide_extent(run, pictures)
        return jpeg_bytes(pictures.rgb[:height, :width])

    def _draw_overlay(self, key: RunKey) -> bytes:
        run = self._runs.read(key)
        return png_bytes(transparent_overlay(run, run.pictures()))

    def _draw_thumbnail(self, key: RunKey) -> bytes:
        run = self._runs.read(key)
        try:
            image = overlaid_slide(run, run.pictures())
        except TilesPruned:
            image = read_heatmap(run.result.heatmap_path)
        scale = min(1.0, _THUMBNAIL_SIDE / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return jpeg_bytes(np.asarray(small, np.uint8))


def _bytes(most: int) -> LRUCache[object, bytes]:
    return LRUCache(most, getsizeof=len)


def _whole(run: StoredRun) -> Image:
    try:
        pictures = run.pictures()
        width, height = slide_extent(run, pictures)
    except PicturesMissing:
        return np.full((1, 1, 3), 240, np.uint8)
    return pictures.rgb[:height, :width]
