"""A scan on disk becomes tiles in memory.

`open_slide` reads TIFF and BigTIFF whole-slide images (Motic, Aperio, OME, plain) as 512 x 512
RGB tiles at 4x; `check_integrity` says whether a file is all there yet, without decoding.
"""

from her2d.slides.errors import SlideError, SlideUnavailableError
from her2d.slides.grid import Tile, TileGrid, UnreadableTile
from her2d.slides.integrity import Completeness, Integrity, check_integrity
from her2d.slides.levels import SlideLevel, SlideLevels, open_levels
from her2d.slides.metadata import MagnificationSource, SlideMetadata
from her2d.slides.reader import Slide, open_slide

__all__ = [
    "Completeness",
    "Integrity",
    "MagnificationSource",
    "Slide",
    "SlideError",
    "SlideLevel",
    "SlideLevels",
    "SlideMetadata",
    "SlideUnavailableError",
    "Tile",
    "TileGrid",
    "UnreadableTile",
    "check_integrity",
    "open_levels",
    "open_slide",
]
