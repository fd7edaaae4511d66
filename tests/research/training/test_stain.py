"""The stain of a bundle's training cohort."""

from pathlib import Path

import numpy as np
import pytest

from her2d.pipeline.quality import optical_density
from her2d.research.training.stain import measure_stain
from her2d.research.training.tile_store import (
    PreparedTile,
    TileStore,
    slide_path,
    write_slide,
)

PINK = np.array([215, 140, 190])


def store(folder: Path, darker: list[int]) -> TileStore:
    """Prepare a slide of two pink tiles for each entry, darker by its value."""
    for number, by in enumerate(darker):
        pixels = np.broadcast_to((PINK - by).astype(np.uint8), (512, 512, 3))
        tiles = [
            PreparedTile(column, 0, np.array(pixels), np.zeros((512, 512), np.uint8), 0)
            for column in range(2)
        ]
        write_slide(
            slide_path(folder, str(number)), iter(tiles), expression_from="none", fingerprint={}
        )
    return TileStore(folder, [str(number) for number in range(len(darker))])


def density(by: int) -> np.ndarray:
    return optical_density((PINK - by).astype(np.uint8))


def test_it_is_the_mean_and_spread_of_the_slides_densities(tmp_path):
    darker = [0, 5, 10, 20, 25, 30]
    found = measure_stain(store(tmp_path, darker))
    each = np.array([density(by) for by in darker])
    assert found.mean == pytest.approx(each.mean(axis=0), rel=0.02)
    assert found.std == pytest.approx(each.std(axis=0, ddof=1), rel=0.05)


def test_slides_all_alike_still_have_a_spread_to_divide_by(tmp_path):
    assert min(measure_stain(store(tmp_path, [10] * 6)).std) > 0


def test_a_few_slides_do_not_give_a_reference(tmp_path):
    assert measure_stain(store(tmp_path, [0, 10])) is None
