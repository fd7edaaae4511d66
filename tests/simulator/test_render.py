"""Rendering of pixels and ground truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from her2d.pipeline.saturation import mean_saturation
from her2d.simulator.cohort import tile_truth
from her2d.simulator.plan import Artefacts, plan_cohort, plan_slide
from her2d.simulator.render import render_ihc_region, render_region


def agree(one, other) -> float:
    """Return the fraction of equal values.

    BLAS may round the last bit differently in rectangles of different sizes.
    """
    return float((one == other).mean())


def test_the_same_plan_gives_the_same_pixels(positive):
    one, other = (render_region(positive, 900, 700, 256, 256) for _ in range(2))
    assert np.array_equal(one.rgb, other.rgb)
    assert np.array_equal(one.tumor, other.tumor)


def test_easy_slides_stay_as_they_were():
    """Tests and figures in the documentation rest on them: seed, size, mean RGB, tumour, strong."""
    drawn = [
        (376383645, 3155, 2329, [173.34, 129.6, 190.1], 0.921, 0.0),
        (1746484540, 4987, 3557, [171.18, 138.29, 194.85], 0.979, 0.979),
        (47463575, 3431, 3629, [190.02, 144.85, 198.65], 0.904, 0.0),
    ]
    plans = plan_cohort(3, 0, positive_fraction=0.34)
    for plan, (seed, width, height, rgb, tumor, strong) in zip(plans, drawn, strict=True):
        assert (plan.seed, plan.width, plan.height) == (seed, width, height)
        region = render_region(plan, 1024, 1024, 512, 512)
        assert region.rgb.mean((0, 1)) == pytest.approx(rgb, abs=0.1)
        assert region.tumor.mean() == pytest.approx(tumor, abs=0.002)
        assert region.strong.mean() == pytest.approx(strong, abs=0.002)


def test_another_seed_gives_another_slide(positive):
    other = plan_slide("other", 8, her2_status="positive", width=2560, height=2048)
    pixels = [render_region(plan, 1000, 800, 256, 256).rgb for plan in (positive, other)]
    assert agree(*pixels) < 0.2


@settings(max_examples=15)
@given(
    x=st.integers(-100, 2400),
    y=st.integers(-100, 1900),
    cut=st.integers(1, 199),
    artefacts=st.booleans(),
)
def test_neighbouring_regions_join_without_a_seam(x, y, cut, artefacts):
    plan = plan_slide(
        "seam",
        7,
        her2_status="positive",
        width=2560,
        height=2048,
        artefacts=Artefacts(2, 1, 2, 10) if artefacts else None,
    )
    whole = render_region(plan, x, y, 200, 200)
    left = render_region(plan, x, y, cut, 200)
    right = render_region(plan, x + cut, y, 200 - cut, 200)
    for part in ("rgb", "tumor", "strong"):
        joined = np.concatenate([getattr(left, part), getattr(right, part)], axis=1)
        assert agree(joined, getattr(whole, part)) > 0.995


def test_40x_shows_the_same_region_as_4x(positive):
    low = render_region(positive, 1200, 900, 64, 64)
    high = render_region(positive, 12000, 9000, 640, 640, magnification=40.0)
    shrunk = high.rgb.reshape(64, 10, 64, 10, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - low.rgb).mean() < 14
    assert np.corrcoef(shrunk.ravel(), low.rgb.ravel())[0, 1] > 0.8
    assert agree(high.tumor[5::10, 5::10], low.tumor) > 0.97


def test_strong_tumor_lies_within_tumor_and_both_occur(positive):
    region = render_region(positive, 0, 0, 2560, 2048)
    assert not (region.strong & ~region.tumor).any()
    assert region.tumor.mean() > 0.05
    assert 0 < region.strong.sum() < region.tumor.sum()


def test_glass_is_background_and_tissue_is_not(positive):
    assert mean_saturation(render_region(positive, 0, 0, 128, 128).rgb) <= 10
    assert mean_saturation(render_region(positive, 1200, 900, 512, 512).rgb) > 20


def test_the_area_beyond_the_slide_is_background(positive):
    assert mean_saturation(render_region(positive, 5000, 5000, 128, 128).rgb) <= 10


@pytest.mark.slow
def test_ihc_is_brown_where_strong_and_blue_elsewhere(positive):
    region = render_region(positive, 0, 0, 2560, 2048)
    ihc = render_ihc_region(positive, 0, 0, 2560, 2048).astype(int)
    redness = ihc[..., 0] - ihc[..., 2]
    weak = region.tumor & ~region.strong
    assert redness[region.strong].mean() > redness[weak].mean() + 15


@pytest.mark.parametrize("kind", ["folds", "pen_marks", "blur_patches", "dust"])
def test_each_artefact_changes_the_pixels_and_not_the_truth(kind):
    size = {"her2_status": "positive", "width": 1536, "height": 1536}
    clean = plan_slide("a", 3, **size)
    spoiled = plan_slide("a", 3, **size, artefacts=Artefacts(**{kind: 3}))
    before, after = (render_region(plan, 0, 0, 1536, 1536) for plan in (clean, spoiled))
    assert not np.array_equal(before.rgb, after.rgb)
    assert np.array_equal(before.tumor, after.tumor)


@pytest.mark.slow
def test_strong_and_weak_differ_by_morphology_not_by_colour():
    """A logistic regression on mean and standard deviation of RGB has an AUROC below 0.75."""
    features, strong, slide = [], [], []
    for number in range(15):
        status = "positive" if number % 3 else "negative"
        plan = plan_slide(str(number), 500 + number, her2_status=status, width=2048, height=2048)
        for row in range(4):
            for column in range(4):
                region = render_region(plan, column * 512, row * 512, 512, 512)
                truth = tile_truth(
                    column,
                    row,
                    tumor=region.tumor,
                    strong=region.strong,
                    picture=region.rgb.copy,
                )
                if truth.tile_class in ("weak", "strong"):
                    pixels = region.rgb.reshape(-1, 3).astype(np.float32)
                    features.append(np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)]))
                    strong.append(truth.tile_class == "strong")
                    slide.append(number)
    assert 20 < sum(strong) < len(strong) - 20
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    p = cross_val_predict(
        model, features, strong, groups=slide, cv=GroupKFold(5), method="predict_proba"
    )[:, 1]
    assert roc_auc_score(strong, p) < 0.75
