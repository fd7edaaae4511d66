"""Slides as Hamamatsu's scanners write them: a TIFF with one JPEG for each level."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

_FORMAT_FLAG, _SOURCE_LENS, _LONG, _SIGNED_LONG, _FLOAT = 65420, 65421, 4, 9, 11
_OFFSETS = (65422, 65423, 65424)  # X, Y and Z, from the centre of the glass
_MACRO = -1.0


def write_ndpi_slide(
    path: Path,
    levels: list[NDArray[np.uint8]],
    *,
    magnification: float = 20.0,
    mpp: float = 0.5,
    quality: int = 95,
) -> Path:
    """Write a slide with its levels, finest first, and a macro photograph."""
    width = levels[0].shape[1]
    macro = np.full((100, 300, 3), 220, np.uint8)
    with tifffile.TiffWriter(path) as tiff:
        for pixels, lens in [
            *((level, magnification * level.shape[1] / width) for level in levels),
            (macro, _MACRO),
        ]:
            resolution = 10_000 / (mpp * width / pixels.shape[1])
            tiff.write(
                pixels,
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": quality},
                rowsperstrip=len(pixels),
                resolution=(resolution, resolution),
                resolutionunit="CENTIMETER",
                software="NDP.scan",
                metadata=None,
                extratags=[
                    (271, 2, 0, "Hamamatsu", True),
                    (_FORMAT_FLAG, _LONG, 1, 1, True),
                    (_SOURCE_LENS, _FLOAT, 1, float(lens), True),
                    *((offset, _SIGNED_LONG, 1, 0, True) for offset in _OFFSETS),
                ],
            )
    return path
