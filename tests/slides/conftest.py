"""Scans of every layout, written with tifffile, and the picture that they must decode to."""

import builtins
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from real_slides import CMU, TCGA, write_without_magnification

from her2d.slides.formats import opening
from her2d.slides.grid import Tile, UnreadableTile
from her2d.slides.protocol import Slide
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
Tag = tuple[int, int, bytes]  # type, count, value

FOUR_X = "Motic V1.0.0\n{w}x{h} [0,0 {w}x{h}] [512x512] JPEG/RGB Q = 75|AppMag = 4|MPP = 2.5"
LIKE_TCGA = "an Aperio scan without magnification"
WITHOUT_MAGNIFICATION = [LIKE_TCGA, *([TCGA.name] if TCGA.is_file() else [])]


@pytest.fixture(scope="session")
def picture() -> Callable[..., Picture]:
    """Make a smooth picture, which lossy codecs keep and in which no two places look alike."""

    def make(height: int = 700, width: int = 1100) -> Picture:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        channels = (
            128 + 100 * np.sin(x / 37) * np.cos(y / 53),
            128 + 100 * np.cos(x / 71 + y / 29),
            np.hypot(x - width / 3, y - height / 2) % 200 + 20,
        )
        return np.stack(channels, axis=-1).round().astype(np.uint8)

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write one image as a 4x Motic scan, or with other options of `tifffile.imwrite`."""

    def make(image: NDArray[Any], *, name: str = "scan.tif", **options: Any) -> Path:
        path = tmp_path / name
        height, width = image.shape[-3:-1] if image.ndim == 3 else image.shape
        if options.get("planarconfig") == "separate":
            height, width = image.shape[-2:]
        options.setdefault("photometric", "rgb" if image.ndim == 3 else "minisblack")
        options.setdefault("description", FOUR_X.format(w=width, h=height))
        tifffile.imwrite(path, image, metadata=None, **options)
        return path

    return make


@pytest.fixture(scope="session")
def retag() -> Callable[..., Path]:
    """Write the tags of a file's only image anew, with changes."""

    def change(path: Path, changes: dict[int, Tag | None], *, following: int = 0) -> Path:
        """Append a directory and make it the first.

        Args:
            path: a classic, little-endian TIFF.
            changes: type, count and bytes of tags; None removes one.
            following: offset of the next directory.
        """
        data = bytearray(path.read_bytes())
        (at,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, at)
        entries = {}
        for number in range(count):
            entry = bytes(data[at + 2 + 12 * number : at + 14 + 12 * number])
            entries[struct.unpack_from("<H", entry)[0]] = entry
        for code, tag in changes.items():
            entries.pop(code, None)
            if tag is not None:
                kind, values, raw = tag
                if len(raw) > 4:
                    data += bytes(len(data) % 2)
                    raw, value = struct.pack("<I", len(data)), raw
                    data += value
                entries[code] = struct.pack("<HHI", code, kind, values) + raw.ljust(4, b"\0")
        data += bytes(len(data) % 2)
        struct.pack_into("<I", data, 4, len(data))
        data += struct.pack("<H", len(entries)) + b"".join(v for _, v in sorted(entries.items()))
        data += struct.pack("<I", following)
        path.write_bytes(data)
        return path

    return change


@pytest.fixture(scope="session")
def mosaic() -> Callable[[Slide], Picture]:
    """Assemble all tiles of a slide, padding included; each must be readable."""

    def assemble(slide: Slide) -> Picture:
        grid = slide.grid
        whole = np.zeros((grid.rows * 512, grid.columns * 512, 3), np.uint8)
        for tile in slide.tiles():
            assert isinstance(tile, Tile), tile
            assert tile.pixels.shape == (512, 512, 3)
            y, x = tile.row * 512, tile.column * 512
            whole[y : y + 512, x : x + 512] = tile.pixels
        return whole

    return assemble


@pytest.fixture(scope="session")
def read(mosaic: Callable[[Slide], Picture]) -> Callable[..., Picture]:
    """Read the tiles of a file as one picture, without padding."""

    def assemble(path: Path, **options: Any) -> Picture:
        with open_slide(path, **options) as slide:
            return mosaic(slide)[: slide.grid.height, : slide.grid.width]

    return assemble


@pytest.fixture(scope="session")
def tiles_of() -> Callable[..., tuple[list[Tile], list[UnreadableTile]]]:
    """Return the tiles of a file that could be read, and those that could not."""

    def collect(path: Path) -> tuple[list[Tile], list[UnreadableTile]]:
        with open_slide(path) as slide:
            found = list(slide.tiles())
        assert len(found) == slide.grid.columns * slide.grid.rows
        return (
            [tile for tile in found if isinstance(tile, Tile)],
            [tile for tile in found if isinstance(tile, UnreadableTile)],
        )

    return collect


@pytest.fixture(scope="session")
def cmu() -> Path:
    """A small real scan at 20x (CC0), part of this repository."""
    return CMU


@pytest.fixture(scope="session")
def like_tcga(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slides") / "without-magnification.svs"
    write_without_magnification(path)
    return path


@pytest.fixture(scope="session", params=WITHOUT_MAGNIFICATION)
def without_magnification(request: pytest.FixtureRequest) -> Path:
    """A scan that states no magnification: one that is written here, and a real one if it is there.

    Each has two levels of JPEG 2000, and a thumbnail between them.
    """
    path: Path = request.getfixturevalue("like_tcga") if request.param == LIKE_TCGA else TCGA
    return path


@pytest.fixture(scope="session", params=[CMU.name, *WITHOUT_MAGNIFICATION])
def real_slide(request: pytest.FixtureRequest) -> Path:
    """Each real scan in turn."""
    if request.param == LIKE_TCGA:
        path: Path = request.getfixturevalue("like_tcga")
        return path
    return {path.name: path for path in (CMU, TCGA)}[request.param]


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as an installation without the extra."""
    real = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("openslide", "wsidicom"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *rest, **more)

    def import_module(name: str) -> Any:
        return importing(name) if "." not in name else sys.modules[name]

    monkeypatch.setattr(opening.importlib, "import_module", import_module)
