"""Scans that are stored mirrored are shown upright."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from her2d.slides.errors import SlideError
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
Write = Callable[..., Path]
Read = Callable[..., Picture]


def oriented(value: int) -> dict[str, Any]:
    return {"extratags": [(274, 3, 1, value, True)]}


@pytest.mark.parametrize("value", [0, 1, 2, 3, 4, 9])
@pytest.mark.parametrize(
    "layout",
    [{"tile": (256, 256)}, {"rowsperstrip": 96}, {"rowsperstrip": 700}],
    ids=["tiles", "strips", "one strip"],
)
def test_a_mirrored_scan_is_shown_as_pillow_shows_it(
    value: int, layout: dict[str, Any], picture: Callable[..., Picture], write: Write, read: Read
) -> None:
    path = write(picture(), **layout, **oriented(value))
    with Image.open(path) as image:
        np.testing.assert_array_equal(read(path), np.asarray(image))


@pytest.mark.parametrize("value", [2, 3, 4])
def test_blocks_that_are_not_stored_are_glass_where_they_are_shown(
    value: int, picture: Callable[..., Picture], write: Write, read: Read
) -> None:
    image = picture()
    path = write(image, tile=(256, 256), **oriented(value))
    data = bytearray(path.read_bytes())
    entry = data.index(b"\x45\x01\x04\x00")  # TileByteCounts: 5 x 3 of them
    counts = int.from_bytes(data[entry + 8 : entry + 12], "little")
    data[counts : counts + 8] = bytes(8)  # the first two tiles
    path.write_bytes(data)
    image[:256, :512] = 255
    across, down = (-1 if value in axis else 1 for axis in ((2, 3), (3, 4)))
    np.testing.assert_array_equal(read(path), image[::down, ::across])
    with open_slide(path) as slide:
        assert slide._blocks._blocks.any_stored(range(5), range(3))
        shown = [[slide._blocks._blocks.is_stored(x, y) for x in range(5)] for y in range(3)]
    assert 0 < np.count_nonzero(~np.array(shown)) <= 2


@pytest.mark.parametrize("value", [5, 6, 7, 8])
def test_a_scan_whose_rows_are_stored_as_columns_is_refused(
    value: int, picture: Callable[..., Picture], write: Write
) -> None:
    with pytest.raises(SlideError, match=rf"turned by 90 degrees \(Orientation {value}\)"):
        open_slide(write(picture(), tile=(256, 256), **oriented(value)))
