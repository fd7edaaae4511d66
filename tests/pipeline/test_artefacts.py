"""Tumour that is out of focus, folded or under ink does not count."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from stained_tiles import STROMA, TUMOR_STRONG, TUMOR_WEAK, stained

from her2d.bundle.integrator import Integrator
from her2d.bundle.manifest import Decision, HeStain, Quality
from her2d.inference.selection import open_engine
from her2d.pipeline.evaluability import ReasonCode
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.outcome import TileClass
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.quality import QualityLimits, measure_tile
from her2d.pipeline.rules import Limits, PipelineRules, rules_of
from her2d.pipeline.scoring import Her2Status
from her2d.pipeline.tumor_mask import count_tumor
from her2d.simulator.plan import Artefacts, plan_slide
from her2d.simulator.render import render_region

TILE = 512
INK = (30, 30, 40)
LIMITS = Limits(segmenter_batch=3, classifier_batch=2, queue_tiles=4, batch_wait_s=0.01)


@pytest.fixture(scope="module")
def engine(color_bundle):
    engine = open_engine(color_bundle, backend="auto", threads=1)
    yield engine
    engine.close()


@pytest.fixture
def score(engine, color_bundle, tmp_path):
    """Score an image, uint8 (H, W, 3), that was scanned at 4x."""

    def score(image, rules: PipelineRules | None = None):
        path = tmp_path / "slide.tif"
        tifffile.imwrite(
            path, image, photometric="rgb", description="AppMag = 4|MPP = 2.5", metadata=None
        )
        rules = any_stain(rules or PipelineRules())
        with Pipeline(Her2Net(engine, Integrator(color_bundle)), rules, LIMITS) as pipeline:
            return pipeline.submit(path, assume_magnification=4.0).result()

    return score


def any_stain(rules: PipelineRules) -> PipelineRules:
    """These slides have no eosin."""
    return replace(
        rules,
        quality=replace(
            rules.quality,
            he=HeStain(degrees=180, red_to_green=100, pink_percent=0, foreign_percent=100),
        ),
    )


def row_of(*colors):
    return np.concatenate([stained(color, TILE, TILE) for color in colors], axis=1)


def test_tumor_under_a_pen_counts_as_if_it_were_not_there(score):
    clean = score(row_of(TUMOR_STRONG, TUMOR_WEAK, TUMOR_WEAK))
    assert clean.score.high_expression_percent == pytest.approx(100 / 3)
    marked = row_of(TUMOR_STRONG, TUMOR_WEAK, TUMOR_WEAK)
    marked[:256, :TILE] = INK
    rules = PipelineRules(quality=QualityLimits(pen_percent=0.0))
    found = score(marked, rules)
    # Half of the tile is under ink, and the network sees it as tumour.
    assert found.tumor_pixels[0, 0] == pytest.approx(TILE * TILE / 2, rel=0.02)
    assert found.quality.artefact_tumor_percent == pytest.approx(100 / 6, rel=0.02)
    assert found.quality.pen_marked


def test_a_tile_with_little_tumor_beside_the_ink_is_a_non_tumor_tile(score):
    image = row_of(TUMOR_STRONG, TUMOR_WEAK, TUMOR_WEAK, TUMOR_WEAK, TUMOR_WEAK)
    image[: int(0.92 * TILE), :TILE] = INK
    found = score(image)
    assert found.tile_class[0].tolist() == [TileClass.NON_TUMOR, *[TileClass.WEAK] * 4]
    assert found.score.high_expression_percent == 0
    assert found.score.her2_status is Her2Status.NEGATIVE


def test_blurred_tumor_does_not_count(score):
    image = row_of(TUMOR_STRONG, TUMOR_WEAK, TUMOR_WEAK)
    image[:, :TILE] = TUMOR_STRONG  # without grain
    found = score(image)
    assert found.tumor_pixels.tolist() == [[0, TILE * TILE, TILE * TILE]]
    assert found.score.high_expression_percent == 0


def test_the_picture_of_the_tumor_shows_what_was_counted(score):
    image = row_of(TUMOR_WEAK)
    image[:256] = INK
    overview = score(image).overview
    half = overview.tumor.shape[0] // 2
    assert not overview.tumor[: half - 4].any()
    assert (overview.tumor[half + 4 :] == 255).all()


def test_a_slide_of_which_most_is_blurred_is_not_called_and_says_why(score):
    image = row_of(TUMOR_STRONG, *[TUMOR_WEAK] * 4)
    image[:, : 3 * TILE] = cv2.GaussianBlur(image[:, : 3 * TILE], (0, 0), 3.0)
    found = score(image)
    assert found.quality.blurred_percent == pytest.approx(60)
    assert found.score.her2_status is Her2Status.INDETERMINATE
    assert found.score.reason_code is ReasonCode.BLURRED
    assert found.score.reason == (
        "60.0 % of the tissue is out of focus, and a call needs at most 50 %."
    )
    assert found.score.high_expression_percent is None
    assert found.score.ci_low is None


def test_the_bundles_limits_decide_and_not_others(score, color_bundle, tmp_path):
    image = row_of(TUMOR_STRONG, *[TUMOR_WEAK] * 4)
    image[:, :TILE] = TUMOR_STRONG
    assert score(image).score.reason_code is None
    strict = rules_of(with_sections(color_bundle, quality=Quality(max_blurred_percent=19)))
    assert score(image, strict).score.reason_code is ReasonCode.BLURRED
    image[:, :TILE] = INK
    assert score(image).score.reason_code is None
    strict = rules_of(with_sections(color_bundle, quality=Quality(max_pen_percent=19)))
    assert score(image, strict).score.reason_code is ReasonCode.PEN_MARKED
    few = rules_of(with_sections(color_bundle, decision=Decision(min_tumor_tiles=5)))
    assert score(image, few).score.reason_code is ReasonCode.TOO_LITTLE_TUMOR
    small = rules_of(with_sections(color_bundle, decision=Decision(min_tumor_mm2=6.6)))
    assert score(image, small).score.reason_code is ReasonCode.TOO_LITTLE_TUMOR
    blind = rules_of(with_sections(color_bundle, quality=Quality(focus=0)))
    assert score(stained(TUMOR_WEAK, TILE, TILE), blind).quality.blurred_percent == 0


def with_sections(bundle, **sections):
    return replace(bundle, manifest=bundle.manifest.model_copy(update=sections))


def test_a_bundle_without_the_section_has_the_default_limits(color_bundle):
    assert "quality" not in color_bundle.manifest.model_fields_set
    rules = rules_of(color_bundle)
    assert rules.evaluable.max_blurred_percent == Quality().max_blurred_percent == 50
    assert rules.evaluable.max_tissue_fold_percent == 10
    assert rules.evaluable.max_pen_percent == 25
    assert (rules.quality.focus, rules.quality.pen_percent) == (100, 0.1)
    assert (rules.evaluable.min_tumor_tiles, rules.evaluable.min_tumor_mm2) == (1, 0)


def test_tumor_in_artefacts_only_is_not_called_a_slide_without_tumor_silently(score):
    image = row_of(TUMOR_WEAK, STROMA, STROMA, STROMA)
    image[:, :TILE] = TUMOR_WEAK
    found = score(image)
    assert found.score.reason_code is ReasonCode.NO_TUMOR
    assert "out of focus, folded or under ink" in found.score.reason
    assert found.quality.artefact_tumor_percent == 100


masks = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 2, (8, 8), np.uint8)
)


@given(masks, st.tuples(st.integers(0, 8), st.integers(0, 8)), st.none() | masks)
def test_every_tumor_pixel_is_counted_left_out_or_padding(mask, extent, artefacts):
    width, height = extent
    before = int(mask[:height, :width].sum())
    small = None if artefacts is None else artefacts[:4, :4].astype(bool)
    found = count_tumor(mask, extent, small)
    assert found.pixels + found.left_out == before
    assert found.pixels == mask.sum()
    if small is not None:
        assert not mask[np.kron(small, np.ones((2, 2), bool))].any()


def rendered(artefacts: Artefacts, *, seed=6):
    plan = plan_slide(
        "a", seed, her2_status="positive", width=4 * TILE, height=4 * TILE, artefacts=artefacts
    )
    for row in range(4):
        for column in range(4):
            yield render_region(plan, TILE * column, TILE * row, TILE, TILE)


def left_out_percent(artefacts: Artefacts, **given) -> float:
    tumor = left = 0
    for region in rendered(artefacts, **given):
        found = count_tumor(
            region.tumor.astype(np.uint8),
            (TILE, TILE),
            measure_tile(region.rgb, QualityLimits()).artefacts,
        )
        tumor, left = tumor + found.pixels, left + found.left_out
    return 100 * left / (tumor + left)


@pytest.mark.slow
def test_of_a_clean_slide_next_to_nothing_is_left_out():
    assert left_out_percent(Artefacts(dust=20)) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("artefacts", "least"),
    [(Artefacts(pen_marks=2), 3), (Artefacts(blur_patches=3), 3), (Artefacts(folds=2), 0.5)],
    ids=["pen", "blur", "folds"],
)
def test_of_a_spoilt_slide_more_is(artefacts, least):
    assert left_out_percent(artefacts, seed=2) > least


def test_a_strand_of_epithelium_is_not_a_fold_and_double_tissue_is():
    def strand(light):
        image = np.full((TILE, TILE, 3), (225, 160, 200), np.uint8)
        image[:, 240:270] = light
        return measure_tile(image, QualityLimits(focus=0)).fold

    doubled = tuple(int(v * v / 245) for v in (225, 160, 200))
    assert strand(doubled) > 0.03
    assert strand((120, 70, 150)) == 0
