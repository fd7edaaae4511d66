"""What the send-to-IHC zone promises, as seeded simulations of laboratories with known errors.

P of a HER2-positive slide is spread over 0 to 1 as a Beta distribution, or it is one that the
networks miss by far: then P is almost 0. The sensitivity of a cut is known exactly.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import beta

from her2d.calibration.ihc_zone import find_ihc_cut

REPETITIONS = 400
THRESHOLD = 0.10


@dataclass(frozen=True)
class Laboratory:
    """How P of positive slides is distributed: `overlooked` of them are below 1 %."""

    overlooked: float
    a: float
    b: float

    def positives(self, rng: np.random.Generator, slides: int) -> np.ndarray:
        overlooked = rng.random(slides) < self.overlooked
        return np.where(overlooked, rng.uniform(0, 0.01, slides), rng.beta(self.a, self.b, slides))

    def sensitivity(self, cut: float) -> float:
        below = self.overlooked * min(cut / 0.01, 1.0)
        return 1 - below - (1 - self.overlooked) * float(beta.cdf(cut, self.a, self.b))


GOOD, HARD, BLIND = Laboratory(0, 2, 4), Laboratory(0.02, 1, 6), Laboratory(0.08, 1, 3)


def repeated(laboratory, wanted, slides):
    """The cuts of many laboratories, and the sensitivity that each really has."""
    cuts = [
        find_ihc_cut(
            laboratory.positives(np.random.default_rng(seed), slides),
            [f"P{n}" for n in range(slides)],
            wanted,
            THRESHOLD,
        )
        for seed in range(REPETITIONS)
    ]
    return cuts, np.array([laboratory.sensitivity(cut.share) for cut in cuts])


@pytest.mark.parametrize("laboratory", [GOOD, HARD, BLIND])
@pytest.mark.parametrize(("wanted", "slides"), [(0.95, 19), (0.95, 60), (0.9, 200), (0.99, 150)])
def test_the_wanted_sensitivity_is_reached_on_average_over_laboratories(laboratory, wanted, slides):
    _, reached = repeated(laboratory, wanted, slides)
    uncertainty = 3 * reached.std() / np.sqrt(REPETITIONS)
    assert reached.mean() >= wanted - uncertainty


@pytest.mark.parametrize("laboratory", [HARD, BLIND])
def test_the_zone_is_not_wider_than_that_needs(laboratory):
    """The excess of conformal risk control is 1 / (n + 1) at the most."""
    wanted, slides = 0.95, 200
    _, reached = repeated(laboratory, wanted, slides)
    assert reached.mean() <= wanted + 1 / (slides + 1) + 0.003


@pytest.mark.parametrize("laboratory", [GOOD, HARD, BLIND])
@pytest.mark.parametrize(("wanted", "slides"), [(0.95, 60), (0.9, 200)])
def test_the_stated_limit_is_exceeded_in_95_of_100_laboratories(laboratory, wanted, slides):
    cuts, reached = repeated(laboratory, wanted, slides)
    limits = np.array([cut.sensitivity_at_least for cut in cuts])
    assert np.mean(reached >= limits) >= 0.93
    assert limits.mean() > wanted - 0.1


def test_without_a_zone_the_wanted_sensitivity_is_not_reached_there():
    assert max(HARD.sensitivity(THRESHOLD), BLIND.sensitivity(THRESHOLD)) < 0.8


def test_patients_with_many_slides_are_not_counted_as_many_patients():
    """Ten slides of a patient have the same P: counted as slides, the zone would be too narrow."""
    wanted, patients = 0.9, 30
    reached = []
    for seed in range(REPETITIONS):
        rng = np.random.default_rng(seed)
        of_patient = HARD.positives(rng, patients)
        number = rng.choice([1, 10], patients)
        names = [f"P{n}" for n in np.repeat(np.arange(patients), number)]
        cut = find_ihc_cut(np.repeat(of_patient, number), names, wanted, THRESHOLD)
        reached.append(HARD.sensitivity(cut.share))
    assert np.mean(reached) >= wanted - 3 * np.std(reached) / np.sqrt(REPETITIONS)
