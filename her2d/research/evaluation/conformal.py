"""Fit the calibration of the interval of P on slides that no model learned from. Pure functions.

The scale is a regression of the absolute residual on the evidence of doubt with weights that are
not negative. Each residual is divided by a scale that was fitted without the slide's patient, so
that residuals are as large as those of new slides.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from her2d.bundle.manifest import Interval, IntervalScale
from her2d.bundle.status_weights import has_finite_quantile, patient_weights, status_weights
from her2d.errors import Her2dError
from her2d.method import COVERAGE, FOLDS
from her2d.pipeline.conformal import EVIDENCE, call_of, scale_of, stabilized

# Of the mean residual: no slide's scale is so small that its residual decides everything.
_LEAST_BASE = 0.2
_DIGITS = 5


class TooFewSlidesError(Her2dError):
    """An interval cannot be calibrated; `str(error)` says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class CalibrationSlide:
    """A slide that no model learned from, with P and the annotated share.

    Attributes:
        patient: its patient.
        share: P of equation 1, 0 to 1.
        annotated: annotated share of HER2-high tumour, 0 to 1.
        is_positive: its true HER2 status.
        evidence: see `evidence_of_doubt`, float64 (3,).
    """

    patient: str
    share: float
    annotated: float
    is_positive: bool
    evidence: NDArray[np.float64]


def fewest_patients(coverage: float = COVERAGE) -> int:
    """Return the least number of patients that an interval of that coverage needs."""
    return math.ceil(round(coverage / (1 - coverage), 6))


def fit_interval(
    slides: Sequence[CalibrationSlide],
    threshold: float,
    *,
    evidence: Sequence[str] = EVIDENCE,
    prevalence: float | None = None,
    seed: int,
) -> Interval:
    """Calibrate the interval.

    Args:
        slides: of at least `fewest_patients()` patients.
        threshold: P from which the bundle calls a slide positive, 0 to 1.
        evidence: what may widen the interval, of `EVIDENCE`; the rest gets no weight.
        prevalence: share of HER2-positive slides among those that the coverage is for; None takes
            the share that these slides have.
        seed: of the groups of patients by which the scale is fitted.

    Raises:
        TooFewSlidesError: there are too few slides or patients.
    """
    names, patient = np.unique([slide.patient for slide in slides], return_inverse=True)
    if len(names) < fewest_patients():
        raise TooFewSlidesError(
            "that needs slides that were kept apart, with a known share and a call, of"
            f" {fewest_patients()} patients, and there are {len(names)}"
        )
    if prevalence is not None:
        _require_weights(slides, patient.tolist(), prevalence)
    residual = np.array([abs(stabilized(s.share) - stabilized(s.annotated)) for s in slides])
    measured = np.stack([slide.evidence for slide in slides]) * np.isin(EVIDENCE, list(evidence))
    weight = 1 / np.bincount(patient)[patient]
    fold = np.random.default_rng(seed).permutation(len(names))[patient] % FOLDS
    scaled = np.empty(len(slides))
    for held_out in (fold == number for number in range(FOLDS)):
        scale = _fit_scale(residual[~held_out], measured[~held_out], weight[~held_out])
        scaled[held_out] = residual[held_out] / scale_of(measured[held_out], scale)
    return Interval(
        slides=len(slides),
        patients=len(names),
        residuals=tuple(round(float(value), _DIGITS) for value in scaled),
        patient=tuple(patient.tolist()),
        call=tuple(call_of(slide.share, threshold) for slide in slides),
        positive=() if prevalence is None else tuple(slide.is_positive for slide in slides),
        prevalence=prevalence,
        scale=_fit_scale(residual, measured, weight),
    )


def _require_weights(
    slides: Sequence[CalibrationSlide], patient: list[int], prevalence: float
) -> None:
    """Raise TooFewSlidesError where the slides cannot be weighted to a prevalence."""
    positive = [slide.is_positive for slide in slides]
    if len(set(positive)) < 2:
        raise TooFewSlidesError(
            "slides of both HER2 statuses are needed to weigh them by a prevalence"
        )
    weights = status_weights(positive, patient, prevalence)
    total = sum(patient_weights(patient, positive, weights))
    if not has_finite_quantile(total, weights.largest, COVERAGE):
        raise TooFewSlidesError(
            f"{len(set(patient))} patients are too few to weigh slides by a prevalence of"
            f" {100 * prevalence:g} %"
        )


def _fit_scale(
    residual: NDArray[np.float64], evidence: NDArray[np.float64], weight: NDArray[np.float64]
) -> IntervalScale:
    root = np.sqrt(weight)
    design = np.column_stack([np.ones(len(residual)), evidence])
    found, _ = nnls(design * root[:, None], residual * root)
    least = _LEAST_BASE * float(np.average(residual, weights=weight))
    base = max(float(found[0]), least) or 1.0
    weights = {
        name: round(float(value), _DIGITS) for name, value in zip(EVIDENCE, found[1:], strict=True)
    }
    return IntervalScale(base=max(round(base, _DIGITS), 10**-_DIGITS), **weights)
