"""Bounds of a forest's probability hold for all values of unknown features, to the last bit."""

import numpy as np
import pytest
from forests import folds_and_labels, parameters, read, tiles_near
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from her2d.bundle.forest_bounds import ForestBounds
from her2d.method import FOLDS


@settings(max_examples=20, deadline=None)
@given(
    parameters,
    st.integers(0, 2**31),
    st.integers(2, 120),
    st.booleans(),
    st.permutations(range(FOLDS)),
)
def test_the_probability_lies_within_the_bounds_which_close_as_more_is_known(
    chosen, seed, tiles, missing, order
):
    p, strong = folds_and_labels(seed, tiles, missing)
    fitted = RandomForestClassifier(**chosen).fit(p, strong)
    forest, near = read(fitted), tiles_near(fitted, p)
    probability = fitted.predict_proba(near)[:, 1]
    before = np.zeros(len(near)), np.ones(len(near))
    for known in range(FOLDS + 1):
        hidden = near.copy()
        hidden[:, order[known:]] = np.random.default_rng(seed).random((len(near), FOLDS - known))
        low, high = ForestBounds(forest, order[:known]).of(hidden)
        for below, above in ((before[0], low), (high, before[1]), (low, probability)):
            assert np.all(below <= above)
        assert np.all(probability <= high)
        before = low, high
    assert low.tobytes() == high.tobytes() == probability.tobytes()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, FOLDS - 1))
def test_each_bound_of_one_tree_is_reached_by_some_value_of_an_unknown_feature(seed, unknown):
    """So the bounds are exact: no narrower ones would hold."""
    p, strong = folds_and_labels(seed, 60, missing=False)
    fitted = RandomForestClassifier(1, bootstrap=False, random_state=0).fit(p, strong)
    known = [fold for fold in range(FOLDS) if fold != unknown]
    low, high = ForestBounds(read(fitted), known).of(p)
    thresholds = np.unique(fitted.estimators_[0].tree_.threshold).astype(np.float32)
    values = np.concatenate([np.linspace(0, 1, 5, dtype=np.float32), thresholds])
    values = np.concatenate([values, np.nextafter(values, np.float32(2))])
    reached = []
    for value in values:
        tiles = p.copy()
        tiles[:, unknown] = value
        reached.append(fitted.predict_proba(tiles)[:, 1])
    assert np.array_equal(low, np.min(reached, axis=0))
    assert np.array_equal(high, np.max(reached, axis=0))


def test_more_tiles_than_are_held_at_once_have_the_same_bounds(monkeypatch):
    p, strong = folds_and_labels(1, 300, missing=False)
    bounds = ForestBounds(read(RandomForestClassifier(7, random_state=0).fit(p, strong)), [1, 3])
    expected = bounds.of(p)
    monkeypatch.setattr("her2d.bundle.forest_bounds._MOST_AT_ONCE", 1000)
    assert np.array_equal(bounds.of(p), expected)
    assert [bound.shape for bound in bounds.of(p[:0])] == [(0,), (0,)]


@pytest.mark.parametrize("max_depth", [1, 2, 4, None])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_the_importance_of_the_features_is_scikit_learns(max_depth, weighted):
    p, strong = folds_and_labels(5, 400, missing=False)
    weight = np.random.default_rng(0).random(400) + 0.1 if weighted else None
    fitted = RandomForestClassifier(20, max_depth=max_depth, random_state=1)
    fitted.fit(p, strong, sample_weight=weight)
    assert read(fitted).feature_importances_ == pytest.approx(fitted.feature_importances_)


def test_a_forest_that_compares_nothing_has_no_important_features():
    p, strong = folds_and_labels(5, 40, missing=False)
    fitted = RandomForestClassifier(3, min_samples_leaf=30, random_state=1).fit(p, strong)
    assert read(fitted).feature_importances_.tolist() == [0.0] * FOLDS
    low, high = ForestBounds(read(fitted), [0]).of(p)
    assert low.tobytes() == high.tobytes() == fitted.predict_proba(p)[:, 1].tobytes()
