"""Read the directories of a TIFF file and where their blocks lie, without decoding anything.

TIFF 6.0 and BigTIFF in both byte orders are read. Every count and offset is checked against the
size of the file and a limit before anything is read or allocated, so malformed files take little
time and memory. Image file directories (IFDs) are found along the chain and through SubIFDs (tag
330), which may have SubIFDs themselves.

What libtiff tolerates is read as libtiff reads it: tags of another type or count than TIFF 6.0
has, missing byte counts, and a chain whose end leads back or to something else.
"""

import os
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.slides.errors import RefusedError

MAX_DIRECTORIES = 1024
MAX_DEPTH = 16  # of SubIFDs within SubIFDs; writers that chain levels so have up to 10
MAX_ENTRIES = 4096  # tags in a directory, the same limit as in tifffile
MAX_TAG_BYTES = 32 * 2**20  # all out-of-line tag values of a file together
MAX_DESCRIPTION_BYTES = 8 * 2**20  # of a page; scanners write under 3, with pictures in base64
MAX_SIDE = 2**20  # pixels: a 25 mm slide at 100x is 400,000
MAX_PIXELS = 2**37  # of one image: 370,000 squared
MAX_UNUSED_BYTES = 2**36  # of a file, beside twice its images; a minute's reading
MAX_BLOCKS = 2**20  # of all images together: a slide at 100x has 610,000 of 512 x 512

# Bytes of one value of each field type (TIFF 6.0 p. 15, BigTIFF 13, 16..18); others are skipped.
_TYPE_SIZES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4"} | {
    16: "u8",
    17: "i8",
    18: "u8",
}
_ASCII, _SHORT, _LONG, _UNDEFINED = 2, 3, 4, 7

_IMAGE_WIDTH, _IMAGE_LENGTH, _COMPRESSION = 256, 257, 259
_IMAGE_DESCRIPTION = 270
_STRIP_OFFSETS, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTE_COUNTS = 273, 277, 278, 279
_PLANAR_CONFIGURATION = 284
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTE_COUNTS = 322, 323, 324, 325
_SUB_IFDS, _OLD_JPEG_OFFSET = 330, 513
_BITS_PER_SAMPLE, _RESOLUTION_UNIT, _PREDICTOR, _SAMPLE_FORMAT = 258, 296, 317, 339
_YCBCR_SUBSAMPLING, _JPEG_TABLES = 530, 347

# Tags whose value is one integer, and tags with an integer for each sample.
_ONE_INTEGER = frozenset(
    {
        *(254, 255, _IMAGE_WIDTH, _IMAGE_LENGTH, _COMPRESSION, 262, 263, 266, 274),
        *(_SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _PLANAR_CONFIGURATION, _RESOLUTION_UNIT),
        *(_PREDICTOR, _TILE_WIDTH, _TILE_LENGTH, 332, 334, 512, 531, 32997, 32998),
    }
)
_ONE_A_SAMPLE = frozenset((_BITS_PER_SAMPLE, 280, 281, 338, _SAMPLE_FORMAT))
_ONE_A_BLOCK = frozenset((_STRIP_OFFSETS, _STRIP_BYTE_COUNTS, _TILE_OFFSETS, _TILE_BYTE_COUNTS))
_WITH_PREDICTOR = frozenset({5, 8, 32946, 34925, 34926, 50000})  # LZW, deflate, LZMA, ZSTD
_UNTYPED = 4  # SampleFormat; libtiff takes such samples for unsigned integers
_NO_UNIT, _UNITS = 1, {"inch": 2, "in": 2, "cm": 3, "centimeter": 3, "centimetre": 3}
_UNUSED_TAG = 0xFFFF
_MOST_SAMPLES = 64
_NAMES = {
    _IMAGE_WIDTH: "width",
    _IMAGE_LENGTH: "height",
    _TILE_WIDTH: "tile width",
    _TILE_LENGTH: "tile height",
    _ROWS_PER_STRIP: "strip height",
    _SAMPLES_PER_PIXEL: "number of samples",
}


