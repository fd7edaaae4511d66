"""Calibrate a bundle on a laboratory's own slides. Pure functions, and the writer of the file."""

import math
from pathlib import Path

import numpy as np
import tomli_w

from her2d.bundle.site_calibration import IhcZone, Measure, MeasuredHere, SiteCalibration
from her2d.calibration.agreement import Bias, CalledSlides, agreement
from her2d.calibration.ihc_zone import fewest_positive_patients, find_ihc_cut
from her2d.calibration.proportion import Estimate, proportion
from her2d.errors import Her2dError
from her2d.system.files import write_whole

_DIGITS = 4


class TooFewOutcomes(Her2dError):  # noqa: N818  reads as what it says
    """There are too few HER2-positive slides for the wanted sensitivity; the sentence says so."""


def find_ihc_zone(slides: CalledSlides, *, sensitivity: float, threshold: float) -> IhcZone:
    """Choose which slides are sent to IHC.

    Args:
        slides: the laboratory's.
        sensitivity: wanted share of HER2-positive slides that are called positive or sent.
        threshold: P from which the bundle calls a slide positive.

    Raises:
        TooFewOutcomes: there are too few HER2-positive patients for that.
    """
    share, patient = slides.p[slides.positive], slides.patient[slides.positive].tolist()
    patients, needed = len(set(patient)), fewest_positive_patients(sensitivity)
    if patients < needed:
        most = math.floor(1000 * patients / (patients + 1)) / 10
        enough = f" They are enough for {most:g} %." if patients else ""
        raise TooFewOutcomes(
            f"A sensitivity of {100 * sensitivity:g} % needs HER2-positive slides of {needed}"
            f" patients that the bundle has called, and there are {patients}.{enough}"
        )
    cut = find_ihc_cut(share, patient, sensitivity, threshold)
    sent = ~slides.called & (slides.p >= cut.share)
    return IhcZone(
        sensitivity=sensitivity,
        from_percent=_rounded_down(100 * cut.share),
        below_percent=round(100 * threshold, _DIGITS),
        positive_slides=cut.slides,
        positive_patients=cut.patients,
        sensitivity_at_least=_rounded_down(cut.sensitivity_at_least),
        sent=_required(proportion(np.asarray(sent, np.bool_), slides.patient)),
    )


def measure_here(slides: CalledSlides) -> MeasuredHere:
    """Measure how well the bundle did on the laboratory's slides.

    Raises:
        ValueError: there are no slides.
    """
    if not len(slides):
        raise ValueError("nothing can be measured without slides")
    found = agreement(slides)
    return MeasuredHere(
        sensitivity=_measure(found.sensitivity),
        specificity=_measure(found.specificity),
        positive_predictive_value=_measure(found.positive_predictive_value),
        negative_predictive_value=_measure(found.negative_predictive_value),
        call_bias_points=_required(_points(found.call_bias)),
        share_bias_points=_measure(_points(found.share_bias)),
        covered=_measure(found.covered),
        interval_agrees=_required(found.interval_agrees),
    )


def write_calibration(path: Path, calibration: SiteCalibration) -> None:
    """Write the file. Raises OSError."""
    heading = "# The calibration of a bundle on a laboratory's slides, by her2d calibrate.\n\n"
    text = tomli_w.dumps(calibration.model_dump(mode="json", exclude_none=True))
    write_whole(path, (heading + text).encode())


def _points(bias: Bias) -> Estimate:
    estimate = bias.estimate
    return Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high)


def _measure(estimate: Estimate) -> Measure | None:
    return None if math.isnan(estimate.value) else _required(estimate)


def _required(estimate: Estimate) -> Measure:
    value, low, high = (
        round(number, _DIGITS) for number in (estimate.value, estimate.low, estimate.high)
    )
    return Measure(value=value, low=low, high=high)


def _rounded_down(number: float) -> float:
    """Round down, so that a slide is rather sent than missed."""
    # What is added is less than P is stored with, and more than a float's error.
    return float(math.floor(number * 10**_DIGITS + 1e-6) / 10**_DIGITS)
