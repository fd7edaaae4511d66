"""Whether a slide can be called at all."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.pipeline.evaluability import (
    EvaluableLimits,
    ReasonCode,
    UnreadTiles,
    find_obstacle,
)
from her2d.pipeline.quality import QualityLimits, QualityTally
from her2d.pipeline.scoring import Her2Status, score_slide
from her2d.pipeline.tile_counts import TileCounts
from her2d.slides.scale import ScaleDoubt

TILE = 512 * 512
ANY = EvaluableLimits()
CLEAN = replace(
    QualityTally().finish(QualityLimits(), tile_mm2=1.6, slide_mm2=100.0, tumor_mm2=20.0),
    stain_problem=None,
)

tiles = st.lists(st.tuples(st.integers(1, TILE), st.booleans()), min_size=1, max_size=40)


def counts(pairs) -> TileCounts:
    return TileCounts(
        np.array([pixels for pixels, _ in pairs], np.int64),
        np.array([strong for _, strong in pairs], np.bool_),
    )


def obstacle(pairs, *, unreadable=0, pixels=0, quality=CLEAN, limits=ANY, scale=None):
    unread = UnreadTiles(unreadable, pixels)
    return find_obstacle(counts(pairs), quality, unread, limits, scale=scale)


def code(pairs, **given):
    found = obstacle(pairs, **given)
    return None if found is None else found.code


def status(pairs, **given):
    return score_slide(counts(pairs), obstacle=obstacle(pairs, **given), interval=None).her2_status


def test_a_slide_without_tumor_is_not_called():
    found = obstacle([])
    assert found.code is ReasonCode.NO_TUMOR
    assert found.sentence == "No tumour was found in any tile."


def test_a_slide_without_tumor_of_which_tiles_are_unread_says_so():
    found = obstacle([], unreadable=2, pixels=2 * TILE)
    assert found.code is ReasonCode.UNREADABLE
    assert "2 tiles could not be read" in found.sentence


def test_unread_tiles_that_could_change_the_call_prevent_it():
    negative = [(TILE, False)] * 9
    assert code(negative, unreadable=1, pixels=TILE) is ReasonCode.UNREADABLE
    assert code(negative, unreadable=1, pixels=TILE // 2) is None
    positive = [(TILE, True)] + [(TILE, False)] * 8
    assert code(positive, unreadable=2, pixels=2 * TILE) is ReasonCode.UNREADABLE
    assert code(positive, unreadable=1, pixels=TILE) is None


@given(tiles, st.integers(0, 5 * TILE), st.data())
def test_no_content_of_unread_tiles_could_change_a_call(pairs, pixels, data):
    called = status(pairs, unreadable=5, pixels=pixels)
    if called is Her2Status.INDETERMINATE or pixels == 0:
        return
    tumor = data.draw(st.integers(1, pixels))
    strong = data.draw(st.integers(0, tumor))
    revealed = [(strong, True), (tumor - strong, False)]
    assert status([*pairs, *[(p, s) for p, s in revealed if p]]) is called


def test_a_slide_that_is_not_stained_with_he_says_so_before_anything_else():
    sentence = "The slide is not stained with H&E: 34 % of its tissue is brown."
    other = replace(CLEAN, stain_problem=sentence)
    for pairs in ([], [(TILE, True)]):
        found = obstacle(pairs, unreadable=9, pixels=9 * TILE, quality=other)
        assert (found.code, found.sentence) == (ReasonCode.NOT_HE, sentence)
    assert status([(TILE, True)], quality=other) is Her2Status.INDETERMINATE


@pytest.mark.parametrize(("pairs", "unreadable"), [([], 0), ([], 3), ([(TILE, True)], 0)])
def test_at_a_wrong_scale_no_count_means_anything(pairs, unreadable):
    doubt = ScaleDoubt("The file states 1 um/px.", is_wrong=True)
    found = obstacle(pairs, unreadable=unreadable, pixels=unreadable * TILE, scale=doubt)
    assert (found.code, found.sentence) == (ReasonCode.WRONG_SCALE, doubt.remark)


def test_a_scale_that_is_only_doubtful_is_no_obstacle():
    assert code([(TILE, True)], scale=ScaleDoubt("It is coarse.", is_wrong=False)) is None


@pytest.mark.parametrize(("tiles_found", "expected"), [(4, "too-little-tumor"), (5, None)])
def test_fewer_tumor_tiles_than_the_bundle_wants_are_too_few(tiles_found, expected):
    limits = EvaluableLimits(min_tumor_tiles=5)
    assert code([(TILE, True)] * tiles_found, limits=limits) == expected


@pytest.mark.parametrize(("tumor_mm2", "expected"), [(1.99, "too-little-tumor"), (2.0, None)])
def test_less_tumor_than_the_bundle_wants_is_too_little(tumor_mm2, expected):
    quality = replace(CLEAN, tumor_mm2=tumor_mm2)
    assert code([(TILE, True)], quality=quality, limits=EvaluableLimits(2.0)) == expected
