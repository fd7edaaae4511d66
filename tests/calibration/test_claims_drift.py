"""What the alert of a drift promises, as seeded simulations of laboratories.

A laboratory is calibrated on 300 slides. Of the next 500, each is compared with IHC and FISH.
"""

import numpy as np
import pytest

from her2d.calibration.agreement import CalledSlides
from her2d.calibration.drift import call_drift, share_drift
from her2d.calibration.site import measure_here

REPETITIONS = 100


def laboratory(rng, slides, *, sensitivity=0.9, specificity=0.95, offset=0.0) -> CalledSlides:
    positive = rng.random(slides) < 0.15
    called = rng.random(slides) < np.where(positive, sensitivity, 1 - specificity)
    share = np.where(positive, rng.beta(3, 3, slides), rng.beta(1, 40, slides))
    p = np.clip(share + offset + rng.normal(0, 0.04, slides), 0, 1)
    return CalledSlides(
        patient=np.char.add("P", np.arange(slides).astype(str)),
        called=called,
        positive=positive,
        p=p,
        low=np.clip(p - 0.1, 0, 1),
        high=np.clip(p + 0.1, 0, 1),
        threshold=np.full(slides, 0.1),
        ihc_share=share,
    )


def reported(drift_of, then=None, **now) -> float:
    """The share of laboratories in which the alert's condition holds."""
    found = []
    for seed in range(REPETITIONS):
        rng = np.random.default_rng(seed)
        calibrated = measure_here(laboratory(rng, 300, **(then or {})))
        drift = drift_of(laboratory(rng, 500, **now), calibrated)
        found.append(abs(drift.value) > 3 * drift.standard_error)
    return float(np.mean(found))


@pytest.mark.parametrize("drift_of", [call_drift, share_drift])
@pytest.mark.parametrize("steady", [{}, {"sensitivity": 0.6, "offset": 0.05}])
def test_a_laboratory_that_stays_as_it_was_is_not_reported(drift_of, steady):
    """Also if calls and P were biased at the calibration: that is known, and was signed."""
    assert reported(drift_of, then=steady, **steady) <= 0.02


@pytest.mark.parametrize(("sensitivity", "at_least"), [(0.4, 0.6), (0.3, 0.85)])
def test_a_sensitivity_that_falls_far_is_reported(sensitivity, at_least):
    """From 90 %, in a laboratory with 15 % positive slides. Small falls need more slides."""
    assert reported(call_drift, sensitivity=sensitivity) >= at_least


def test_twice_as_many_positive_calls_are_reported():
    assert reported(call_drift, specificity=0.80) >= 0.9


def test_two_points_more_of_p_are_reported():
    assert reported(share_drift, offset=0.02) >= 0.9
