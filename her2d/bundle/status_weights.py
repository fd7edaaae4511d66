"""Weigh HER2-positive and HER2-negative slides as often as a population has them. Pure functions.

Calibration slides may have more positive ones than the slides of a laboratory, so that there are
enough of either. If the two differ in that share only (label shift), a slide of a status stands for
as many slides of the population as its share there is larger (Podkopaev and Ramdas 2021,
"Distribution-free uncertainty quantification for classification under label shift").
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StatusWeights:
    """Weight of a slide by its true HER2 status."""

    positive: float = 1.0
    negative: float = 1.0

    @property
    def largest(self) -> float:
        """Largest weight, for a slide of unknown status."""
        return max(self.positive, self.negative)

    def of(self, *, positive: bool) -> float:
        """Return the weight of a slide of that status."""
        return self.positive if positive else self.negative


def status_weights(
    positive: Sequence[bool], patient: Sequence[int], prevalence: float
) -> StatusWeights:
    """Return the weights that give the slides a population's share of positive ones.

    Args:
        positive: each slide's true status; both occur.
        patient: each slide's patient; all patients weigh the same.
        prevalence: share of positive slides in the population, above 0 and below 1.

    Raises:
        ValueError: the slides are of one status.
    """
    if len(set(positive)) < 2:
        raise ValueError("slides of both HER2 statuses are needed to weigh them by prevalence")
    slides_of = Counter(patient)
    here = sum(
        1 / slides_of[number] for number, each in zip(patient, positive, strict=True) if each
    ) / len(slides_of)
    return StatusWeights(prevalence / here, (1 - prevalence) / (1 - here))


def patient_weights(
    patient: Sequence[int], positive: Sequence[bool], weights: StatusWeights
) -> list[float]:
    """Return each slide's weight, so that patients of one status weigh the same.

    Args:
        patient: each slide's patient.
        positive: each slide's true status; nothing if all count alike.
        weights: by status.
    """
    slides_of = Counter(patient)
    statuses = positive or (False,) * len(patient)
    return [
        weights.of(positive=each) / slides_of[number]
        for number, each in zip(patient, statuses, strict=True)
    ]


def has_finite_quantile(total: float, largest: float, coverage: float) -> bool:
    """Return whether slides have a quantile for one more: it alone may be over 1 - coverage.

    Args:
        total: weight of the slides together.
        largest: the most that the new slide may weigh.
        coverage: wanted share of new slides.
    """
    return total >= coverage * (total + largest) - 1e-9
