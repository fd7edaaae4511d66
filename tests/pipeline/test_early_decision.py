"""Tiles that are decided before all sub-classifiers have run have the class of all five."""

from types import SimpleNamespace

import numpy as np
import pytest
from forests import folds_and_labels, parameters, read, tiles_near
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from her2d.bundle.integrator import Integrator
from her2d.bundle.manifest import Interval, IntervalScale
from her2d.method import FOLDS, THRESHOLD
from her2d.pipeline.conformal import conformal_interval, nearness
from her2d.pipeline.early_decision import EarlyDecision, bundle_problem
from her2d.pipeline.interval import TumorTiles


def calibrated(**weights: float) -> Interval:
    return Interval(
        slides=20,
        patients=20,
        residuals=tuple(np.linspace(0.1, 2, 20)),
        patient=tuple(range(20)),
        scale=IntervalScale(base=0.02, **weights),
    )


def run_early(early: EarlyDecision, p: np.ndarray) -> SimpleNamespace:
    """What the pipeline learns of tiles, one sub-classifier after another."""
    found = SimpleNamespace(
        p_folds=np.full_like(p, np.nan),
        strong=np.zeros(len(p), bool),
        low=np.full(len(p), np.nan, np.float32),
        p_strong=np.full(len(p), np.nan, np.float32),
        ran=np.zeros(len(p), int),
    )
    left = np.arange(len(p))
    for ran, fold in enumerate(early.order, start=1):
        found.p_folds[left, fold] = p[left, fold]
        found.ran[left] = ran
        if ran < FOLDS:
            made = early.decide(found.p_folds[left], ran)
            decided = left[made.decided]
            found.strong[decided] = made.strong[made.decided]
            found.low[decided] = made.low[made.decided]
            found.p_strong[decided] = made.p_strong[made.decided]
            left = left[~made.decided]
    return found


@settings(max_examples=30, deadline=None)
@given(
    parameters,
    st.integers(0, 2**31),
    st.integers(2, 120),
    st.booleans(),
    st.one_of(st.floats(0.01, 0.99), st.integers(0, 2**31)),
    st.sampled_from([None, calibrated(), calibrated(near_cut=0.7)]),
)
def test_every_tile_has_the_class_that_all_five_sub_classifiers_give_it(
    chosen, seed, tiles, missing, cut, interval
):
    """Also at thresholds of the forest, and where a vote is exactly the tile cut."""
    p, strong = folds_and_labels(seed, tiles, missing)
    fitted = RandomForestClassifier(**chosen).fit(p, strong)
    near = tiles_near(fitted, p)
    probability = fitted.predict_proba(near)[:, 1]
    tile_cut = cut if isinstance(cut, float) else float(probability[cut % len(probability)])
    early = EarlyDecision(read(fitted), tile_cut, interval)
    found = run_early(early, near)

    decided = found.ran < FOLDS
    assert np.array_equal(found.strong[decided], probability[decided] > tile_cut)
    known = decided & ~np.isnan(found.p_strong)
    assert np.array_equal(found.p_strong[known], probability[known].astype(np.float32))
    if interval is not None and interval.scale.near_cut:
        nearer = nearness(probability[decided].astype(np.float32), tile_cut)
        assert np.array_equal(nearness(found.low[decided], tile_cut), nearer)


def test_the_most_important_sub_classifier_runs_first_and_alone_decides_what_only_it_affects():
    rng = np.random.default_rng(0)
    p = rng.random((500, FOLDS)).astype(np.float32)
    fitted = RandomForestClassifier(20, max_depth=1, max_features=None, random_state=0)
    early = EarlyDecision(read(fitted.fit(p, p[:, 3] > 0.5)), 0.5, None)
    found = run_early(early, p)
    assert early.order[0] == 3
    assert set(found.ran) == {1}
    assert np.array_equal(found.p_strong, fitted.predict_proba(p)[:, 1].astype(np.float32))


def test_the_calibrated_interval_is_the_same_to_the_last_bit():
    p, strong = folds_and_labels(4, 400, missing=False)
    fitted = RandomForestClassifier(50, max_depth=3, random_state=0).fit(p, strong)
    calibration = calibrated(few_tiles=0.01, near_cut=0.7)
    early = run_early(EarlyDecision(read(fitted), 0.4, calibration), p)
    probability = fitted.predict_proba(p)[:, 1].astype(np.float32)
    assert (early.ran < FOLDS).any()

    def interval(p_strong, p_folds):
        place, pixels = np.arange(len(p)), np.full(len(p), 30_000)
        tiles = TumorTiles(place, place, pixels, probability > 0.4, p_strong, p_folds)
        return conformal_interval(tiles, calibration, 0.4, THRESHOLD)

    least = np.where(early.ran < FOLDS, early.low, probability)
    assert interval(least, early.p_folds) == interval(probability, p)


def test_an_interval_that_rests_on_disagreement_needs_all_sub_classifiers():
    forest = read(RandomForestClassifier(2).fit(*folds_and_labels(1, 50, missing=False)))
    with pytest.raises(ValueError, match="how much the five sub-classifiers disagree"):
        EarlyDecision(forest, 0.5, calibrated(disagreement=0.1))


def test_it_is_said_why_a_bundle_needs_all_sub_classifiers():
    forest, other = SimpleNamespace(forest="a forest"), SimpleNamespace(forest=None)
    assert "not a random forest" in bundle_problem(other, None)
    assert "sub-classifiers disagree" in bundle_problem(forest, calibrated(disagreement=0.1))
    assert bundle_problem(forest, calibrated(near_cut=0.1)) is None
    assert bundle_problem(forest, None) is None


def test_the_bundles_integrator_is_a_forest_with_its_cut(color_bundle):
    integrator = Integrator(color_bundle)
    assert integrator.forest is not None
    assert integrator.tile_cut == 0.5
