"""Slides that are called by attention, through the real pipeline, with results known by hand."""

import numpy as np
import pytest
from mil_bundles import THRESHOLD, expected, write_mil_bundle

from her2d.inference.mil_engine import OnnxRuntimeMilEngine
from her2d.pipeline.evaluability import ReasonCode
from her2d.pipeline.mil import AttentionMethod
from her2d.pipeline.outcome import SlideOutcome, TileClass
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits, rules_of
from her2d.pipeline.scoring import NO_INTERVAL, Her2Status

LIMITS = Limits(decode_workers=1, queue_tiles=4, segmenter_batch=2, classifier_batch=3)


def outcome_of(bundle, path) -> SlideOutcome:
    engine = OnnxRuntimeMilEngine(bundle, threads=1)
    try:
        with Pipeline(AttentionMethod(engine), rules_of(bundle), LIMITS) as pipeline:
            return pipeline.submit(path).result()
    finally:
        engine.close()


@pytest.fixture(scope="module")
def bundle(color_bundle, tmp_path_factory):
    return write_mil_bundle(color_bundle, tmp_path_factory.mktemp("mil") / "attention")


def test_a_slide_is_called_by_the_probability_of_its_weighed_tumour_tiles(bundle, write_slide):
    found = outcome_of(bundle, write_slide(["wSw", "s.w"]))
    p, _ = expected("wSww")
    assert found.score.positive_probability == pytest.approx(p, abs=1e-6)
    assert p > THRESHOLD
    assert found.score.her2_status is Her2Status.POSITIVE


def test_below_the_bundles_threshold_it_is_negative(bundle, write_slide):
    found = outcome_of(bundle, write_slide(["ww"]))
    assert found.score.positive_probability == pytest.approx(expected("ww")[0], abs=1e-6)
    assert found.score.her2_status is Her2Status.NEGATIVE


def test_exactly_at_the_threshold_it_is_positive(color_bundle, bundle, write_slide, tmp_path):
    path = write_slide(["wS"])
    p = outcome_of(bundle, path).score.positive_probability
    same = write_mil_bundle(color_bundle, tmp_path / "same", mil={"threshold": p})
    above = write_mil_bundle(
        color_bundle, tmp_path / "above", mil={"threshold": float(np.nextafter(p, 1))}
    )
    assert outcome_of(same, path).score.her2_status is Her2Status.POSITIVE
    assert outcome_of(above, path).score.her2_status is Her2Status.NEGATIVE


def test_attention_lies_on_the_tumour_tiles_and_sums_to_one(bundle, write_slide):
    found = outcome_of(bundle, write_slide(["wS.", "sww"]))
    assert found.attention is not None
    assert np.array_equal(~np.isnan(found.attention), found.tile_class == TileClass.TUMOR)
    assert np.nansum(found.attention) == pytest.approx(1, abs=1e-6)
    _, weights = expected("wSww")
    assert found.attention[~np.isnan(found.attention)] == pytest.approx(weights, abs=1e-6)


def test_what_rests_on_classes_of_tiles_is_none_and_not_zero(bundle, write_slide):
    score = outcome_of(bundle, write_slide(["wS"])).score
    assert score.high_expression_percent is None
    assert (score.ci_low, score.ci_high, score.ci_calibrated) == (None, None, None)
    assert (score.threshold_percent, score.tile_cut) == (None, None)
    assert (score.strong_pixels, score.tiles_strong) == (None, None)
    assert not score.borderline
    assert score.ci_meaning == NO_INTERVAL
    assert score.tumor_pixels == 2 * 512 * 512
    assert score.tiles_tumor == 2


def test_a_slide_without_tumour_has_no_call_and_no_probability(bundle, write_slide):
    found = outcome_of(bundle, write_slide(["ss", ".s"]))
    assert found.score.her2_status is Her2Status.INDETERMINATE
    assert found.score.reason_code is ReasonCode.NO_TUMOR
    assert found.score.positive_probability is None
    assert found.score.ci_meaning is None
    assert found.attention is None


def test_a_slide_with_more_tumour_tiles_than_the_bundle_weighs_is_not_called(
    color_bundle, write_slide, tmp_path
):
    bundle = write_mil_bundle(color_bundle, tmp_path / "few", mil={"max_tiles": 3})
    assert outcome_of(bundle, write_slide(["wSw"], "three.tif")).score.reason is None
    score = outcome_of(bundle, write_slide(["wSwwSww", "wSwwSww"], "more.tif")).score
    assert score.her2_status is Her2Status.INDETERMINATE
    assert score.reason_code is ReasonCode.TOO_MUCH_TUMOR
    assert score.reason == "The slide has 14 tiles with tumour, and the bundle weighs at most 3."
    assert score.tiles_tumor == 14


def test_no_more_features_are_kept_than_the_bundle_weighs_and_one_batch(
    color_bundle, write_slide, tmp_path
):
    bundle = write_mil_bundle(color_bundle, tmp_path / "few", mil={"max_tiles": 3})
    engine = OnnxRuntimeMilEngine(bundle, threads=1)
    encoded = []
    whole = engine.encode_kept
    engine.encode_kept = lambda tiles: (encoded.append(len(tiles)), whole(tiles))[1]
    with Pipeline(AttentionMethod(engine), rules_of(bundle), LIMITS) as pipeline:
        pipeline.submit(write_slide(["w" * 10] * 3)).result()
    engine.close()
    assert sum(encoded) <= 3 + LIMITS.classifier_batch


def test_it_needs_as_much_tumour_as_the_bundle_says(color_bundle, write_slide, tmp_path):
    bundle = write_mil_bundle(color_bundle, tmp_path / "b", decision={"min_tumor_tiles": 3})
    score = outcome_of(bundle, write_slide(["wS"])).score
    assert score.reason_code is ReasonCode.TOO_LITTLE_TUMOR
