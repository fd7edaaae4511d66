"""What a page's size says: which level of the pyramid it would be, and whether its size is exact.

Philips pads every level to whole tiles. The size of such a page is not its scale.
"""

import math
from dataclasses import dataclass

from tifffile import TiffPage

from her2d.slides.images import Image

_ASPECT_TOLERANCE = 0.01
_ROUNDING_PX = 2.0  # levels are rounded up or down, at most twice
_PADDED_HALVINGS = 12  # a scan of 2**20 pixels is halved to 256


@dataclass(frozen=True, eq=False)
class Level:
    """One level of the pyramid.

    Attributes:
        image: its place in the file and its tags.
        downsample_x, downsample_y: level-0 pixels per pixel of the level.
        width, height: pixels of the level that show the scan. The image may be padded beyond them.
    """

    image: Image
    downsample_x: float
    downsample_y: float
    width: int
    height: int

    @property
    def downsample(self) -> float:
        """Geometric mean of both axes."""
        return math.sqrt(self.downsample_x * self.downsample_y)


def level_by_shape(base: Image, image: Image) -> Level | None:
    """Return the level that an image is if it shows all of the scan; None if it cannot be one."""
    first, other = base.directory, image.directory
    if other.tiled != first.tiled:
        return None  # an image in strips beside a pyramid in tiles is a thumbnail
    if samples(base.page) != samples(image.page):
        return None
    across = _downsample(first.width, other.width)
    down = _downsample(first.height, other.height)
    if math.sqrt(across * down) <= 1.0:
        return None  # another focal plane or channel of level 0
    if has_aspect_of(base, image):
        return Level(image, across, down, *image.size)
    return _padded_level(base, image)


def readings(base: Image, level: Level) -> list[Level]:
    """Return the levels that a page could be: padded to whole blocks, then as its size says."""
    padded = None if is_exact(base, level) else _padded_level(base, level.image)
    return [level] if padded is None else [padded, level]


def _padded_level(base: Image, image: Image) -> Level | None:
    """Return the level that an image is if it is padded to whole tiles, as Philips pads levels."""
    first, other = base.directory, image.directory
    if not other.tiled:
        return None
    for halvings in range(1, _PADDED_HALVINGS + 1):
        downsample = 1 << halvings
        width, height = -(-first.width // downsample), -(-first.height // downsample)
        if (_whole(width, other.block_width), _whole(height, other.block_height)) == image.size:
            return Level(image, float(downsample), float(downsample), width, height)
    return None


def _whole(side: int, block: int) -> int:
    return -(-side // block) * block


def is_exact(base: Image, level: Level) -> bool:
    """Return whether rounding alone explains the level's size, with one scale on both axes."""
    if (level.width, level.height) != level.image.size:
        return False  # padded
    across, down = level.downsample_x, level.downsample_y
    if across == down and across.is_integer():
        return True
    if _padded_level(base, level.image) is not None:
        return False
    scales = [
        (side / (of_level + _ROUNDING_PX), side / max(1.0, of_level - _ROUNDING_PX))
        for side, of_level in zip(base.size, level.image.size, strict=True)
    ]
    return max(low for low, _ in scales) <= min(high for _, high in scales)


def is_copy(base: Image, image: Image) -> bool:
    """Return whether both images are made of the same blocks of the file."""
    first, other = base.directory.block_offsets, image.directory.block_offsets
    return len(first) == len(other) and bool((first == other).all())


def has_aspect_of(base: Image, image: Image) -> bool:
    """Return whether two images have one aspect ratio, but for rounding."""
    first, other = base.directory, image.directory
    slack = max(_ASPECT_TOLERANCE, _ROUNDING_PX / other.width + _ROUNDING_PX / other.height)
    across = _downsample(first.width, other.width)
    return abs(across / _downsample(first.height, other.height) - 1) <= slack


def _downsample(base: int, level: int) -> float:
    """Return base pixels per level pixel, as a whole number where rounding explains the rest."""
    whole = max(1, round(base / level))
    return float(whole) if abs(base / whole - level) < 1 else base / level


def samples(page: TiffPage) -> tuple[object, ...]:
    """Return the sample format of a page, which all levels of a scan share."""
    return (page.samplesperpixel, page.bitspersample, page.sampleformat, page.planarconfig)
