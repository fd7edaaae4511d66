"""Export the slide with its tumour in colour as a pyramidal OME-TIFF, at the stored resolution."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tifffile

from her2d.method import TILE_PX
from her2d.results.overlay import overlaid_slide
from her2d.results.stored_run import StoredRun
from her2d.system.text import printable

_TILE = 256


def write_ome_tiff(run: StoredRun, path: Path) -> None:
    """Write the overlay, whose PhysicalSize aligns it with the scan.

    Each level, a SubIFD, has half the size of the one before, down to one tile (OME-TIFF 6.0).

    Raises:
        OSError: the file cannot be written.
        PicturesMissing: the run has no pictures.
        TilesPruned: its tile rows were deleted.
    """
    pictures = run.pictures()
    image = overlaid_slide(run, pictures)
    um_per_px = run.geometry.um_per_px * TILE_PX / pictures.tile_px
    levels = [image]
    while max(levels[-1].shape[:2]) > _TILE and min(levels[-1].shape[:2]) > 1:
        height, width = levels[-1].shape[:2]
        half = (width // 2, height // 2)
        smaller = cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(smaller, np.uint8))
    name = printable(run.result.file_name)  # XML has no control characters, not even escaped
    metadata = {
        "axes": "YXS",
        "Name": f"{name}: HER2 {run.result.her2_status} (research use only)",
        "PhysicalSizeX": um_per_px,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": um_per_px,
        "PhysicalSizeYUnit": "µm",
    }
    with tifffile.TiffWriter(path, ome=True) as tiff:
        write = partial(tiff.write, tile=(_TILE, _TILE), photometric="rgb", compression="deflate")
        write(levels[0], subifds=len(levels) - 1, metadata=metadata)
        for level in levels[1:]:
            write(level, subfiletype=1, metadata=None)
