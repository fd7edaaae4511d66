"""Each tile of the grid comes once, in order, padded white, and in bounded memory."""

import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from structlog.contextvars import bound_contextvars, get_contextvars

from her2d.slides.blocks import Blocks
from her2d.slides.grid import Tile, TileGrid
from her2d.slides.protocol import Slide
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    width=st.integers(1, 1600),
    height=st.integers(1, 1600),
    block=st.sampled_from([(16, 16), (240, 240), (256, 512), (512, 512), (640, 1024), None]),
    magnification=st.sampled_from([4, 5, 10, 40]),
    workers=st.integers(1, 4),
)
def test_every_grid_position_comes_exactly_once_and_in_order(
    width: int,
    height: int,
    block: tuple[int, int] | None,
    magnification: int,
    workers: int,
    tmp_path: Path,
) -> None:
    scale = magnification / 4
    if min(width, height) < scale:
        return
    tifffile.imwrite(
        tmp_path / "scan.tif",
        np.full((height, width, 3), 77, np.uint8),
        photometric="rgb",
        tile=block,
        compression="zlib",
        metadata=None,
        description=f"AppMag = {magnification}",
    )
    with open_slide(tmp_path / "scan.tif") as slide:
        grid = slide.grid
        tiles = list(slide.tiles(workers=workers))
    assert (grid.width, grid.height) == (int(width / scale), int(height / scale))
    assert [(tile.row, tile.column) for tile in tiles] == [
        (row, column) for row in range(grid.rows) for column in range(grid.columns)
    ]
    slide_pixels = 0
    for tile in tiles:
        assert isinstance(tile, Tile)
        w, h = grid.extent(tile.column, tile.row)
        assert (tile.pixels[:h, :w] == 77).all()
        assert (tile.pixels[h:] == 255).all()
        assert (tile.pixels[:, w:] == 255).all()
        slide_pixels += w * h
    assert slide_pixels == grid.width * grid.height


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (512, 512)},
        {"tile": (512, 512), "compression": "jpeg"},
        {"tile": (256, 256), "compression": "zlib"},
        {"rowsperstrip": 512},
    ],
)
def test_a_tile_shares_no_memory_with_another(
    options: dict[str, Any], picture: Callable[..., Picture], write: Callable[..., Path]
) -> None:
    with open_slide(write(picture(1024, 1024), **options)) as slide:
        tiles = list(slide.tiles())
    for tile in tiles:
        assert isinstance(tile, Tile)
        assert tile.pixels.flags.c_contiguous
        assert tile.pixels.flags.writeable
    before = [tile.pixels.copy() for tile in tiles[1:] if isinstance(tile, Tile)]
    assert isinstance(tiles[0], Tile)
    tiles[0].pixels[:] = 0
    for tile, copy in zip(tiles[1:], before, strict=True):
        assert isinstance(tile, Tile)
        np.testing.assert_array_equal(tile.pixels, copy)


