"""Decode JPEG blocks at half size where they are averaged anyway.

A scan at 40x without lower levels is averaged over 10 x 10 pixels. Its JPEG blocks are decoded at
half size, which leaves out the upper half of the frequencies, and averaged over 5 x 5 of these
pixels. That takes half the time. The run records it (`decoding`), because pixels differ slightly:
`docs/reference/file-formats.md` says how much.

Each pixel of the half must lie within one pixel of the grid. One that straddles two, as at 20x,
where 5 x 5 are averaged, moves up to a twentieth of the light between them.
"""

import numpy as np
from numpy.typing import NDArray

from her2d.slides.blocks import BlockLayout, Blocks
from her2d.slides.fallback import FallbackBlocks
from her2d.slides.stream import Sampling

LEAST_REDUCTION = 10  # level pixels per grid pixel, along both axes
HALF_SIZE = "JPEG at half size"


def is_read_at_half_size(blocks: Blocks, sampling: Sampling) -> bool:
    """Return whether tiles are made from blocks at half size."""
    if sampling.as_is or not blocks.can_halve:
        return False
    return all(
        scale >= LEAST_REDUCTION and scale % 2 == 0
        for scale in (sampling.scale_x, sampling.scale_y)
    )


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
