"""What a decoder of blocks must know of an image, and of each block."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from her2d.slides.errors import RefusedError

if TYPE_CHECKING:
    from her2d.slides.old_jpeg import OldJpegHeader

Samples = NDArray[Any]  # uint8 or uint16 (height, width, samples)
Sizes = frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """How the blocks of one image are stored.

    Attributes:
        compression: tag 259.
        photometric: tag 262.
        bits: of a sample, 8 or 16 (tag 258).
        significant_bits: of a sample, as far as its values reach: 12 of the 16 bits, for example.
        samples: of a pixel of a block, 1 where each sample has separate blocks.
        planes: 1, or the number of samples where each has separate blocks.
        predictor: tag 317; 1 is none, 2 horizontal differences.
        byteorder: of 16-bit samples, "<" (little-endian) or ">" (big-endian).
        bits_reversed: whether the lowest bit of a byte comes first (FillOrder, tag 266, is 2).
        subsampling: pixels across and down for each chroma sample (YCbCrSubSampling, tag 530).
        jpeg_tables: JPEGTables (tag 347), which the blocks share.
        old_jpeg: what blocks of old-style JPEG lack.
    """

    compression: int
    photometric: int
    bits: int
    significant_bits: int
    samples: int
    planes: int
    predictor: int
    byteorder: str
    bits_reversed: bool
    subsampling: tuple[int, int]
    jpeg_tables: bytes | None = None
    old_jpeg: "OldJpegHeader | None" = None


@dataclass(frozen=True, slots=True)
class BlockSize:
    """The size of one block in pixels.

    Attributes:
        width, height: of a whole block. The last strip of an image may have fewer rows.
        visible_width, visible_height: the part that lies within the image.
        plane: which sample of the pixels it holds, where each has separate blocks, else 0.
    """

    width: int
    height: int
    visible_width: int
    visible_height: int
    plane: int = 0

    @property
    def accepted(self) -> Sizes:
        """The (width, height) that a picture in the block may state: whole, or its visible part."""
        return frozenset(
            (width, height)
            for width in (self.width, self.visible_width)
            for height in (self.height, self.visible_height)
        )


Decode = Callable[[bytes, BlockSize], Samples]
"""Decode a block of a size. Raises RefusedError, or an error of the codec's library."""


def check_size(size: tuple[int, int], sizes: Sizes, codec: str) -> None:
    """Check the size that a picture states before its decoder allocates memory for it.

    Args:
        size: (width, height) that it states.
        sizes: the ones that its block may have.
        codec: name of its format, for the error.

    Raises:
        RefusedError: it is another one. The error continues the sentence "block COLUMN,ROW ...".
    """
    if size not in sizes:
        wanted = " or ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise RefusedError(f"is a {codec} of {size[0]} x {size[1]} pixels instead of {wanted}")


def check_samples(found: tuple[int, int], stored: BlockFormat, codec: str) -> None:
    """Check the number of samples and their bits that a picture states.

    Args:
        found: (samples, bits) that it states.
        stored: the format of its image.
        codec: name of its format, for the error.

    Raises:
        RefusedError: they differ from the image's. The error continues "block COLUMN,ROW ...".
    """
    if found != (stored.samples, stored.bits):
        raise RefusedError(
            f"is a {codec} of {found[0]} samples of {found[1]} bits instead of "
            f"{stored.samples} of {stored.bits}"
        )


def picture_bytes(data: bytes, stored: BlockFormat, starts: tuple[bytes, ...]) -> bytes:
    """Return the bytes of a block that is a whole picture, such as a JPEG, in the right order.

    Programs that write FillOrder (tag 266) 2 leave such blocks as they are, as libtiff does, but
    some reverse them too. Only the right order begins in one of the ways of `starts`.
    """
    if not stored.bits_reversed or data.startswith(starts):
        return data
    return bytes(imagecodecs.bitorder_decode(data))


def with_samples(pixels: Samples) -> Samples:
    """Return decoded pixels as (height, width, samples); decoders drop the axis of one sample."""
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
