"""Check and decode JPEG blocks (ITU-T T.81, annex B).

Decoders trust the header of a block: a JPEG of 30 KB whose header states 65,500 x 65,500 pixels
takes 12 GB. They also fill missing pixels with grey and report success. Both are found here before
or after the decoder runs. Changed bits within entropy-coded data cannot be found unless they form a
marker, because JPEG has no checksum: such a block decodes to wrong pixels.
"""

import re
import struct
from dataclasses import dataclass, field

import imagecodecs
import numpy as np

from her2d.slides.block_format import (
    BlockFormat,
    BlockSize,
    Decode,
    Samples,
    Sizes,
    check_size,
    picture_bytes,
    with_samples,
)
from her2d.slides.colour import YCBCR
from her2d.slides.errors import RefusedError
from her2d.slides.turbo_jpeg import (
    COLOR_MARKERS,
    SAMPLINGS,
    SAMPLINGS_TO_HALVE,
    Span,
    decode_turbo,
    decode_turbo_half,
    self_contained,
    tables_to_decode,
)

JPEG = 7

_MAX_SCANS = (
    100  # each scan of a progressive JPEG takes time: thousands would be a decompression bomb
)
_START, _END = b"\xff\xd8", b"\xff\xd9"
_EOI, _SOS, _DRI = 0xD9, 0xDA, 0xDD
_SEQUENTIAL = frozenset({0xC0, 0xC1})  # Huffman-coded frames: baseline and extended
_FRAMES = _SEQUENTIAL | {0xC2}  # and progressive
_TABLES = frozenset({0xC4, 0xDB, _DRI, 0xFE, *range(0xE0, 0xF0)})  # DHT DQT DRI COM APPn
_ENDS_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not stuffing, filling or RSTn
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")

_LONGEST_START = 2**16  # bytes before coded data that are kept, to know blocks that begin alike
_PADDING = 8  # zeros at the end of a block, beyond what coded data may end in
_CONTINUATIONS = (b"\x55" * 64 + _END, b"\xaa" * 64 + _END)


@dataclass(slots=True)
class JpegHeader:
    """What the markers of a JPEG state.

    Attributes:
        width, height: pixels.
        sampling: (across, down) of each component.
        restart_interval: units that are coded between restart markers, 0 for all.
        first_scan: where the coded data begin.
        has_end: whether there is an end marker.
        color_markers: where segments begin and end that state colours, before the coded data.
    """

    width: int = 0
    height: int = 0
    sampling: tuple[tuple[int, int], ...] = ()
    restart_interval: int = 0
    first_scan: int = 0
    has_end: bool = True
    color_markers: list[Span] = field(default_factory=list)

    @property
    def is_subsampled(self) -> bool:
        """Whether components have different numbers of samples."""
        return len(set(self.sampling)) > 1


@dataclass(frozen=True, slots=True)
class _Start:
    """How a block begins that was checked: up to its coded data.

    Attributes:
        data: these bytes, the start of a JPEG of one scan.
        header: what they state.
    """

    data: bytes
    header: JpegHeader


