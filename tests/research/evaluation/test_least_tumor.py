"""From how much tumour on a slide is called, measured on slides that no model learned from."""

import shutil

import numpy as np
import pytest

from her2d.bundle.loading import load_bundle
from her2d.pipeline.interval import TumorTiles
from her2d.research.evaluation.held_out import FalseTumor, HeldOutSlide
from her2d.research.evaluation.least_tumor import (
    LeastTumor,
    beyond_false_tumor,
    least_tumor,
    limit_tumor,
)

TILE = 512 * 512
PIXEL_MM2 = 1.6 / TILE


def slide(number: int, strong: np.ndarray, *, pixels: int = TILE) -> HeldOutSlide:
    """A square slide of tumour tiles, strong where `strong`, bool (side, side), is true."""
    row, column = np.indices(strong.shape).reshape(2, -1)
    called = strong.ravel()
    tiles = TumorTiles(
        row=row,
        column=column,
        tumor_pixels=np.full(len(row), pixels, np.int64),
        strong=called,
        p_strong=called.astype(np.float32),
        p_folds=np.repeat(called[:, None], 5, axis=1).astype(np.float32),
    )
    share = float(called.mean())
    return HeldOutSlide(f"P{number}", share >= 0.1, tiles, share, PIXEL_MM2)


def cohort(mosaic, *, pixels: int = TILE) -> list[HeldOutSlide]:
    """Ten positive slides that look like `mosaic`, bool (side, side), and ten negative ones."""
    return [
        slide(number, mosaic if number < 10 else np.zeros_like(mosaic), pixels=pixels)
        for number in range(20)
    ]


def measured(slides) -> LeastTumor:
    return least_tumor(slides, threshold=0.1, seed=0)


def test_one_tile_is_enough_where_all_tiles_of_a_slide_are_alike():
    assert measured(cohort(np.ones((8, 8), bool))) == LeastTumor(1, 0.5)


def test_more_tumor_is_needed_the_wider_apart_strong_tiles_lie():
    def striped(period: int) -> np.ndarray:
        return np.repeat((np.arange(16) % period == 0)[None], 16, axis=0)

    near, far = measured(cohort(striped(2))), measured(cohort(striped(4)))
    assert 1 < near.tiles < far.tiles
    assert 0.5 < near.mm2 < far.mm2


def test_the_area_that_is_needed_does_not_depend_on_how_much_of_a_tile_is_tumor():
    mosaic = np.repeat((np.arange(16) % 2 == 0)[None], 16, axis=0)
    full, half = measured(cohort(mosaic)), measured(cohort(mosaic, pixels=TILE // 2))
    assert half.tiles == full.tiles
    assert half.mm2 <= full.mm2


def test_weak_tiles_that_are_called_strong_here_and_there_cost_specificity():
    rng = np.random.default_rng(0)
    positive = np.ones((16, 16), bool)
    errors = [rng.random((16, 16)) < 0.04 for _ in range(10)]
    slides = [slide(number, positive) for number in range(10)]
    slides += [
        HeldOutSlide(f"N{number}", False, slide(number, wrong).tiles, 0.0, PIXEL_MM2)
        for number, wrong in enumerate(errors)
    ]
    assert measured(slides).tiles > 10


@pytest.mark.parametrize("kept", [slice(0, 14), slice(6, 20)], ids=["negative", "positive"])
def test_slides_of_too_few_patients_of_a_status_cannot_say(kept):
    assert measured(cohort(np.ones((8, 8), bool))[kept]) == LeastTumor(None, None)


def test_amounts_are_tried_on_slides_with_twice_as_much_only():
    # The lone strong tile of nine decides, and no slide is large enough to show how many do.
    lone = np.zeros((3, 3), bool)
    lone[0, 0] = True
    assert measured(cohort(lone)) == LeastTumor(None, None)


def test_the_measured_amounts_are_written_to_the_manifest(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    mosaic = np.repeat((np.arange(16) % 2 == 0)[None], 16, axis=0)
    found = limit_tumor(bundle, cohort(mosaic), [], seed=0)
    decision = load_bundle(tmp_path / "bundle").manifest.decision
    assert decision == found.bundle.manifest.decision
    assert decision.min_tumor_tiles == measured(cohort(mosaic)).tiles
    assert decision.min_tumor_mm2 == measured(cohort(mosaic)).mm2
    assert "0 of 20 slides with tumour have less than a call needs." in found.note


def test_a_bundle_keeps_its_amounts_where_the_slides_cannot_say(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    found = limit_tumor(bundle, [], [], seed=0)
    assert found.bundle.manifest.decision == bundle.manifest.decision
    assert "How much right calls need could not be measured" in found.note
    assert "How much is found where there is no tumour could not be measured" in found.note


def found_on_benign(*areas: float) -> list[FalseTumor]:
    return [FalseTumor(f"B{number}", mm2) for number, mm2 in enumerate(areas)]


def test_a_call_needs_more_than_what_is_found_where_there_is_no_tumor():
    assert beyond_false_tumor(found_on_benign(0.0, 0.8, 0.0, 1.2, 0.4)) == 1.5


def test_one_odd_slide_of_twenty_does_not_set_the_limit():
    assert beyond_false_tumor(found_on_benign(*[0.4] * 19, 12.0)) == 0.5


def test_too_few_slides_without_tumor_set_no_limit():
    assert beyond_false_tumor(found_on_benign(3.0, 3.0, 3.0, 3.0)) is None


def test_the_larger_area_is_written_to_the_manifest(color_bundle, tmp_path):
    shutil.copytree(color_bundle.directory, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    slides = cohort(np.ones((8, 8), bool))
    found = limit_tumor(bundle, slides, found_on_benign(0.0, 0.8, 0.0, 1.2, 0.4), seed=0)
    decision = found.bundle.manifest.decision
    assert (decision.min_tumor_tiles, decision.min_tumor_mm2) == (1, 1.5)
    assert "On 5 slides without tumour up to 1.2 mm2 are found." in found.note
