"""What is claimed of P, on modelled sub-classifiers with known errors."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from modelled_scores import ModelledScores

from her2d.research.training.integrators import FittedIntegrator, fit_integrator
from her2d.research.training.slide_level import SlideLevel, slide_fractions, slide_level

SEEDS = (1, 2, 3, 4)
EVENLY_SPREAD = ModelledScores()


@functools.cache
def fitted(scores: ModelledScores, name: str, seed: int, weight: str) -> FittedIntegrator:
    """An integrator fitted on the 150 slides that were kept apart."""
    return fit_integrator(name, scores.cohort(150, seed), seed=seed, folds=3, class_weight=weight)


def measured(scores: ModelledScores, name: str, seed: int, *, weight: str = "none") -> SlideLevel:
    """The integrator with its tile cut on 300 other slides."""
    integrator = fitted(scores, name, seed, weight)
    other = scores.cohort(300, seed + 100)
    called = integrator.model.predict_proba(other.p)[:, 1] > integrator.score.tile_cut
    return slide_level(called, other.slide_tiles)


def test_the_model_is_of_12_percent_strong_tiles_and_of_auroc_0_95():
    found = fitted(EVENLY_SPREAD, "mean", 1, "none").score
    assert found.auroc == pytest.approx(0.95, abs=0.01)
    assert EVENLY_SPREAD.cohort(300, 1).strong.mean() == pytest.approx(0.12, abs=0.02)


@pytest.mark.parametrize("name", ["lr", "mean"])
@pytest.mark.parametrize("seed", SEEDS)
def test_p_is_not_biased_and_negative_slides_stay_negative(name, seed):
    found = measured(EVENLY_SPREAD, name, seed)
    assert abs(found.bias) < 2
    assert found.specificity > 0.9


def test_without_weights_p_of_negative_slides_is_lower_than_with_them_at_the_middle():
    # The defect that the tile cut mends: weighted tiles above 0.5 are several times too many.
    other = EVENLY_SPREAD.cohort(300, 101)
    truth = slide_fractions(other.slide_tiles, other.strong)
    weighted = fitted(EVENLY_SPREAD, "lr", 1, "balanced").model.predict_proba(other.p)[:, 1]
    percent = 100 * slide_fractions(other.slide_tiles, weighted > 0.5)
    assert np.mean(percent - 100 * truth) > 2
    assert abs(measured(EVENLY_SPREAD, "lr", 1).bias) < 2


@pytest.mark.slow
def test_a_forest_that_never_saw_the_five_disagree_is_too_cautious_and_its_p_is_biased():
    # One honest prediction five times, as without slides kept apart, against all five.
    scores = ModelledScores(fold_noise=1.0)
    tiles, other = scores.cohort(60, 1), scores.cohort(300, 101)
    repeated = replace(tiles, p=np.repeat(tiles.p[:, :1], 5, axis=1))
    found = {}
    for name, learned in (("apart", tiles), ("repeated", repeated)):
        forest = fit_integrator("rf", learned, seed=1, folds=3)
        p = forest.model.predict_proba(other.p)[:, 1]
        bias = slide_level(p > forest.score.tile_cut, other.slide_tiles).bias
        found[name] = (p > 0.5)[other.strong].mean(), bias
    assert found["apart"][0] > found["repeated"][0] + 0.1
    assert abs(found["apart"][1]) < 2 < abs(found["repeated"][1])
