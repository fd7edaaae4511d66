"""Shares of slides and areas under the ROC curve with 95 % intervals that never have zero width.

Slides of one patient are not independent. A share's number of slides is therefore divided by the
design effect of patients (Korn and Graubard 1998), and the variance of an area is that of patients
(Obuchowski 1997, which is DeLong et al. 1988 where each patient has one slide).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

_CONFIDENCE = 0.95
_NEARLY_0 = 1e-9
_Z = float(norm.ppf(0.5 + _CONFIDENCE / 2))


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
        found: Whether each slide has what is counted, bool (S,).
        patient: The slide's patient, str (S,).
    """
    if not len(found):
        return NOT_DEFINED
    low, high = wilson(float(found.mean()), effective_slides(found, patient))
    return Estimate(float(found.mean()), low, high)


def wilson(share: float, slides: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share.

    Args:
        share: The observed share, 0 to 1.
        slides: The number of independent slides, not always an integer.
    """
    spread = _Z**2 / slides
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / slides + spread / (4 * slides)) / (1 + spread)
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


def auroc(positive: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """Compute the area under the ROC curve.

    Args:
        positive: True class, bool (N,).
        score: Score that is higher for the positive class, float (N,).

    Returns:
        The area, or NaN if only one class is present.
    """
    if positive.all() or not positive.any():
        return math.nan
    return float(roc_auc_score(positive, score))


def auroc_estimate(
    positive: NDArray[np.bool_], score: NDArray[np.floating], patient: NDArray[np.str_]
) -> Estimate:
    """Estimate the area under the ROC curve of slides, with patients as clusters.

    Where the variance is not defined or 0, as it is for an area of 1, the interval is Newcombe's
    (2006, method 5), which is Wilson's for an area.

    Args:
        positive: True class, bool (S,).
        score: Score that is higher for the positive class, float (S,).
        patient: The slide's patient, str (S,).
    """
    area = auroc(positive, score)
    if math.isnan(area):
        return NOT_DEFINED
    variance = _auroc_variance(positive, score, patient, area)
    if 0 < area < 1 and variance > 0:
        half = _Z * math.sqrt(variance) / (area * (1 - area))
        return Estimate(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)))
    positives, negatives = (len(np.unique(patient[of])) for of in (positive, ~positive))
    return Estimate(area, *_newcombe(area, positives, negatives))


def _auroc_variance(
    positive: NDArray[np.bool_],
    score: NDArray[np.floating],
    patient: NDArray[np.str_],
    area: float,
) -> float:
    """Return Obuchowski's variance, or NaN if one class is of one patient only."""
    high, low = score[positive], score[~positive]
    above = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    _, number = np.unique(patient, return_inverse=True)
    patients = int(number.max()) + 1
    of_class = [number[positive], number[~positive]]
    terms = [above.mean(axis=1) - area, above.mean(axis=0) - area]
    by_patient = [
        np.bincount(which, term, minlength=patients) / len(term)
        for which, term in zip(of_class, terms, strict=True)
    ]
    variance = 0.0
    for which, sums in zip(of_class, by_patient, strict=True):
        clusters = len(np.unique(which))
        if clusters < 2:
            return math.nan
        variance += clusters / (clusters - 1) * float((sums**2).sum())
    covariance = patients / (patients - 1) * float((by_patient[0] * by_patient[1]).sum())
    return variance + 2 * covariance


def _newcombe(area: float, positives: int, negatives: int) -> tuple[float, float]:
    pairs = positives * negatives
    more = (positives + negatives) / 2 - 1

    def distance(of: float) -> float:
        spread = 1 + more * (1 - of) / (2 - of) + more * of / (1 + of)
        return (of - area) ** 2 - _Z**2 * of * (1 - of) * spread / pairs

    # At 0 and at 1 the distance of such an area is 0 too, and that is not the limit.
    least, most = _NEARLY_0, 1 - _NEARLY_0
    low = 0.0 if area <= least else float(brentq(distance, least, min(area, most)))
    high = 1.0 if area >= most else float(brentq(distance, max(area, least), most))
    return low, high
