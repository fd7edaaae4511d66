"""How well calls, P and its interval agree with IHC and FISH. Pure functions.

A slide that is equivocal by IHC, or that has no call, counts in no rate.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.calibration.proportion import Estimate, Z, proportion


@dataclass(frozen=True, slots=True)
class CalledSlides:
    """S slides with a call by one bundle, of which IHC and FISH are not equivocal.

    Attributes:
        patient: the slide's patient, str (S,).
        called: whether it is called positive, bool (S,).
        positive: whether it is by IHC and FISH, bool (S,).
        p: P of equation 1, float64 (S,), 0 to 1.
        low, high: the interval of P, float64 (S,).
        threshold: P from which the bundle calls a slide positive, float64 (S,).
        ihc_share: share of HER2-high tumour by IHC, float64 (S,); NaN where it is not known.
    """

    patient: NDArray[np.str_]
    called: NDArray[np.bool_]
    positive: NDArray[np.bool_]
    p: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    threshold: NDArray[np.float64]
    ihc_share: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.called)


@dataclass(frozen=True, slots=True)
class Bias:
    """A mean difference; NaN if not defined.

    Attributes:
        value: its mean, as a share.
        standard_error: of the mean, with patients as clusters; never 0.
        slides: number of slides.
    """

    value: float
    standard_error: float
    slides: int

    @property
    def estimate(self) -> Estimate:
        """The mean with its 95 % interval."""
        half = Z * self.standard_error
        return Estimate(self.value, self.value - half, self.value + half)

    def since(self, then: "Bias") -> "Bias":
        """Return how far this bias is from an earlier one of other slides."""
        error = math.hypot(self.standard_error, then.standard_error)
        return Bias(self.value - then.value, error, self.slides)


NO_BIAS = Bias(0.0, 0.0, 0)
"""What is expected of a bundle that was not calibrated on the laboratory's slides."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the slides say of a bundle.

    Attributes:
        sensitivity, specificity: of the calls.
        positive_predictive_value: share of the slides called positive that are.
        negative_predictive_value: share of the slides called negative that are.
        call_bias: share called positive minus share positive by IHC and FISH.
        share_bias: P minus the share by IHC, over slides whose share is known.
        covered: share of those slides whose interval holds the share by IHC.
        interval_agrees: share of slides whose interval holds the threshold, or lies on the side of
            it on which IHC and FISH are.
    """

    sensitivity: Estimate
    specificity: Estimate
    positive_predictive_value: Estimate
    negative_predictive_value: Estimate
    call_bias: Bias
    share_bias: Bias
    covered: Estimate
    interval_agrees: Estimate


def agreement(slides: CalledSlides) -> Agreement:
    """Compare calls, P and its interval with IHC and FISH."""
    called, positive, patient = slides.called, slides.positive, slides.patient
    known = ~np.isnan(slides.ihc_share)
    truth, low, high = slides.ihc_share[known], slides.low[known], slides.high[known]
    holds_threshold = (slides.low <= slides.threshold) & (slides.threshold <= slides.high)
    return Agreement(
        sensitivity=proportion(called[positive], patient[positive]),
        specificity=proportion(~called[~positive], patient[~positive]),
        positive_predictive_value=proportion(positive[called], patient[called]),
        negative_predictive_value=proportion(~positive[~called], patient[~called]),
        call_bias=call_bias(slides),
        share_bias=share_bias(slides),
        covered=proportion((low <= truth) & (truth <= high), patient[known]),
        interval_agrees=proportion(holds_threshold | (called == positive), patient),
    )


def call_bias(slides: CalledSlides) -> Bias:
    """Return the share called positive minus the share that is positive by IHC and FISH.

    The standard error is that of Bonett and Price (2012), with one more slide wrongly called
    positive and one wrongly called negative, so that it is never 0; patients are clusters.
    """
    if not len(slides):
        return Bias(math.nan, math.nan, 0)
    difference = slides.called.astype(float) - slides.positive
    _, error = _clustered_mean(
        np.append(difference, [1.0, -1.0]),
        np.append(_numbered(slides.patient), [-1, -2]),
    )
    return Bias(float(difference.mean()), error, len(slides))


def share_bias(slides: CalledSlides) -> Bias:
    """Return the mean of P minus the share by IHC; NaN for slides of fewer than two patients."""
    known = ~np.isnan(slides.ihc_share)
    number = int(known.sum())
    patient = slides.patient[known]
    if len(np.unique(patient)) < 2:
        return Bias(math.nan, math.nan, number)
    mean, error = _clustered_mean(slides.p[known] - slides.ihc_share[known], _numbered(patient))
    return Bias(mean, max(error, _LEAST_ERROR), number)


# A thousandth of a percentage point: no bias is known better than P is written.
_LEAST_ERROR = 1e-5


def _numbered(patient: NDArray[np.str_]) -> NDArray[np.int64]:
    return np.unique(patient, return_inverse=True)[1].astype(np.int64)


def _clustered_mean(values: NDArray[np.float64], cluster: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean and its standard error, which is that of a ratio of the clusters' sums."""
    mean = float(values.mean())
    _, number = np.unique(cluster, return_inverse=True)
    clusters = int(number.max()) + 1
    sums = np.bincount(number, values - mean)
    variance = clusters / (clusters - 1) * float((sums**2).sum()) / len(values) ** 2
    return mean, math.sqrt(variance)
