"""High expression from the DAB stain of an IHC tile."""

import numpy as np
import pytest

from her2d.research.training.ihc import DAB_THRESHOLD, dab_density, high_expression

COLORS = {
    "background": (200, 200, 205),
    "1+": (210, 190, 168),
    "2+": (175, 135, 95),
    "3+": (120, 70, 35),
}
TUMOR = np.ones((512, 512), np.uint8)


def tile(stain: str) -> np.ndarray:
    return np.full((512, 512, 3), COLORS[stain], np.uint8)


@pytest.mark.parametrize(
    ("stain", "density"), [("background", 0.013), ("1+", 0.038), ("2+", 0.09), ("3+", 0.18)]
)
def test_each_scores_brown_has_a_density(stain, density):
    found = dab_density(tile(stain), um_per_px=2.5)
    assert found.mean() == pytest.approx(density, rel=0.15)


@pytest.mark.parametrize(
    ("stain", "high"), [("background", False), ("1+", False), ("2+", False), ("3+", True)]
)
def test_by_default_only_3_counts_as_high(stain, high):
    found = high_expression(tile(stain), TUMOR, um_per_px=2.5, threshold=DAB_THRESHOLD)
    assert found.all() == high
    assert found.any() == high


def test_brown_in_tumour_is_high_expression_and_blue_is_not():
    ihc = np.full((512, 512, 3), COLORS["background"], np.uint8)
    ihc[:, 256:] = COLORS["3+"]
    tumor = np.ones((512, 512), np.uint8)
    tumor[400:] = 0
    found = high_expression(ihc, tumor, um_per_px=2.5, threshold=DAB_THRESHOLD)
    assert found[:400, 300:].all()
    assert not found[:, :200].any()
    assert not found[400:].any()
