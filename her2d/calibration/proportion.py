"""Shares of slides with 95 % intervals that never have zero width. Pure functions.

Slides of one patient are not independent. A share's number of slides is therefore divided by the
design effect of patients (Korn and Graubard 1998).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
"""Half the width of such an interval of a normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric and the limits of its 95 % interval; NaN if not defined."""

    value: float
    low: float
    high: float


NOT_DEFINED = Estimate(math.nan, math.nan, math.nan)


def proportion(found: NDArray[np.bool_], patient: NDArray[np.str_]) -> Estimate:
    """Estimate a share of slides with Wilson's interval (Wilson 1927).

    Args:
        found: whether each slide has what is counted, bool (S,).
        patient: the slide's patient, str (S,).
    """
    if not len(found):
        return NOT_DEFINED
    low, high = wilson(float(found.mean()), effective_slides(found, patient))
    return Estimate(float(found.mean()), low, high)


def wilson(share: float, slides: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share.

    Args:
        share: the observed share, 0 to 1.
        slides: the number of independent slides, not always an integer.
    """
    spread = Z**2 / slides
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / slides + spread / (4 * slides)) / (1 + spread)
    low = 0.0 if share <= 0 else max(middle - half, 0.0)
    high = 1.0 if share >= 1 else min(middle + half, 1.0)
    return low, high


def effective_slides(found: NDArray[np.bool_], patient: NDArray[np.str_]) -> float:
    """Return the number of independent slides that tell as much about the share.

    It lies between the number of patients and the number of slides; if all slides agree, how far a
    patient's are alike is not known, and it is the number of patients.
    """
    _, number = np.unique(patient, return_inverse=True)
    patients, slides = int(number.max()) + 1, len(found)
    if patients == slides:
        return float(slides)
    share = float(found.mean())
    if share in (0.0, 1.0) or patients < 2:
        return float(patients)
    # The variance of a ratio of patients' totals, relative to that of independent slides.
    of_patient = np.bincount(number, found - share)
    variance = patients / (patients - 1) * float((of_patient**2).sum()) / slides**2
    effective = share * (1 - share) / variance if variance > 0 else float(slides)
    return min(max(effective, float(patients)), float(slides))
