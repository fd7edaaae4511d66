"""Decode JPEG blocks at half size where they are averaged anyway.

A scan at 40x without lower levels is averaged over 10 x 10 pixels. Its JPEG blocks are decoded at
half size, which leaves out the upper half of the frequencies, and averaged over 5 x 5 of these
pixels. That takes half the time. The run records it (`decoding`), because pixels differ slightly:
`docs/reference/file-formats.md` says how much.

Each pixel of the half must lie within one pixel of the grid. One that straddles two, as at 20x,
where 5 x 5 are averaged, moves up to a twentieth of the light between them.
"""

import errno
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from her2d.slides.blocks import BlockLayout, Blocks
from her2d.slides.errors import RefusedError
from her2d.slides.fallback import FallbackBlocks
from her2d.slides.stream import Sampling

LEAST_REDUCTION = 10  # level pixels per grid pixel, along both axes
HALF_SIZE = "JPEG at half size"

_TRIED_BLOCKS = 4  # One may be damaged; most blocks of a level are alike.


def is_read_at_half_size(blocks: Blocks, sampling: Sampling, fd: int) -> bool:
    """Return whether tiles are made from blocks at half size.

    The level's first blocks are tried: chroma of half the width, for example, is stated only there.

    Args:
        blocks: of the level.
        sampling: how tiles are made from them.
        fd: descriptor of the file.

    Raises:
        OSError: the storage failed.
    """
    if sampling.as_is or not blocks.can_halve:
        return False
    if any(scale < LEAST_REDUCTION or scale % 2 for scale in (sampling.scale_x, sampling.scale_y)):
        return False
    tried = islice(blocks.stored_places(), _TRIED_BLOCKS)
    return any(_can_be_halved(blocks, fd, column, row) for column, row in tried)


def _can_be_halved(blocks: Blocks, fd: int, column: int, row: int) -> bool:
    try:
        return blocks.read_half(fd, column, row) is not None
    except RefusedError:
        return False
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False  # A damaged sector; the block is made from the finer level, or is unreadable.


class HalvedBlocks:
    """Blocks at half size where that is possible, as a TileStream reads them.

    Attributes:
        layout: where the blocks lie in the level.
        block_bytes: size of one block in bytes that is decoded whole.
    """

    def __init__(self, blocks: FallbackBlocks) -> None:
        self._blocks = blocks
        self.layout: BlockLayout = blocks.layout
        self.block_bytes = blocks.block_bytes

    def read(self, fd: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one block, see `FallbackBlocks.read_halved`."""
        return self._blocks.read_halved(fd, column, row)
