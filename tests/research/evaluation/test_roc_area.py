"""Areas under the ROC curve with intervals that have a width."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.research.evaluation.roc_area import auroc, auroc_estimate


def each(number: int) -> np.ndarray:
    return np.array([f"P{n}" for n in range(number)], str)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_auroc_is_the_chance_that_a_positive_scores_higher(positives, negatives, seed):
    score = np.random.default_rng(seed).integers(0, 5, positives + negatives) / 5
    high, low = score[:positives], score[positives:]
    pairs = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    positive = np.arange(len(score)) < positives
    found = auroc_estimate(positive, score, each(len(score)))
    assert auroc(positive, score) == pytest.approx(pairs.mean())
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low


def test_the_variance_of_an_area_is_delongs():
    """The textbook's formula: the variances of the placements, by class."""
    rng = np.random.default_rng(4)
    positive = np.arange(60) < 20
    score = rng.standard_normal(60) + positive
    placements = score[positive][:, None] > score[~positive]
    area = placements.mean()
    variance = placements.mean(axis=1).var(ddof=1) / 20 + placements.mean(axis=0).var(ddof=1) / 40
    half = 1.959964 * math.sqrt(variance) / (area * (1 - area))
    found = auroc_estimate(positive, score, each(60))
    limits = [1 / (1 + math.exp(-(math.log(area / (1 - area)) + sign * half))) for sign in (-1, 1)]
    assert [found.low, found.high] == pytest.approx(limits, rel=1e-6)


def test_the_same_slide_ten_times_says_no_more_of_the_area():
    rng = np.random.default_rng(4)
    positive = np.arange(60) < 20
    score = rng.standard_normal(60) + positive
    once = auroc_estimate(positive, score, each(60))
    often = auroc_estimate(*(np.repeat(a, 10) for a in (positive, score, each(60))))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_an_area_of_one_has_a_lower_limit():
    positive = np.arange(12) < 6
    found = auroc_estimate(positive, positive.astype(float), each(12))
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.5 < found.low < 0.9


def test_the_area_of_many_samples_lies_in_95_of_100_intervals():
    true = 0.760  # of standard normal scores one standard deviation apart
    hits = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        patient = np.repeat(each(60), 2)
        positive = np.repeat(np.arange(60) < 20, 2)
        score = 0.7 * np.repeat(rng.standard_normal(60), 2) + 0.714 * rng.standard_normal(120)
        found = auroc_estimate(positive, score + positive, patient)
        hits.append(found.low <= true <= found.high)
    assert 0.92 <= np.mean(hits) <= 0.98