def test_padding_is_white_even_where_the_file_pads_with_something_else(
    write: Callable[..., Path], mosaic: Callable[[Slide], Picture]
) -> None:
    # JPEG blocks at the edge are filled up by the encoder, with copies or with black.
    path = write(np.zeros((600, 600, 3), np.uint8), tile=(512, 512), compression="jpeg")
    with open_slide(path) as slide:
        whole = mosaic(slide)
    assert (whole[600:] == 255).all()
    assert (whole[:, 600:] == 255).all()


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (240, 240)},
        {"tile": (512, 512)},
        {"tile": (1024, 1024)},
        {"rowsperstrip": 48},
    ],
)
@pytest.mark.parametrize("magnification", [4, 10])
def test_each_block_is_decoded_once(
    options: dict[str, Any],
    magnification: int,
    picture: Callable[..., Picture],
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[tuple[int, int]] = []
    original = Blocks.read

    def counted(self: Blocks, fd: int, column: int, row: int) -> Picture:
        read.append((column, row))
        return original(self, fd, column, row)

    monkeypatch.setattr(Blocks, "read", counted)
    path = write(picture(1500, 2000), **options, description=f"AppMag = {magnification}")
    with open_slide(path) as slide:
        blocks = slide._blocks.layout
        list(slide.tiles())
    assert sorted(read) == [(x, y) for x in range(blocks.columns) for y in range(blocks.rows)]


def peak_while_reading(path: Path) -> int:
    """Return the peak memory in bytes while all tiles are read, as measured by tracemalloc."""
    with open_slide(path) as slide:
        tracemalloc.start()
        try:
            for _ in slide.tiles(workers=2):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("small", "large", "options"),
    # Also the small ones hold more than is read ahead, all of which may wait for a slow thread.
    [
        ((1024, 2048), (1024, 8192), {"tile": (512, 512)}),
        ((2048, 1024), (8192, 1024), {"tile": (512, 512)}),
        ((4096, 1024), (16384, 1024), {"tile": (240, 240)}),
        ((4096, 1024), (16384, 1024), {"rowsperstrip": 16}),
        ((2048, 1024), (8192, 1024), {"tile": (256, 256), "description": "AppMag = 5"}),
        ((2048, 1024), (8192, 1024), {"rowsperstrip": 8192}),
    ],
)
def test_memory_does_not_grow_with_the_slide(
    small: tuple[int, int],
    large: tuple[int, int],
    options: dict[str, Any],
    picture: Callable[..., Picture],
    write: Callable[..., Path],
) -> None:
    few = peak_while_reading(write(picture(*small), name="small.tif", **options))
    many = peak_while_reading(write(picture(*large), name="large.tif", **options))
    assert many < few * 1.5 + 2**20


def test_closing_the_iterator_early_ends_its_threads_and_closes_its_file(
    write: Callable[..., Path], picture: Callable[..., Picture]
) -> None:
    path = write(picture(2048, 2048), tile=(256, 256), compression="zlib")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with open_slide(path) as slide:
        tiles = slide.tiles(workers=3)
        next(tiles)
        tiles.close()
        assert not [t for t in threading.enumerate() if t.name.startswith("her2d-decode")]
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_slide_can_be_read_twice_and_by_two_at_once(
    write: Callable[..., Path], picture: Callable[..., Picture]
) -> None:
    with open_slide(write(picture(1024, 1024), tile=(256, 256))) as slide:
        for one, other in zip(slide.tiles(), slide.tiles(), strict=True):
            assert isinstance(one, Tile)
            assert isinstance(other, Tile)
            np.testing.assert_array_equal(one.pixels, other.pixels)


def test_a_closed_slide_has_no_tiles(write: Callable[..., Path]) -> None:
    slide = open_slide(write(np.zeros((600, 600, 3), np.uint8)))
    slide.close()
    slide.close()
    with pytest.raises(ValueError, match="is closed"):
        slide.tiles()


def test_a_slide_moved_away_while_open_is_read_to_its_end(
    write: Callable[..., Path], picture: Callable[..., Picture]
) -> None:
    path = write(picture(1024, 1024), tile=(256, 256))
    with open_slide(path) as slide:
        os.unlink(path)  # noqa: PTH108  to the reader, what a rename by the archive looks like
        assert len(list(slide.tiles())) == 4


@given(st.integers(1, 10**5), st.integers(1, 10**5))
def test_extents_add_up_to_the_slide(width: int, height: int) -> None:
    grid = TileGrid.covering(width, height, um_per_px=2.5, level0_downsample=10.0)
    assert sum(grid.extent(column, 0)[0] for column in range(grid.columns)) == width
    assert sum(grid.extent(0, row)[1] for row in range(grid.rows)) == height


def test_what_is_bound_to_log_lines_is_bound_in_the_threads_that_decode(monkeypatch, write_slide):
    bound = []
    read = Blocks.read

    def listening(*arguments: Any) -> Picture:
        bound.append(get_contextvars().get("job_id"))
        return read(*arguments)

    monkeypatch.setattr(Blocks, "read", listening)
    with bound_contextvars(job_id=7), open_slide(write_slide(["Sw"])) as slide:
        assert len(list(slide.tiles(workers=2))) == 2
    assert bound == [7, 7]
