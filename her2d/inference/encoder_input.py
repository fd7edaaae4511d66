"""Make what an encoder takes of raw tiles: size, normalisation and layout, as its bundle says.

Training and service both do it here, so that an encoder sees the same numbers in both.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from her2d.bundle.manifest import EncoderInput
from her2d.inference.engine import Tiles


def encoder_input(tiles: Tiles, how: EncoderInput) -> NDArray[Any]:
    """Return tiles as an encoder takes them.

    Args:
        tiles: N of them.
        how: what it takes.

    Returns:
        (N, 3, rows, columns) or (N, rows, columns, 3) of the dtype that `how` names.
    """
    if (how.rows, how.columns) != tiles.shape[1:3]:
        tiles = np.stack([_resized(tile, how.rows, how.columns) for tile in tiles])
    x: NDArray[Any] = tiles
    if how.dtype != "uint8":
        mean, std = np.array([how.mean, how.std], np.float32)
        x = ((tiles.astype(np.float32) / 255 - mean) / std).astype(how.dtype)
    if how.layout == "NCHW":
        x = x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x)


def _resized(tile: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    smaller = rows <= tile.shape[0] and columns <= tile.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(tile, (columns, rows), interpolation=how), np.uint8)
