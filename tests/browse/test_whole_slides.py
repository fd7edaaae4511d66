"""Pages of slides that a bundle calls as a whole: they show no share of HER2-high tumour."""

import re

import cv2
import numpy as np
import pytest
from mil_bundles import expected

from her2d.pipeline.scoring import NO_INTERVAL


def test_the_list_shows_probabilities_and_neither_shares_nor_gauges(weighed_site):
    page = weighed_site.get("/").text
    assert f"p {expected('SSwwsS'.replace('s', ''))[0]:.3f}" in page
    assert '<svg class="gauge' not in page
    assert not re.search(r"\d\.\d %", page)


def test_the_page_of_a_slide_says_its_probability_and_that_there_is_no_interval(weighed_site):
    page = weighed_site.get("/slides/positive.tif").text
    assert "probability of HER2-positive" in page
    assert NO_INTERVAL in page
    assert "HER2-high" not in page
    assert '<svg class="gauge' not in page


def test_a_slide_without_a_call_has_no_probability(weighed_site):
    page = weighed_site.get("/slides/id:3").text
    assert "HER2 indeterminate" in page
    assert "probability of HER2-positive" not in page


def test_tiles_have_their_attention(weighed_site):
    rows = weighed_site.get("/pictures/1/tiles.json").json()
    weights = {tuple(row[:2]): row[5] for row in rows if row[2] == "tumor"}
    assert sum(weights.values()) == pytest.approx(1, abs=0.01)
    assert all(row[3] is None for row in rows)
    assert all(row[5] is None for row in rows if row[2] == "non_tumor")


def test_the_overlay_is_drawn_by_attention(weighed_site):
    response = weighed_site.get("/pictures/1/overlay.png")
    assert response.status_code == 200
    found = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
    side = found.shape[1] // 4
    strong, weak = (found[side // 2, side // 2 + at * side] for at in (0, 2))
    assert strong[2] > strong[0]  # brown: OpenCV has blue first
    assert weak[0] > weak[2]
