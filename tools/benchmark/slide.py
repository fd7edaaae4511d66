"""Write a slide without background, so that the pipeline always has work."""

from pathlib import Path

import numpy as np
import tifffile

from her2d.inference.engine import Tiles

_TILE = 512


def write_tissue_slide(path: Path, tissue: Tiles, rows: int, columns: int = 8) -> None:
    """Write a 4x slide in Motic's format that repeats `tissue` tiles.

    Args:
        path: the TIFF file, with JPEG tiles as a scanner writes them.
        tissue: uint8 (N, 512, 512, 3), N >= 1.
        rows, columns: height and width in tiles.

    Raises:
        OSError: the file cannot be written.
    """
    height, width = rows * _TILE, columns * _TILE
    tifffile.imwrite(
        path,
        (tissue[at % len(tissue)] for at in range(rows * columns)),
        shape=(height, width, 3),
        dtype=np.uint8,
        tile=(_TILE, _TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 75},
        description=(
            f"Motic V1.0.0\n{width}x{height} [0,0 {width}x{height}] [{_TILE}x{_TILE}]"
            " JPEG/RGB Q = 75|AppMag = 4|MPP = 2.5|BackgroundColor = 16514557|Barcode = bench"
        ),
        metadata=None,
        maxworkers=1,
    )
