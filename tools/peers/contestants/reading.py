"""Reading alone: the 4x tiles of a slide, by OpenSlide, tiffslide or fastslide."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.peers.contestants.found import TILE_PX
from tools.peers.served import arguments, mean_of, serve

Pixels = NDArray[np.uint8]

# Reads (left, top), in pixels of level 0, `level` and (width, height), in pixels of the level.
Region = Callable[[tuple[int, int], int, tuple[int, int]], Pixels]


def main() -> None:
    """Read all tiles whenever asked."""
    cv2.setNumThreads(1)
    given = arguments()
    library, slide = given["library"], given["slide"]
    scale, passes = float(given["scale"]), int(given["passes"])

    def read() -> dict[str, object]:
        for _ in range(passes):
            opened = _OPENED[library](slide, scale)
            means = [mean_of(tile) for tile in _tiles(opened, scale)]
        return {"means": means, "level": opened.level_in_words}

    serve(read, {"openslide": ("openslide-python", "openslide-bin")}.get(library, (library,)))


@dataclass(frozen=True)
class _Opened:
    """A slide.

    Attributes:
        size: width and height of level 0.
        level: the coarsest level that is fine enough for 4x, by the library's own choice.
        level_size: its width and height.
        downsample: pixels of level 0 for each of its pixels.
        region: reads it.
    """

    size: tuple[int, int]
    level: int
    level_size: tuple[int, int]
    downsample: float
    region: Region

    @property
    def level_in_words(self) -> str:
        return "{} ({} x {})".format(self.level, *self.level_size)


def _tiles(slide: _Opened, scale: float) -> Iterator[Pixels]:
    step = scale / slide.downsample
    side = round(TILE_PX * step)
    width, height = slide.size
    span = round(TILE_PX * scale)
    for top, left in itertools.product(range(0, height, span), range(0, width, span)):
        pixels = slide.region((left, top), slide.level, (side, side))
        if side != TILE_PX:
            wanted = (TILE_PX, TILE_PX)
            yield cv2.resize(pixels, wanted, interpolation=cv2.INTER_AREA).astype(
                np.uint8, copy=False
            )
        else:
            yield pixels


def _openslide(path: str, scale: float) -> _Opened:
    import openslide

    slide = openslide.OpenSlide(path)

    def region(at: tuple[int, int], level: int, size: tuple[int, int]) -> Pixels:
        return np.asarray(slide.read_region(at, level, size).convert("RGB"))

    return _at_best_level(slide, scale, region)


def _tiffslide(path: str, scale: float) -> _Opened:
    import tiffslide

    slide = tiffslide.TiffSlide(path)

    def region(at: tuple[int, int], level: int, size: tuple[int, int]) -> Pixels:
        return np.asarray(slide.read_region(at, level, size, as_array=True), np.uint8)

    return _at_best_level(slide, scale, region)


def _fastslide(path: str, scale: float) -> _Opened:
    import fastslide

    slide = fastslide.FastSlide.from_file_path(path)

    def region(at: tuple[int, int], level: int, size: tuple[int, int]) -> Pixels:
        place = slide.convert_level0_to_level_native(*at, level)
        pixels: Pixels = slide.read_region(place, level, size).numpy()
        return pixels[..., :3]

    return _at_best_level(slide, scale, region)


def _at_best_level(slide: Any, scale: float, region: Region) -> _Opened:
    level = slide.get_best_level_for_downsample(scale * 1.01)
    return _Opened(
        tuple(slide.dimensions),
        level,
        tuple(slide.level_dimensions[level]),
        slide.level_downsamples[level],
        region,
    )


_OPENED: dict[str, Callable[[str, float], _Opened]] = {
    "openslide": _openslide,
    "tiffslide": _tiffslide,
    "fastslide": _fastslide,
}


if __name__ == "__main__":
    main()
