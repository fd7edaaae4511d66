"""What the interval of P covers, as seeded simulations of slides that are hard to score.

A slide has 20 to 119 tumour tiles; one in eight is positive; strong staining and the networks'
errors are as independent or as correlated as tissue is; on one slide in eleven all five networks
err together.
"""

import numpy as np
import pytest
from tumor_tiles import HardSlide, hard_slides, simulated_tiles

from her2d.method import THRESHOLD
from her2d.pipeline.block_bootstrap import block_bootstrap_interval
from her2d.pipeline.conformal import conformal_interval, evidence_of_doubt
from her2d.research.evaluation.conformal import CalibrationSlide, fit_interval

CUT = 0.5
SEEDS = range(8)


def calibrated(slides: list[HardSlide], prevalence: float | None):
    return fit_interval(
        [
            CalibrationSlide(
                f"P{number}",
                s.tiles.share,
                s.annotated,
                s.annotated >= THRESHOLD,
                evidence_of_doubt(s.tiles, CUT),
            )
            for number, s in enumerate(slides)
        ],
        THRESHOLD,
        prevalence=prevalence,
        seed=0,
    )


def intervals_after(calibrations: int, *, positive: float = 0.125, prevalence: float | None = None):
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        slides = hard_slides(rng, calibrations, cut=CUT, positive=positive)
        calibration = calibrated(slides, prevalence)
        found += [
            (slide, conformal_interval(slide.tiles, calibration, CUT, THRESHOLD))
            for slide in hard_slides(rng, 200, cut=CUT)
        ]
    return found


@pytest.fixture(scope="module")
def tested():
    """Test slides with their intervals: 200 for each of eight calibrations on 80 others.

    Of these 80, in most cases too few are called positive for a quantile of theirs.
    """
    return intervals_after(80)


@pytest.fixture(scope="module")
def tested_by_call():
    """The same after calibrations on 300 others, of which enough are called positive."""
    return intervals_after(300)


POSITIVE = float(
    np.mean(
        [s.annotated >= THRESHOLD for s in hard_slides(np.random.default_rng(0), 2000, cut=CUT)]
    )
)
"""Share of truly positive slides among those that are tested."""


@pytest.fixture(scope="module")
def tested_after_many_positive():
    """The same where half of the 150 calibration slides is mostly strong; without and with weights.

    One in eight of the tested slides is.
    """
    many = {"positive": 0.5}
    return intervals_after(150, **many), intervals_after(150, **many, prevalence=POSITIVE)


def coverage(found) -> float:
    return float(np.mean([i.low <= slide.annotated <= i.high for slide, i in found]))


def borderline(found) -> float:
    return float(np.mean([i.low <= THRESHOLD <= i.high for _, i in found]))


def is_called(slide: HardSlide, call: str) -> bool:
    return (slide.tiles.share >= THRESHOLD) == (call == "positive")


def test_calibrated_intervals_cover_the_annotated_share_of_95_slides_in_100(tested):
    assert 0.93 <= coverage(tested) <= 0.97


def test_they_cover_it_on_slides_with_correlated_tissue_too(tested):
    correlated = [(slide, i) for slide, i in tested if slide.correlation > 0]
    assert len(correlated) > 800
    assert 0.92 <= coverage(correlated) <= 0.98


def test_they_cover_it_on_positive_and_on_negative_slides(tested):
    positive = [(slide, i) for slide, i in tested if slide.annotated >= THRESHOLD]
    negative = [(slide, i) for slide, i in tested if slide.annotated < THRESHOLD]
    assert len(positive) > 200
    assert coverage(positive) >= 0.93
    assert coverage(negative) >= 0.93


def test_most_wrong_calls_are_borderline(tested):
    wrong = [
        (slide, i)
        for slide, i in tested
        if (slide.tiles.share >= THRESHOLD) != (slide.annotated >= THRESHOLD)
    ]
    assert len(wrong) > 50
    assert borderline(wrong) > 0.85


@pytest.mark.parametrize("call", ["positive", "negative"])
def test_with_enough_slides_they_cover_it_for_either_call(tested_by_call, call):
    alike = [(slide, i) for slide, i in tested_by_call if is_called(slide, call)]
    assert len(alike) > 200
    assert 0.93 <= coverage(alike) <= 0.99


def test_then_most_negative_calls_are_certain_and_most_wrong_ones_are_not(tested_by_call):
    negative = [(slide, i) for slide, i in tested_by_call if is_called(slide, "negative")]
    wrong = [(slide, i) for slide, i in negative if slide.annotated >= THRESHOLD]
    assert len(wrong) > 20
    assert borderline(negative) < 0.4
    assert borderline(wrong) > 0.85


def test_weighted_slides_cover_it_for_either_call_where_fewer_are_positive(
    tested_after_many_positive,
):
    _, weighted = tested_after_many_positive
    for call in ("positive", "negative"):
        assert coverage([found for found in weighted if is_called(found[0], call)]) >= 0.93


def test_then_no_fewer_negative_calls_are_certain_and_under_5_in_100_of_them_are_wrong(
    tested_after_many_positive,
):
    unweighted, weighted = (
        [(slide, i) for slide, i in tested if is_called(slide, "negative")]
        for tested in tested_after_many_positive
    )
    assert borderline(weighted) <= borderline(unweighted)
    certain = [slide for slide, i in weighted if not i.low <= THRESHOLD <= i.high]
    assert len(certain) > 500
    assert np.mean([slide.annotated >= THRESHOLD for slide in certain]) < 0.05


def test_their_width_depends_on_the_slide(tested):
    widths = np.array([i.high - i.low for _, i in tested])
    assert (widths > 0).all()
    assert np.quantile(widths, 0.9) > 4 * np.quantile(widths, 0.5)
    assert np.median(widths) < 0.15


@pytest.mark.parametrize(
    ("length", "share", "at_least"),
    [(0.0, 0.1, 0.95), (0.7, 0.05, 0.93), (0.7, 0.3, 0.93), (1.2, 0.1, 0.85), (1.2, 0.3, 0.75)],
)
def test_the_block_bootstrap_covers_the_tissues_share_far_more_often_than_one_of_tiles(
    length, share, at_least
):
    """A bootstrap of single tiles covered 0.90, 0.67, 0.70, 0.53 and 0.53 of these slides."""
    rng = np.random.default_rng(1)
    hits = []
    for seed in range(120):
        tiles = simulated_tiles(rng, tiles=int(rng.integers(20, 120)), share=share, length=length)
        found = block_bootstrap_interval(tiles, seed=seed, resamples=300)
        hits.append(found.low <= share <= found.high)
    assert np.mean(hits) >= at_least
