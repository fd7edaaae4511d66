"""Scans whose tiles overlap are refused where the extra that joins them is not installed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.levels import open_levels
from her2d.slides.reader import open_slide

Write = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("without_libraries")
TRESTLE = "Background Color=E6E6E6;White Balance=1,1,1;Objective Power=4;OverlapsXY={}"
VENTANA = (
    '<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="1" Width="256" Height="256">'
    '<TileJointInfo FlagJoined="1" Direction="RIGHT" Tile1="1" Tile2="2" OverlapX="{}" '
    'OverlapY="0"/></ImageInfo></SlideStitchInfo></EncodeInfo>'
)


@pytest.fixture
def stored(picture: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return picture(1024, 1024)


@pytest.mark.parametrize("opened", [open_slide, open_levels])
@pytest.mark.parametrize("overlaps", ["64 64 32 32", "0 8", " 5 0"])
def test_a_trestle_scan_with_overlaps_is_refused(
    overlaps: str, opened: Callable[[Path], object], stored: NDArray[np.uint8], write: Write
) -> None:
    # Without the name of Trestle's program, by which OpenSlide knows the files that it joins.
    path = write(stored, tile=(256, 256), description=TRESTLE.format(overlaps))
    with pytest.raises(SlideError, match=r"tiles that overlap by up to .* Trestle's"):
        opened(path)


@pytest.mark.parametrize("opened", [open_slide, open_levels])
@pytest.mark.parametrize("overlap", [64, -3])
def test_a_ventana_scan_with_overlaps_is_refused(
    overlap: int, opened: Callable[[Path], object], stored: NDArray[np.uint8], write: Write
) -> None:
    xmp = VENTANA.format(overlap).encode()
    path = write(stored, tile=(256, 256), extratags=[(700, 1, len(xmp), xmp, True)])
    with pytest.raises(SlideError, match=f"by up to {abs(overlap)} pixels, as Ventana's"):
        opened(path)


def test_scans_without_overlaps_are_read(
    stored: NDArray[np.uint8], write: Write, read: Callable[..., NDArray[np.uint8]]
) -> None:
    xmp = VENTANA.format(0).encode()
    trestle = write(stored, tile=(256, 256), description=TRESTLE.format("0 0 0 0"))
    np.testing.assert_array_equal(read(trestle, assume_magnification=4.0), stored)
    ventana = write(stored, tile=(256, 256), extratags=[(700, 1, len(xmp), xmp, True)])
    np.testing.assert_array_equal(read(ventana), stored)
