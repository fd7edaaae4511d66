"""`her2d scan` needs no more memory for a slide of 100,000 tiles than for one of 1,000.

make bench        prints the three peaks and their ratio
"""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from stained_tiles import STROMA, TUMOR_WEAK, stained

TILE = 512
pytestmark = pytest.mark.benchmark

# The reader refuses more tiles than a glass can have; memory is measured beyond that.
SCAN = "import her2d.slides.fit as fit, her2d.cli as cli; fit._MAX_TILES = 10**6; cli.main()"


def tissue() -> list[np.ndarray]:
    """Return tiles of tumour, which have a row each with all values, and of stroma."""
    colors = [TUMOR_WEAK] * 10 + [STROMA] * 6
    return [stained(color, TILE, TILE) for color in colors]


def write(path: Path, rows: int, columns: int, tiles: list[np.ndarray]) -> Path:
    """Write a slide whose tiles are the same few over and over, each stored once."""
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=(TILE, len(tiles) * TILE, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 98},
        description="AppMag = 4|MPP = 2.5",
        metadata=None,
        bigtiff=True,
    )
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        at = {tag.code: tag.offset for tag in page.tags}
        stored = [np.array(page.dataoffsets), np.array(page.databytecounts)]
    with path.open("r+b") as file:
        for code, value in ((256, columns * TILE), (257, rows * TILE)):
            file.seek(at[code] + 2)
            file.write(struct.pack("<HQQ", 16, 1, value))
        for code, values in zip((324, 325), stored, strict=True):
            end = file.seek(0, os.SEEK_END)
            file.write(np.resize(values, rows * columns).astype("<u8").tobytes())
            file.seek(at[code] + 2)
            file.write(struct.pack("<HQQ", 16, rows * columns, end))
    return path


def peak_mib(folder: Path, slide: Path) -> float:
    """Measure the peak resident memory of a `her2d scan` process, in MiB."""
    arguments = ["-c", SCAN, "scan", str(slide), "--config", str(folder / "config.toml")]
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *arguments])
    _, status, usage = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return usage.ru_maxrss / 1024


def test_memory_does_not_grow_with_the_slide(tmp_path, color_bundle):
    (tmp_path / "config.toml").write_text(
        f'[bundle]\npath = "{color_bundle.directory}"\n[inference]\nthreads = 1\n'
    )
    tiles = tissue()
    sizes = {1000: (25, 40), 10_000: (100, 100), 100_000: (250, 400)}
    peaks = {}
    for number, (rows, columns) in sizes.items():
        slide = write(tmp_path / f"{number}.tif", rows, columns, tiles)
        peaks[number] = peak_mib(tmp_path, slide)
        print(f"\n{number:,} tiles: peak RSS {peaks[number]:.0f} MiB", end="")
    print(f", {max(peaks.values()) / min(peaks.values()):.3f} times the least (limit: 1.1)")
    assert max(peaks.values()) <= 1.1 * min(peaks.values())
