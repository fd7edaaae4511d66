"""What is claimed of P, on modelled sub-classifiers with known errors."""

import functools

import pytest
from modelled_scores import ModelledScores

from her2d.research.training.integrators import FittedIntegrator, fit_integrator
from her2d.research.training.slide_level import SlideLevel, slide_level

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
