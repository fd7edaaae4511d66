"""Compare the bundle's calls with what IHC and FISH said since, for each scrape of /metrics.

Only the newest outcomes are read, so that a scrape takes as long after years as after a month.
"""

import math
from collections.abc import Iterator

from sqlite_utils import Database

from her2d.bundle.loading import Bundle
from her2d.calibration.agreement import Bias, CalledSlides
from her2d.calibration.drift import call_drift, share_drift
from her2d.calibration.proportion import Estimate, proportion
from her2d.monitoring.reading import DriftReading, IhcReading, PredictiveValue
from her2d.results.outcomes import compare_with_calls, count_outcomes, known_outcomes

NEWEST = 500
"""Outcomes that predictive values and drift are of."""


def read_ihc(db: Database, bundle: Bundle) -> IhcReading:
    """Read the outcomes and compare the newest with the calls of the bundle."""
    compared = compare_with_calls(db, known_outcomes(db, newest=NEWEST), bundle.digest)
    return IhcReading(
        outcomes={str(outcome): number for outcome, number in count_outcomes(db).items()},
        predictive_values=_predictive_values(compared.called),
        drifts=tuple(_drifts(compared.called, bundle)),
    )


def _predictive_values(slides: CalledSlides) -> tuple[PredictiveValue, ...]:
    called, positive, patient = slides.called, slides.positive, slides.patient
    return (
        _predictive_value(
            "positive", int(called.sum()), proportion(positive[called], patient[called])
        ),
        _predictive_value(
            "negative", int((~called).sum()), proportion(~positive[~called], patient[~called])
        ),
    )


def _predictive_value(call: str, slides: int, found: Estimate) -> PredictiveValue:
    if not slides:
        return PredictiveValue(call, 0)
    return PredictiveValue(call, slides, found.value, found.low, found.high)


def _drifts(slides: CalledSlides, bundle: Bundle) -> Iterator[DriftReading]:
    signed = bundle.calibration
    calibrated = None if signed is None else signed.content.measured
    by_name: dict[str, Bias] = {
        "calls": call_drift(slides, calibrated),
        "share": share_drift(slides, calibrated),
    }
    for name, drift in by_name.items():
        if not math.isnan(drift.value):
            yield DriftReading(name, drift.slides, drift.value, drift.standard_error)