class StructureError(RefusedError):
    """The file is not a complete TIFF."""


class OversizedError(StructureError):
    """The file is so much larger than its images that reading all of it takes hours."""


class IncompleteError(StructureError):
    """The file may still be being written: later bytes could complete it."""


class BrokenError(StructureError):
    """The file is wrong in a way that later bytes cannot complete."""


@dataclass(frozen=True, eq=False)
class Directory:
    """One image in the file.

    Attributes:
        offset: byte of the file at which its IFD begins.
        parent: index of the directory whose SubIFDs name it; None on the main chain.
        width, height: pixels (tags 256 and 257).
        block_width, block_height: pixels of a tile (tags 322 and 323), or of a full strip.
        tiled: whether the blocks are tiles rather than strips.
        planes: samples per pixel if each sample has separate blocks (tag 284 is 2), else 1.
        compression: tag 259.
        block_offsets, block_bytes: int64 (blocks,), in the order of the blocks in the file.
        corrections: bytes to read instead of those at an offset of the file. They are the
            entries of tags that are not as TIFF 6.0 has them, written as libtiff takes them.
    """

    offset: int
    parent: int | None
    width: int
    height: int
    block_width: int
    block_height: int
    tiled: bool
    planes: int
    compression: int
    block_offsets: NDArray[np.int64]
    block_bytes: NDArray[np.int64]
    corrections: tuple[tuple[int, bytes], ...] = ()

    @property
    def stored(self) -> NDArray[np.bool_]:
        """Which blocks have bytes in the file; programs leave out blocks of bare glass."""
        return (self.block_offsets > 0) & (self.block_bytes > 0)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A directory entry at byte `at`; its value lies at byte `position`, in it or elsewhere."""

    type: int
    count: int
    position: int
    at: int


@dataclass(frozen=True, slots=True)
class _Format:
    """The kind of TIFF, classic or BigTIFF, and its byte order, as formats for `struct`."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def entry_count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        return self.order + ("HHQ" if self.big else "HHI")

    @property
    def entry_size(self) -> int:
        return 20 if self.big else 12

    @property
    def inline_size(self) -> int:
        return 8 if self.big else 4

    def entry_of(self, tag: int, kind: int, value: int) -> bytes:
        """Return an entry of one value, SHORT or LONG."""
        raw = struct.pack(self.order + ("H" if kind == _SHORT else "I"), value)
        return struct.pack(self.entry, tag, kind, 1) + raw.ljust(self.inline_size, b"\0")


def read_structure(fd: int) -> list[Directory]:
    """Return every image of the open file `fd`: the main chain first, then SubIFDs by depth.

    Raises:
        IncompleteError: the file may still be being written.
        BrokenError: the file is not a TIFF, or contradicts itself.
        OSError: the storage failed.
    """
    return _Walk(fd).directories()