class JpegDecoder:
    """The decoder of an image in JPEG; it decodes three components to RGB.

    PhotometricInterpretation (tag 262) tells RGB from YCbCr, as in libtiff and OpenSlide, and
    markers of JFIF and Adobe do not. Only where chroma has fewer samples it cannot be RGB.
    """

    def __init__(self, stored: BlockFormat) -> None:
        """Take the tables of an image.

        Raises:
            RefusedError: JPEGTables (tag 347) are not tables.
        """
        self._stored = stored
        self._tables = None if stored.jpeg_tables is None else check_jpeg_tables(stored.jpeg_tables)
        self._to_decode = b"" if self._tables is None else tables_to_decode(self._tables)
        # Most blocks of an image begin alike, and a size has few values: those at the edges.
        self._starts: dict[BlockSize, _Start] = {}

    def __call__(self, data: bytes, size: BlockSize) -> Samples:
        """Decode a block; see `Decode`."""
        stored = self._stored
        data = picture_bytes(data, stored, (_START,))
        across, down = self._subsampling(size)
        pixels = with_samples(self._decoded(data, self._header(data, size)))
        if pixels.shape[0] < size.visible_height or pixels.shape[1] < size.visible_width:
            pixels = pixels.repeat(down, axis=0).repeat(across, axis=1)
        return pixels

    @property
    def can_halve(self) -> bool:
        """Whether blocks may be decoded at half size: those of three components in one JPEG."""
        return self._stored.samples == 3

    def halved(self, data: bytes, size: BlockSize) -> Samples | None:
        """Decode a block at half its width and height, as `decode_turbo_half` does.

        Returns:
            uint8 (height, width, 3) RGB, None for a block that has to be decoded whole: its sides
            are odd, its end marker is missing, its sampling is unusual, or it is damaged.

        Raises:
            RefusedError: it is not a JPEG of the size of the block.
        """
        data = picture_bytes(data, self._stored, (_START,))
        header = self._header(data, size)
        if not header.has_end or header.sampling not in SAMPLINGS_TO_HALVE:
            return None
        if header.width % 2 or header.height % 2:
            return None
        return decode_turbo_half(self._self_contained(data, header), header.width, header.height)

    def _header(self, data: bytes, size: BlockSize) -> JpegHeader:
        """Check a block; what one states that begins like another of its size is not read again."""
        known = self._starts.get(size)
        if (
            known is not None
            and data.startswith(known.data)
            and _has_one_scan(data, known.header.first_scan)
        ):
            return known.header
        across, down = self._subsampling(size)
        sizes = size.accepted
        if (across, down) != (1, 1):  # chroma of separate planes may have fewer samples
            sizes |= {(-(-width // across), -(-height // down)) for width, height in sizes}
        header = check_jpeg(data, sizes=sizes, samples=self._stored.samples)
        if header.first_scan <= _LONGEST_START and _has_one_scan(data, header.first_scan):
            self._starts[size] = _Start(data[: header.first_scan], header)
        return header

    def _subsampling(self, size: BlockSize) -> tuple[int, int]:
        stored = self._stored
        return stored.subsampling if stored.planes > 1 and size.plane else (1, 1)

    def _decoded(self, data: bytes, header: JpegHeader) -> Samples:
        if header.has_end:
            return self._by_library(data, header)
        data = _without_padding(data)
        pixels = self._by_library(data + _END, header)
        # Where coded data are missing, the decoder takes what follows for them. If nothing that
        # follows changes a pixel, nothing is missing but the end marker.
        if not all(
            np.array_equal(pixels, self._by_library(data + more, header)) for more in _CONTINUATIONS
        ):
            raise RefusedError("is a JPEG that is cut short")
        return pixels

    def _by_library(self, data: bytes, header: JpegHeader) -> Samples:
        colorspace = _colorspace(header, self._stored)
        if colorspace is not None and header.sampling in SAMPLINGS:
            pixels = decode_turbo(self._self_contained(data, header))
            if pixels is not None:
                return pixels
        # The older interface says what is wrong with a JPEG, and reads over what can be read over.
        return np.asarray(
            imagecodecs.jpeg8_decode(
                data,
                tables=self._tables,
                colorspace=colorspace,
                outcolorspace=colorspace and "rgb",
            )
        )

    def _self_contained(self, data: bytes, header: JpegHeader) -> bytes:
        ycbcr = _colorspace(header, self._stored) == "ycbcr"
        return self_contained(data, header.color_markers, self._to_decode, ycbcr=ycbcr)


def old_jpeg_decoder(stored: BlockFormat) -> Decode:
    """Return the decoder of an image in old-style JPEG."""
    decode_jpeg = JpegDecoder(stored)

    def decode(data: bytes, size: BlockSize) -> Samples:
        whole = data if stored.old_jpeg is None else stored.old_jpeg.jpeg(data, size)
        return decode_jpeg(whole, size)

    return decode


def _colorspace(header: JpegHeader, stored: BlockFormat) -> str | None:
    if stored.samples != 3:
        return None
    return "ycbcr" if stored.photometric == YCBCR or header.is_subsampled else "rgb"


def _without_padding(data: bytes) -> bytes:
    end = len(data.rstrip(b"\0"))
    if len(data) - end > _PADDING:
        data = data[: end + 1]  # coded data may end in one zero
    return data.rstrip(b"\xff")  # the first half of an end marker


def check_jpeg_tables(tables: bytes) -> bytes:
    """Return JPEGTables (tag 347), with an end marker, after checking that they are nothing else.

    Raises:
        RefusedError: they hold something else, are cut short, or are not JPEG data.
    """
    if tables[:2] != _START:
        raise RefusedError("has JPEG tables that are not JPEG data")
    at = 2
    while tables[at:].strip(b"\0"):
        try:
            marker, start = _marker(tables, at)
            if marker == _EOI:
                return tables
            following = start + _segment_length(tables, start)
        except RefusedError as error:
            raise RefusedError("has JPEG tables that are damaged or cut short") from error
        if marker not in _TABLES:
            raise RefusedError(f"has JPEG tables that contain a marker {marker:02X}")
        at = following
    return tables[:at] + _END


def check_jpeg(data: bytes, *, sizes: Sizes, samples: int) -> JpegHeader:
    """Check that a JPEG is one 8-bit frame of an expected size.

    Args:
        data: from its start marker; its tables may be elsewhere.
        sizes: acceptable (width, height) in pixels.
        samples: number of components that the frame must have.

    Returns:
        What it states. Without an end marker it is not known yet whether it is complete.

    Raises:
        RefusedError: it is not. The error continues the sentence "block COLUMN,ROW ...".
    """
    if data[:2] != _START:
        raise RefusedError("does not begin like a JPEG")
    header = JpegHeader()
    at, frame, frames, scans = 2, 0, 0, 0
    while True:
        marker, at = _marker(data, at)
        if marker == _EOI:
            break
        length = _segment_length(data, at)
        if marker in _FRAMES:
            frame, frames = marker, frames + 1
            _read_frame(header, data[at : at + length], sizes, samples)
        elif marker == _SOS:
            scans += 1
        elif marker not in _TABLES:
            raise RefusedError(
                f"is corrupt, or a kind of JPEG that is not supported (marker {marker:02X})"
            )
        else:
            _read_segment(header, marker, data, at, length)
        at += length
        if frames > 1 or scans > _MAX_SCANS:
            raise RefusedError(f"is a JPEG of {frames} frames and {scans} scans")
        if marker == _SOS:
            header.first_scan = header.first_scan or at
            following = _ENDS_SCAN.search(data, at)
            if following is None:
                _check_unended(data, header, frame, scans)
                break
            at = following.start()
    if not (frames and scans):
        raise RefusedError("is a JPEG without an image")
    return header


def _read_segment(header: JpegHeader, marker: int, data: bytes, at: int, length: int) -> None:
    if marker == _DRI and length >= 4:
        header.restart_interval = struct.unpack_from(">H", data, at + 2)[0]
    elif marker in COLOR_MARKERS and not header.first_scan:
        header.color_markers.append((at - 2, at + length))


def _has_one_scan(data: bytes, first_scan: int) -> bool:
    """Return whether the end marker follows the coded data that begin at `first_scan`."""
    following = _ENDS_SCAN.search(data, first_scan)
    return following is not None and data[following.start() + 1] == _EOI


def _check_unended(data: bytes, header: JpegHeader, frame: int, scans: int) -> None:
    """Check that a JPEG without an end marker can be complete: one scan with all its intervals."""
    header.has_end = False
    if frame not in _SEQUENTIAL or scans > 1:
        raise RefusedError("is a JPEG that is cut short")
    if header.restart_interval:
        across, down = (8 * max(step) for step in zip(*header.sampling, strict=True))
        if len(header.sampling) == 1:
            across = down = 8
        units = -(-header.width // across) * -(-header.height // down)
        if (
            len(_RESTART.findall(data, header.first_scan))
            < -(-units // header.restart_interval) - 1
        ):
            raise RefusedError("is a JPEG that is cut short")


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker at `at`, after any fill bytes, and where its segment begins."""
    while data[at : at + 2] == b"\xff\xff":
        at += 1
    if at + 2 > len(data):
        raise RefusedError("is a JPEG that is cut short")
    if data[at] != 0xFF:
        raise RefusedError("is a corrupt JPEG")
    return data[at + 1], at + 2


def _segment_length(data: bytes, at: int) -> int:
    if at + 2 > len(data):
        raise RefusedError("is a JPEG that is cut short")
    length: int = struct.unpack_from(">H", data, at)[0]
    if length < 2 or at + length > len(data):
        raise RefusedError("is a JPEG that is cut short")
    return length


def _read_frame(header: JpegHeader, segment: bytes, sizes: Sizes, samples: int) -> None:
    if len(segment) < 8:
        raise RefusedError("is a corrupt JPEG")
    precision, height, width, components = struct.unpack_from(">BHHB", segment, 2)
    if precision != 8:
        raise RefusedError(f"is a JPEG of {precision} bits a sample")
    if components != samples:
        raise RefusedError(f"is a JPEG of {components} components instead of {samples}")
    if len(segment) < 8 + 3 * components:
        raise RefusedError("is a corrupt JPEG")
    check_size((width, height), sizes, "JPEG")
    header.width, header.height = width, height
    header.sampling = tuple((step >> 4, step & 15) for step in segment[9 : 8 + 3 * components : 3])
    if not all(across and down for across, down in header.sampling):
        raise RefusedError("is a corrupt JPEG")
