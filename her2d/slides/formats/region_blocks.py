"""Squares of a level that another library reads, in the place of a TIFF's blocks."""

from her2d.slides.blocks import BlockLayout
from her2d.slides.formats.source import Pixels, Source

NO_FD = -1  # a source reads by itself


class RegionBlocks:
    """Squares of one level, as blocks that a TileStream reads."""

    def __init__(self, source: Source, number: int) -> None:
        level = source.levels[number]
        self._source, self._number = source, number
        self.layout = BlockLayout(level.width, level.height, level.block, level.block)
        self.block_bytes = level.block * level.block * 3

    def read(self, fd: int, column: int, row: int) -> Pixels:
        """Read one square; `fd` is not used. Raises as `Source.read` does."""
        width, height = self.layout.extent(column, row)
        block = self.layout.block_width
        return self._source.read(self._number, column * block, row * block, width, height)