class _Walk:
    """Follow the IFDs of one file and count what has been read, to hold the limits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._tag_bytes = 0
        self._blocks = 0
        self._visited: set[int] = set()

    def directories(self) -> list[Directory]:
        self._format, first = self._header()
        found: list[Directory] = []
        below: deque[tuple[int, int, int]] = deque()  # offset, parent, depth
        for offset, entries in self._chain(first):
            if found and _is_old_thumbnail(entries):
                continue
            below += [(sub, len(found), 1) for sub in self._sub_directories(entries)]
            found.append(self._directory(offset, None, entries))
        while below:
            offset, parent, depth = below.popleft()
            if offset == 0 or offset in self._visited or not self._is_directory(offset):
                continue
            if depth > MAX_DEPTH:
                raise BrokenError(f"has images within images, more than {MAX_DEPTH} deep")
            entries, _ = self._entries(offset)
            # One that holds no image belongs to its parent, and so do those below it.
            if _holds_an_image(entries):
                found.append(self._directory(offset, parent, entries))
                parent = len(found) - 1
            below += [(sub, parent, depth + 1) for sub in self._sub_directories(entries)]
        self._check_size(found)
        return found

    def _check_size(self, found: list[Directory]) -> None:
        """Raise OversizedError if most of the file is neither a block nor a tag."""
        if self._size <= MAX_UNUSED_BYTES:
            return
        used = self._tag_bytes + _bytes_covered(found)
        if self._size > 2 * used + MAX_UNUSED_BYTES:
            raise OversizedError(
                f"is {self._size / 1e9:.0f} GB large, of which its images take {used / 1e9:.1f}; "
                "the rest belongs to none of them. Copy or export it again"
            )

    def _sub_directories(self, entries: dict[int, _Entry]) -> list[int]:
        entry = entries.get(_SUB_IFDS)
        if entry is not None and entry.count > MAX_DIRECTORIES:
            raise BrokenError(f"has more than {MAX_DIRECTORIES} image directories")
        return [int(offset) for offset in self._array(entries, _SUB_IFDS)]

    def _header(self) -> tuple[_Format, int]:
        if self._size == 0:
            raise IncompleteError("is empty")
        head = os.pread(self._fd, 16, 0)
        if not any(head):
            raise IncompleteError("begins with zeros: its header is not written yet")
        orders = {b"II": "<", b"MM": ">"}
        order = orders.get(head[:2])
        if order is None and not (self._size == 1 and head in (b"I", b"M")):
            raise BrokenError("is not a TIFF file")
        if order is None or len(head) < 8:
            raise IncompleteError("is cut short: even its header is incomplete")
        version = struct.unpack_from(order + "H", head, 2)[0]
        if version not in (42, 43):
            raise BrokenError("is not a TIFF file")
        layout = _Format(order, big=version == 43)
        if not layout.big:
            return layout, struct.unpack_from(layout.offset, head, 4)[0]
        if len(head) < 16:
            raise IncompleteError("is cut short: even its header is incomplete")
        if struct.unpack_from(order + "HH", head, 4) != (8, 0):
            raise BrokenError("is not a TIFF file: its BigTIFF header is malformed")
        return layout, struct.unpack_from(layout.offset, head, 8)[0]

    def _chain(self, offset: int) -> Iterator[tuple[int, dict[int, _Entry]]]:
        if offset == 0:
            raise IncompleteError("has no image directory yet")
        entries, following = self._entries(offset)
        yield offset, entries
        # As in libtiff, the chain also ends where it leads back or to bytes that are no directory.
        while following and following not in self._visited and self._is_directory(following):
            offset = following
            entries, following = self._entries(offset)
            yield offset, entries

    def _is_directory(self, offset: int) -> bool:
        """Return False if what lies at `offset` was never a directory.

        A directory that is not written yet is one, and so is one beyond the end of a file that is
        cut short.
        """
        layout = self._format
        count_size = struct.calcsize(layout.entry_count)
        if offset + count_size + layout.entry_size > self._size:
            return True
        (count,) = struct.unpack(layout.entry_count, self._read(offset, count_size))
        entries = min(count, MAX_ENTRIES, (self._size - offset - count_size) // layout.entry_size)
        body = self._read(offset + count_size, entries * layout.entry_size)
        if not any(body):
            return True
        kinds = [
            struct.unpack_from(layout.entry, body, at)[1]
            for at in range(0, len(body), layout.entry_size)
        ]
        known = sum(kind in _TYPE_SIZES or kind == 0 for kind in kinds)
        return bool(count <= MAX_ENTRIES and 2 * known >= len(kinds))

    def _entries(self, offset: int) -> tuple[dict[int, _Entry], int]:
        """Return the entries of the IFD at `offset` by tag, and the offset of the next IFD."""
        self._visited.add(offset)
        if len(self._visited) > MAX_DIRECTORIES:
            raise BrokenError(f"has more than {MAX_DIRECTORIES} image directories")
        layout = self._format
        count_size = struct.calcsize(layout.entry_count)
        (count,) = struct.unpack(layout.entry_count, self._read(offset, count_size))
        if count == 0:
            raise IncompleteError(f"has an empty image directory (at byte {offset})")
        if count > MAX_ENTRIES:
            raise BrokenError(f"has an image directory of {count} tags (at byte {offset})")
        body = self._read(
            offset + count_size, count * layout.entry_size + struct.calcsize(layout.offset)
        )
        entries: dict[int, _Entry] = {}
        for index in range(count):
            at = index * layout.entry_size
            tag, entry = self._entry(body, at, offset + count_size + at)
            entries.setdefault(
                tag, entry
            )  # of several with one tag the first counts, as in libtiff
        return entries, struct.unpack_from(layout.offset, body, count * layout.entry_size)[0]

    def _entry(self, body: bytes, at: int, position: int) -> tuple[int, _Entry]:
        layout = self._format
        tag, kind, count = struct.unpack_from(layout.entry, body, at)
        if (tag, kind, count) == (0, 0, 0):
            raise IncompleteError("has an image directory whose tags are not all written")
        value_at = layout.entry_size - layout.inline_size
        size = _TYPE_SIZES.get(kind, 0) * count
        if size <= layout.inline_size:
            return tag, _Entry(kind, count, position + value_at, position)
        (elsewhere,) = struct.unpack_from(layout.offset, body, at + value_at)
        if elsewhere + size > self._size:
            raise IncompleteError(
                f"is cut short: tag {tag} lies beyond the file's end ({self._size} bytes)"
            )
        if tag == _IMAGE_DESCRIPTION and size > MAX_DESCRIPTION_BYTES:
            raise BrokenError(
                f"has a description (tag 270) of {size >> 20} MiB; no scanner writes more than "
                f"{MAX_DESCRIPTION_BYTES >> 20}"
            )
        self._tag_bytes += size
        if self._tag_bytes > MAX_TAG_BYTES:
            raise BrokenError(f"has more than {MAX_TAG_BYTES} bytes of tags")
        return tag, _Entry(kind, count, elsewhere, position)

    def _read(self, offset: int, size: int) -> bytes:
        # The size is compared first, because BigTIFF offsets may be larger than pread accepts.
        data = b"" if offset + size > self._size else os.pread(self._fd, size, offset)
        if len(data) < size:
            raise IncompleteError(
                f"is cut short: byte {offset + size} is needed, the file has {self._size}"
            )
        return data

    def _array(
        self, entries: dict[int, _Entry], tag: int, most: int = MAX_BLOCKS
    ) -> NDArray[np.uint64]:
        """Return the first `most` integers of a tag; none if it is missing, of another type, or
        has negative ones."""
        entry = entries.get(tag)
        if entry is None or entry.type not in _INTEGERS:
            return np.empty(0, np.uint64)
        if entry.count > MAX_BLOCKS:
            raise BrokenError(f"has a tag {tag} of {entry.count} values")
        dtype = np.dtype(self._format.order + _INTEGERS[entry.type])
        raw = self._read(entry.position, min(entry.count, most) * dtype.itemsize)
        values = np.frombuffer(raw, dtype)
        if dtype.kind == "i" and values.min(initial=0) < 0:
            return np.empty(0, np.uint64)
        return values.astype(np.uint64)

    def _only_value(self, entries: dict[int, _Entry], tag: int) -> int | None:
        """Return the integer of a tag, also if it is repeated; None if it has none or several."""
        values = {int(value) for value in self._array(entries, tag, most=_MOST_SAMPLES)}
        return values.pop() if len(values) == 1 else None

    def _number(self, entries: dict[int, _Entry], tag: int, default: int | None = None) -> int:
        value = self._only_value(entries, tag)
        if value is not None:
            return value
        if default is None:
            raise BrokenError(f"has an image without a {_NAMES.get(tag, f'tag {tag}')}")
        return default

    def _side(self, entries: dict[int, _Entry], tag: int, default: int | None = None) -> int:
        value = self._number(entries, tag, default)
        if value == 0:
            raise IncompleteError(f"has an image whose {_NAMES[tag]} is not written yet (0)")
        return value

    def _listed(
        self, entries: dict[int, _Entry], of_tiles: int, of_strips: int, *, tiled: bool
    ) -> NDArray[np.uint64]:
        """Return the values of the tag meant for the image's blocks, else those of its twin."""
        tags = (of_tiles, of_strips) if tiled else (of_strips, of_tiles)
        return self._array(entries, next((tag for tag in tags if tag in entries), tags[0]))

    def _directory(self, offset: int, parent: int | None, entries: dict[int, _Entry]) -> Directory:
        width = self._side(entries, _IMAGE_WIDTH)
        height = self._side(entries, _IMAGE_LENGTH)
        if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
            raise BrokenError(f"has an image of {width} x {height} pixels; no slide is that large")
        # Old writers list tiles under the tags of strips. Their size tells that they are tiles.
        tiled = _TILE_OFFSETS in entries or self._has_tile_size(entries)
        if tiled:
            block_width = self._side(entries, _TILE_WIDTH)
            block_height = self._side(entries, _TILE_LENGTH)
        else:
            block_width = width
            block_height = min(height, self._side(entries, _ROWS_PER_STRIP, height))
        planar = self._number(entries, _PLANAR_CONFIGURATION, 1) == 2
        samples = self._side(entries, _SAMPLES_PER_PIXEL, 1)
        planes = samples if planar else 1
        expected = -(-width // block_width) * -(-height // block_height) * planes
        self._blocks += expected
        if not 0 < expected <= MAX_BLOCKS or self._blocks > MAX_BLOCKS:
            raise BrokenError(f"has images of {self._blocks} blocks; no slide has so many")
        offsets = self._listed(entries, _TILE_OFFSETS, _STRIP_OFFSETS, tiled=tiled)
        sizes = self._listed(entries, _TILE_BYTE_COUNTS, _STRIP_BYTE_COUNTS, tiled=tiled)
        compression = self._number(entries, _COMPRESSION, 1)
        if len(sizes) == 0 and len(offsets) >= expected:
            bits = samples // planes * (self._only_value(entries, _BITS_PER_SAMPLE) or 1)
            heights = np.full(expected, block_height, np.int64)
            if not tiled:
                row = np.arange(expected) % -(-height // block_height)
                heights = np.minimum(block_height, height - row * block_height)
            raw_bytes = -(-block_width * bits // 8) * heights
            sizes = self._estimated_sizes(offsets[:expected], raw_bytes, compression)
        if len(offsets) < expected or len(sizes) < expected:
            raise BrokenError(
                f"contradicts itself: an image of {width} x {height} pixels needs {expected} "
                f"blocks, and {min(len(offsets), len(sizes))} are listed"
            )
        return Directory(
            offset=offset,
            parent=parent,
            width=width,
            height=height,
            block_width=block_width,
            block_height=block_height,
            tiled=tiled,
            planes=planes,
            compression=compression,
            # Values beyond int64 lie beyond the end of any file, and still do when clipped.
            block_offsets=np.minimum(offsets[:expected], 2**62).astype(np.int64),
            block_bytes=np.minimum(sizes[:expected], 2**61).astype(np.int64),
            corrections=tuple(self._corrections(entries)),
        )

    def _estimated_sizes(
        self, offsets: NDArray[np.uint64], raw_bytes: NDArray[np.int64], compression: int
    ) -> NDArray[np.uint64]:
        """Return byte counts where the file has none: those of the pixels, or where they are
        compressed what lies before the next block, directory or end of the file."""
        if compression == 1:
            return raw_bytes.astype(np.uint64)
        ends = np.array(sorted({*map(int, offsets), *self._visited, self._size}), np.uint64)
        following = ends[np.minimum(np.searchsorted(ends, offsets, "right"), len(ends) - 1)]
        # Never more than a decoder accepts, whose limit is there for wrong byte counts.
        most = (2 * raw_bytes + 2**20).astype(np.uint64)
        return np.where(following > offsets, np.minimum(following - offsets, most), 0)

    def _corrections(self, entries: dict[int, _Entry]) -> Iterator[tuple[int, bytes]]:
        """Generate the entries to replace, with their offsets."""
        for tag, entry in entries.items():
            value = self._only_value(entries, tag)
            if self._is_ignored(entries, tag, value):
                value = None
            elif _is_as_specified(tag, entry):
                continue
            elif tag == _RESOLUTION_UNIT:
                value = value or self._unit(entry)
            elif tag not in _ONE_INTEGER | _ONE_A_SAMPLE:
                value = None
            kept = (_UNUSED_TAG, 0) if value is None else (tag, value)
            yield entry.at, self._as_integer(*kept)

    def _is_ignored(self, entries: dict[int, _Entry], tag: int, value: int | None) -> bool:
        """Whether libtiff reads an image as if a tag with this value were missing."""
        if tag == _PREDICTOR:
            return self._number(entries, _COMPRESSION, 1) not in _WITH_PREDICTOR
        if tag == _SAMPLE_FORMAT:
            return value == _UNTYPED
        if tag in (_TILE_WIDTH, _TILE_LENGTH):
            return not self._has_tile_size(entries)
        return False

    def _has_tile_size(self, entries: dict[int, _Entry]) -> bool:
        """Whether both sides of a tile are stated; one alone is of no use."""
        return all(self._only_value(entries, side) for side in (_TILE_WIDTH, _TILE_LENGTH))

    def _unit(self, entry: _Entry) -> int:
        """Return the ResolutionUnit that a text names; the one without a length if it names none,
        because the default is the inch and a wrong scale is worse than none."""
        text = b""
        if entry.type == _ASCII:
            text = self._read(entry.position, min(entry.count, 16)).rstrip(b"\0 ")
        return _UNITS.get(text.decode("ascii", "replace").lower(), _NO_UNIT)

    def _as_integer(self, tag: int, value: int) -> bytes:
        if value >= 2**32:
            raise BrokenError(f"has a tag {tag} with a value that is too large ({value})")
        return self._format.entry_of(tag, _SHORT if value < 2**16 else _LONG, value)


def _bytes_covered(found: list[Directory]) -> int:
    """Return how many bytes of the file belong to blocks, each byte once."""
    starts, ends = [], []
    for directory in found:
        stored = directory.stored
        # Never more than pixels of 16 bytes can need: byte counts may be wrong.
        most = 16 * directory.block_width * directory.block_height + 2**20
        starts.append(directory.block_offsets[stored])
        ends.append(starts[-1] + np.minimum(directory.block_bytes[stored], most))
    start, end = np.concatenate(starts), np.concatenate(ends)
    order = np.argsort(start)
    start, end = start[order], np.maximum.accumulate(end[order])
    begun = np.maximum(start[1:], end[:-1])
    return int((end[:1] - start[:1]).sum() + np.maximum(end[1:] - begun, 0).sum())


def _is_as_specified(tag: int, entry: _Entry) -> bool:
    """Whether the type and the count of a tag are those of TIFF 6.0, as far as they matter."""
    is_integer = entry.type in (_SHORT, _LONG)
    if tag in _ONE_INTEGER:
        return is_integer and entry.count == 1
    if tag in _ONE_A_SAMPLE:
        return is_integer and entry.count >= 1
    if tag in _ONE_A_BLOCK:
        return entry.type in _INTEGERS
    if tag == _YCBCR_SUBSAMPLING:
        return is_integer and entry.count == 2
    if tag == _JPEG_TABLES:
        return entry.type in (1, _UNDEFINED) and entry.count >= 2
    return True


def _holds_an_image(entries: dict[int, _Entry]) -> bool:
    """Whether a directory has blocks; one whose thumbnail is a complete JPEG file has none."""
    return _STRIP_OFFSETS in entries or _TILE_OFFSETS in entries


def _is_old_thumbnail(entries: dict[int, _Entry]) -> bool:
    return _OLD_JPEG_OFFSET in entries and not _holds_an_image(entries)
