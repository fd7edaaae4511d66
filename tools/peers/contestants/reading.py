"""Reading alone: the 4x tiles of a slide, by OpenSlide, tiffslide or fastslide."""

import itertools
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.peers.contestants.found import TILE_PX
from tools.peers.served import arguments, serve

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
            means = [float(tile.mean()) for tile in _tiles(library, slide, scale)]
        return {"means": means}

    serve(read, {"openslide": ("openslide-python", "openslide-bin")}.get(library, (library,)))


def _tiles(library: str, path: str, scale: float) -> Iterator[Pixels]:
    size, level, downsample, region = _OPENED[library](path, scale)
    step = scale / downsample
    side = round(TILE_PX * step)
    width, height = size
    span = round(TILE_PX * scale)
    for top, left in itertools.product(range(0, height, span), range(0, width, span)):
        pixels = region((left, top), level, (side, side))
        if side != TILE_PX:
            wanted = (TILE_PX, TILE_PX)
            yield cv2.resize(pixels, wanted, interpolation=cv2.INTER_AREA).astype(
                np.uint8, copy=False
            )
        else:
            yield pixels


Opened = tuple[tuple[int, int], int, float, Region]


def _openslide(path: str, scale: float) -> Opened:
    import openslide

    slide = openslide.OpenSlide(path)
    level = slide.get_best_level_for_downsample(scale * 1.01)

    def region(at: tuple[int, int], level: int, size: tuple[int, int]) -> Pixels:
        return np.asarray(slide.read_region(at, level, size).convert("RGB"))

    return slide.dimensions, level, slide.level_downsamples[level], region


def _tiffslide(path: str, scale: float) -> Opened:
    import tiffslide

    slide = tiffslide.TiffSlide(path)
    level = slide.get_best_level_for_downsample(scale * 1.01)

    def region(at: tuple[int, int], level: int, size: tuple[int, int]) -> Pixels:
        return np.asarray(slide.read_region(at, level, size, as_array=True), np.uint8)

    return slide.dimensions, level, slide.level_downsamples[level], region


def _fastslide(path: str, scale: float) -> Opened:
    import fastslide

    slide = fastslide.FastSlide.from_file_path(path)
    level = slide.get_best_level_for_downsample(scale * 1.01)
    downsample = slide.level_downsamples[level]

    def region(at: tuple[int, int], level: int, size: tuple[int, int]) -> Pixels:
        # Its places are in pixels of the level.
        place = (round(at[0] / downsample), round(at[1] / downsample))
        pixels: Pixels = slide.read_region(place, level, size).numpy()
        return pixels[..., :3]

    return tuple(slide.dimensions), level, downsample, region


_OPENED: dict[str, Callable[[str, float], Opened]] = {
    "openslide": _openslide,
    "tiffslide": _tiffslide,
    "fastslide": _fastslide,
}


if __name__ == "__main__":
    main()
