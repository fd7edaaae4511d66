"""What an evaluation found, as it is kept in report.json and shown in report.html."""

import math
from typing import Annotated, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

from her2d.bundle.manifest import CallCounts
from her2d.research.evaluation.calibration import Calibration
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.misdiagnosis import FeatureTest
from her2d.research.evaluation.slides import Estimate, SlideMetrics


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


Number: TypeAlias = Annotated[float | None, BeforeValidator(_known)]
"""A figure; None where it is not defined, for JSON has no NaN."""


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SegmenterRow(_Row):
    """Table S1: MIoU of one segmenter; `sets` maps test sets to theirs."""

    name: str
    selected: bool
    validation: Number
    sets: dict[str, Number]


class ClassifierRow(_Row):
    """Table S2: one classifier over its five folds."""

    name: str
    selected: bool
    auroc: tuple[Number, ...]
    sensitivity: tuple[Number, ...]
    mean_auroc: Number
    mean_sensitivity: Number


class TileFigures(_Row):
    """An integrator on a test set's tumour tiles."""

    tiles: int
    strong: int
    auroc: Number
    sensitivity: Number
    specificity: Number


class IntegratorRow(_Row):
    """Table S3: one integrator."""

    name: str
    selected: bool
    validation_auroc: Number
    validation_sensitivity: Number
    validation_specificity: Number
    sets: dict[str, TileFigures]


class Interval(_Row):
    """A figure and its 95 % bootstrap interval."""

    value: Number
    low: Number
    high: Number

    @classmethod
    def of(cls, estimate: Estimate) -> "Interval":
        return cls(value=estimate.value, low=estimate.low, high=estimate.high)


class SlideRow(_Row):
    """Table S4: slides of one test set as one integrator predicts them.

    Slides with a true status and without a call, such as those in which no tumour was found, are
    counted apart; `accuracy_of_all` takes them for wrong, all other figures leave them out. Slides
    without tumour are in none of these: `without_tumor` counts what they were called.
    """

    integrator: str
    selected: bool
    set: str
    confusion: Confusion
    without_call: int
    without_tumor: CallCounts
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    auroc: Interval
    accuracy_of_all: Number = None

    @classmethod
    def of(
        cls,
        integrator: str,
        *,
        selected: bool,
        set_name: str,
        metrics: SlideMetrics,
        without_call: int,
        without_tumor: CallCounts,
    ) -> "SlideRow":
        right = metrics.confusion.tp + metrics.confusion.tn
        slides = metrics.confusion.total + without_call
        return cls(
            integrator=integrator,
            selected=selected,
            set=set_name,
            confusion=metrics.confusion,
            without_call=without_call,
            without_tumor=without_tumor,
            accuracy_of_all=right / slides if slides else None,
            accuracy=Interval.of(metrics.accuracy),
            sensitivity=Interval.of(metrics.sensitivity),
            specificity=Interval.of(metrics.specificity),
            auroc=Interval.of(metrics.auroc),
        )


class SlidePrediction(_Row):
    """One test slide, as the bundle's own integrator predicts it."""

    name: str
    patient: str
    set: str
    true_status: str
    predicted: str
    percent: Number
    borderline: bool


class CalibrationRow(_Row):
    """Reliability of the selected integrator's p(strong) on a test set's tumour tiles."""

    set: str
    calibration: Calibration


class Report(_Row):
    """Everything that was measured, and of what."""

    cohort: str
    code_version: str
    seed: int
    bundle_digest: str
    models: dict[str, str] = {}
    """SHA-256 of the selection and of each selected model, by path within the study."""
    segmenter: str
    classifier: str
    integrator: str
    integrator_fitted_on: str
    overridden: tuple[str, ...]
    segmenters: tuple[SegmenterRow, ...]
    classifiers: tuple[ClassifierRow, ...]
    integrators: tuple[IntegratorRow, ...]
    slides: tuple[SlideRow, ...]
    predictions: tuple[SlidePrediction, ...]
    calibration: tuple[CalibrationRow, ...]
    misdiagnosis: tuple[FeatureTest, ...]
    misdiagnosis_left_out: tuple[str, ...] = ()
    """Which features have no test, and why."""

    def bundle_row(self, name: str) -> SlideRow | None:
        """The row of Table S4 of the bundle on a test set."""
        return next((row for row in self.slides if row.selected and row.set == name), None)
