"""Mutates the structure of TIFF files and reads them: python fuzz.py SEEDS FIRST LAST FOLDER.

tests/faults/test_fuzz.py runs it in a separate process and watches it. It prints `begin N` before
each case, and `end N SECONDS OUTCOME` with the processor time after it.
"""

import random
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from her2d.slides.errors import SlideError
from her2d.slides.grid import Tile
from her2d.slides.integrity import Completeness, Missing, check_integrity
from her2d.slides.reader import open_slide

# Values that break arithmetic: zero, signs, limits of the types, and sizes that are nearly right.
NASTY = (0, 1, 2, 7, 8, 15, 16, 255, 256, 511, 512, 513, 1023, 4096, 2**15, 2**16 - 1, 2**16,
         2**20, 2**20 + 1, 2**22, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**63 - 1,
         2**63, 2**64 - 1)  # fmt: skip
TAGS = (254, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 281, 282, 283,
        284, 296, 317, 320, 322, 323, 324, 325, 330, 338, 339, 347, 530, 532, 32997, 32998,
        34675)  # fmt: skip


class Layout:
    """The positions of the structures of a valid TIFF file."""

    def __init__(self, data: bytes) -> None:
        self.order = "<" if data[:2] == b"II" else ">"
        self.big = struct.unpack_from(self.order + "H", data, 2)[0] == 43
        self.offset = self.order + ("Q" if self.big else "I")
        self.offset_size = 8 if self.big else 4
        self.first = 8 if self.big else 4
        self.entry_size = 20 if self.big else 12
        self.entries: list[int] = []
        self.links = [self.first]
        at = struct.unpack_from(self.offset, data, self.first)[0]
        while at:
            count = self.order + ("Q" if self.big else "H")
            (number,) = struct.unpack_from(count, data, at)
            start = at + struct.calcsize(count)
            self.entries += [start + self.entry_size * index for index in range(number)]
            self.links.append(start + self.entry_size * number)
            at = struct.unpack_from(self.offset, data, self.links[-1])[0]


Mutation = Callable[[bytearray, Layout, random.Random], None]


def put(data: bytearray, at: int, form: str, value: int) -> None:
    size = struct.calcsize(form)
    if 0 <= at <= len(data) - size:
        struct.pack_into(form, data, at, value % (1 << (8 * size)))


def some(data: bytearray, rng: random.Random) -> int:
    """Return a value of NASTY, a position in the file or near its end, or a random number."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(NASTY)
    if kind == 1:
        return rng.randrange(len(data) + 1)
    if kind == 2:
        return len(data) + rng.randint(-16, 16)
    return rng.getrandbits(rng.choice((8, 16, 32, 64)))


def tag(data: bytearray, layout: Layout, rng: random.Random) -> None:
    put(data, rng.choice(layout.entries), layout.order + "H", rng.choice(TAGS))


def kind(data: bytearray, layout: Layout, rng: random.Random) -> None:
    put(data, rng.choice(layout.entries) + 2, layout.order + "H", rng.randrange(20))


def count(data: bytearray, layout: Layout, rng: random.Random) -> None:
    put(data, rng.choice(layout.entries) + 4, layout.offset, some(data, rng))


def value(data: bytearray, layout: Layout, rng: random.Random) -> None:
    at = rng.choice(layout.entries) + 4 + layout.offset_size
    put(data, at, rng.choice((layout.offset, layout.order + "H")), some(data, rng))


def link(data: bytearray, layout: Layout, rng: random.Random) -> None:
    target = rng.choice((*layout.entries, *layout.links)) - 2 if rng.random() < 0.5 else None
    put(
        data, rng.choice(layout.links), layout.offset, some(data, rng) if target is None else target
    )


def table(data: bytearray, layout: Layout, rng: random.Random) -> None:
    """One of the values that a tag keeps elsewhere."""
    at = rng.choice(layout.entries) + 4 + layout.offset_size
    where = int.from_bytes(
        data[at : at + layout.offset_size], "little" if layout.order == "<" else "big"
    )
    put(data, where + 4 * rng.randrange(8), layout.order + "I", some(data, rng))


def swap(data: bytearray, layout: Layout, rng: random.Random) -> None:
    one, other = rng.choice(layout.entries), rng.choice(layout.entries)
    size = layout.entry_size
    data[one : one + size], data[other : other + size] = (
        data[other : other + size],
        data[one : one + size],
    )


def cut(data: bytearray, _layout: Layout, rng: random.Random) -> None:
    del data[rng.randrange(16, len(data)) :]


def noise(data: bytearray, _layout: Layout, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 4, 64))):
        data[rng.randrange(len(data))] = rng.randrange(256)


def grow(data: bytearray, _layout: Layout, rng: random.Random) -> None:
    """Make room for large tags: zeros, or ones, at the end."""
    data.extend(bytes([rng.choice((0, 1, 255))]) * rng.choice((100, 10_000, 1_000_000)))


MUTATIONS: tuple[Mutation, ...] = (
    tag, kind, count, count, value, value, value, link, table, table, swap, cut, noise, grow
)  # fmt: skip


def mutated(seeds: list[bytes], case: int) -> bytes:
    """The file of a case: one of the seeds, with one to six things changed."""
    rng = random.Random(case)
    original = rng.choice(seeds)
    layout, data = Layout(original), bytearray(original)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        rng.choice(MUTATIONS)(data, layout, rng)
        if len(data) < 17:
            break
    return bytes(data)


def outcome(path: Path) -> str:
    """How a file ends: with tiles, or with a reason of one line. Anything else is raised."""
    found = check_integrity(path)
    try:
        with open_slide(path) as slide:
            tiles = list(map(_fate, slide.tiles(workers=1)))
    except SlideError as error:
        if not error.reason or "\n" in str(error):
            raise AssertionError(f"no reason: {error!r}") from error
        return "refused"
    if found.completeness is not Completeness.COMPLETE and found.missing is not Missing.BLOCKS:
        raise AssertionError(f"read, though {found.reason}")
    if len(tiles) != slide.grid.columns * slide.grid.rows:
        raise AssertionError("tiles are missing")
    return "read" if all(tiles) else "damaged"


def _fate(tile: object) -> bool:
    return isinstance(tile, Tile)


def main(seeds: Path, first: int, last: int, folder: Path) -> None:
    files = [path.read_bytes() for path in sorted(seeds.iterdir())]
    path = folder / f"fuzz{first}.tif"
    for case in range(first, last):
        path.write_bytes(mutated(files, case))
        sys.stdout.write(f"begin {case}\n")
        sys.stdout.flush()
        started = time.process_time()
        found = outcome(path)
        sys.stdout.write(f"end {case} {time.process_time() - started:.3f} {found}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
