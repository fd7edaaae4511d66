"""The stain of a bundle's training cohort."""

from pathlib import Path

import numpy as np
import pytest

from her2d.bundle.manifest import HeStain
from her2d.pipeline.quality import optical_density
from her2d.pipeline.stains import SlideStain, degrees_between, find_stain_problem
from her2d.research.training.stain import measure_stain, measured_he
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


def test_it_has_the_stain_vectors_of_the_cohort_and_no_stricter_limits_than_the_method(tmp_path):
    found = measure_stain(store(tmp_path, [0, 5, 10, 20, 25, 30])).he
    method = HeStain()
    # The slides have one colour each, of a direction between these.
    assert degrees_between(found.eosin, tuple(density(0))) < 8
    assert degrees_between(found.eosin, tuple(density(30))) < 8
    assert (found.degrees, found.foreign_percent) == (method.degrees, method.foreign_percent)
    assert found.pink_percent == method.pink_percent


def he_slide(*, pink: float, turned: float = 0.0) -> SlideStain:
    """A slide with the method's vectors; eosin is turned by some degrees towards blue."""
    method = HeStain()
    eosin = np.array(method.eosin) / np.linalg.norm(method.eosin)
    blue = np.array([0.0, 0.0, 1.0])
    across = blue - (blue @ eosin) * eosin
    across /= np.linalg.norm(across)
    moved = np.cos(np.radians(turned)) * eosin + np.sin(np.radians(turned)) * across
    return SlideStain(
        stained_mm2=10.0,
        ink_percent=0.0,
        brown_percent=0.0,
        foreign_percent=1.0,
        pink_percent=pink,
        hematoxylin=method.hematoxylin,
        eosin=tuple(moved),
    )


def test_limits_widen_until_nearly_all_training_slides_pass_with_a_margin():
    slides = [he_slide(pink=15.0 + number % 3, turned=25.0 * (number % 2)) for number in range(40)]
    found = measured_he(slides)
    assert found.pink_percent == pytest.approx(10.0)
    assert all(find_stain_problem(slide, found, has_tumor=True) is None for slide in slides)


def test_a_few_slides_of_another_stain_by_mistake_do_not_widen_the_limits():
    slides = [he_slide(pink=70.0) for _ in range(97)] + [he_slide(pink=0.0, turned=60.0)] * 3
    found = measured_he(slides)
    method = HeStain()
    assert (found.pink_percent, found.degrees) == (method.pink_percent, method.degrees)
    assert degrees_between(found.eosin, method.eosin) < 0.1
    assert find_stain_problem(slides[-1], found, has_tumor=True) is not None
