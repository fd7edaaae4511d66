"""Areas under the ROC curve with 95 % intervals that never have zero width.

The variance of an area is that of patients (Obuchowski 1997, which is DeLong et al. 1988 where
each patient has one slide).
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from her2d.calibration.proportion import NOT_DEFINED, Estimate, Z

_NEARLY_0 = 1e-9


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
        half = Z * math.sqrt(variance) / (area * (1 - area))
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
        return (of - area) ** 2 - Z**2 * of * (1 - of) * spread / pairs

    # At 0 and at 1 the distance of such an area is 0 too, and that is not the limit.
    least, most = _NEARLY_0, 1 - _NEARLY_0
    low = 0.0 if area <= least else float(brentq(distance, least, min(area, most)))
    high = 1.0 if area >= most else float(brentq(distance, max(area, least), most))
    return low, high
