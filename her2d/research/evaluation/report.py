"""The report of an evaluation, as saved in report.json and shown in report.html."""

from enum import StrEnum

from pydantic import Field

from her2d.bundle.manifest import CallCounts
from her2d.method import TILE_CUT
from her2d.research.evaluation.calibration import Calibration
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.coverage import CoverageRow
from her2d.research.evaluation.decision_curve import DecisionCurve
from her2d.research.evaluation.misdiagnosis import FeatureTest, NumberTest, holm
from her2d.research.evaluation.participants import CharacteristicsTable, SetCounts
from her2d.research.evaluation.patients import PatientRow
from her2d.research.evaluation.references import ReferenceRow
from her2d.research.evaluation.reflex_testing import ReflexRow, RuleOut
from her2d.research.evaluation.rows import Interval, Number, Row
from her2d.research.evaluation.share_validation import (
    Agreement,
    Deferral,
    RiskPoint,
    SweepPoint,
    TileRule,
)
from her2d.research.evaluation.slides import SlideMetrics
from her2d.research.evaluation.subgroups import SubgroupRow
from her2d.research.training.slide_level import SlideLevel


class SegmenterRow(Row):
    """One segmenter in Table S1.

    Attributes:
        name: Name of the segmenter.
        selected: Whether the bundle contains it.
        validation: MIoU on the validation tiles.
        sets: MIoU by test set.
    """

    name: str
    selected: bool
    validation: Number
    sets: dict[str, Number]


class ClassifierRow(Row):
    """One classifier in Table S2.

    Attributes:
        name: Name of the classifier.
        selected: Whether the bundle contains it.
        auroc, sensitivity: Validation metrics of the five folds.
        mean_auroc, mean_sensitivity: Means over the folds.
    """

    name: str
    selected: bool
    auroc: tuple[Number, ...]
    sensitivity: tuple[Number, ...]
    mean_auroc: Number
    mean_sensitivity: Number


class TileMetrics(Row):
    """Metrics of an integrator on the tumour tiles of a test set.

    Attributes:
        tiles: Number of labelled tumour tiles.
        strong: Number of strong ones.
        auroc, sensitivity, specificity: The metrics, the last two at the integrator's tile cut.
        slides: What the calls of these tiles mean for their slides.
    """

    tiles: int
    strong: int
    auroc: Number
    sensitivity: Number
    specificity: Number
    slides: SlideLevel | None = None


class IntegratorRow(Row):
    """One integrator in Table S3.

    Attributes:
        name: Name of the integrator.
        selected: Whether the bundle contains it.
        validation_auroc, validation_sensitivity, validation_specificity: Cross-validated metrics.
        tile_cut: Probability above which the integrator calls a tile strong.
        validation_slides: What the cross-validated calls of tiles mean for their slides.
        sets: Metrics by test set.
    """

    name: str
    selected: bool
    validation_auroc: Number
    validation_sensitivity: Number
    validation_specificity: Number
    tile_cut: float = TILE_CUT
    validation_slides: SlideLevel | None = None
    sets: dict[str, TileMetrics]


class SlideRow(Row):
    """One integrator on one test set in Table S4.

    Attributes:
        integrator: Name of the integrator.
        selected: Whether the bundle contains it.
        set: Name of the test set.
        confusion: Slides with a true and a predicted status.
        indeterminate: Number of slides with a true status that are predicted indeterminate, for
            example because no tumour was found. Only `accuracy_of_all` includes them.
        without_tumor: Predictions of slides without tumour, which no other attribute includes.
        accuracy, sensitivity, specificity, auroc: The metrics.
        accuracy_of_all: Accuracy if indeterminate slides count as wrong.
    """

    integrator: str
    selected: bool
    set: str
    confusion: Confusion
    indeterminate: int
    without_tumor: CallCounts
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    auroc: Interval
    accuracy_of_all: Number

    @classmethod
    def of(
        cls,
        integrator: str,
        *,
        selected: bool,
        set_name: str,
        metrics: SlideMetrics,
        indeterminate: int,
        without_tumor: CallCounts,
    ) -> "SlideRow":
        """Make a row from the metrics of slides with a true and a predicted status."""
        correct = metrics.confusion.tp + metrics.confusion.tn
        slides = metrics.confusion.total + indeterminate
        return cls(
            integrator=integrator,
            selected=selected,
            set=set_name,
            confusion=metrics.confusion,
            indeterminate=indeterminate,
            without_tumor=without_tumor,
            accuracy_of_all=correct / slides if slides else None,
            accuracy=Interval.of(metrics.accuracy),
            sensitivity=Interval.of(metrics.sensitivity),
            specificity=Interval.of(metrics.specificity),
            auroc=Interval.of(metrics.auroc),
        )


class SlidePrediction(Row):
    """Prediction of one test slide by the bundle.

    Attributes:
        name, patient: Names of the slide and its patient.
        set: Name of the test set.
        true_status: True HER2 status.
        predicted: Predicted HER2 status.
        percent: Tumour tiles with high expression, in percent (P of equation 1).
        borderline: Whether the interval of P contains the threshold.
        ci_low, ci_high: Interval of P in percent.
        ci_calibrated: Whether the interval is calibrated.
        annotated_by_tile, annotated_by_area: Annotated share of HER2-high tumour in percent; None
            if it is not known.
    """

    name: str
    patient: str
    set: str
    true_status: str
    predicted: str
    percent: Number
    borderline: bool
    ci_low: Number
    ci_high: Number
    ci_calibrated: bool | None
    annotated_by_tile: Number
    annotated_by_area: Number


class ValidationRow(Row):
    """P of the bundle on the slides of a test set that have a call and a HER2 status.

    Attributes:
        set: Name of the test set.
        threshold_percent: The bundle's threshold.
        by_tile, by_area: P compared with the annotated share.
        tile_rule: The annotated shares compared with each other.
        risk_coverage: Wrong calls by how many slides are called.
        deferral: What borderline slides are worth.
        sweep: Metrics at other thresholds.
    """

    set: str
    threshold_percent: float
    by_tile: Agreement
    by_area: Agreement
    tile_rule: TileRule
    risk_coverage: tuple[RiskPoint, ...]
    deferral: Deferral
    sweep: tuple[SweepPoint, ...]


class CalibrationRow(Row):
    """Calibration of the selected integrator on the tumour tiles of a test set."""

    set: str
    calibration: Calibration


class DisagreementRow(Row):
    """Disagreement of the five sub-classifiers on the tumour tiles of a set of unseen slides.

    Attributes:
        set: Name of the set.
        tiles: Number of labelled tumour tiles.
        spread: Mean over the tiles of the standard deviation of the five probabilities.
        not_unanimous: Share of tiles that some of the five call strong, and others weak.
        not_unanimous_strong: The same of strong tiles.
    """

    set: str
    tiles: int
    spread: Number
    not_unanimous: Number
    not_unanimous_strong: Number


class TripodStatus(StrEnum):
    """Who answers a part of the TRIPOD+AI checklist."""

    STUDY = "from the study"
    IN_PART = "in part"
    AUTHORS = "by the authors"


class TripodRow(Row):
    """One part of the TRIPOD+AI checklist.

    Attributes:
        item: Its number in the checklist.
        section, topic: Where it stands in an article.
        applies: `D` if it is about the development of a model, `E` if about an evaluation, `D;E` if
            about both.
        asked: What is asked, in short.
        answer: What the study reports and where, and what is not reported and why.
        status: Who answers it.
    """

    item: str
    section: str
    topic: str
    applies: str
    asked: str
    answer: str
    status: TripodStatus


class Report(Row):
    """All results of an evaluation, and the models and cohort they belong to."""

    cohort: str
    code_version: str
    seed: int
    bundle_digest: str
    models: dict[str, str]
    """SHA-256 of model_selection.json and of each selected model, by path within the study."""
    mil_bundle_digest: str | None = None
    """Digest of the baseline that learns from slide labels as a bundle; None without one."""
    mil_bundle_problem: str = ""
    """Why that baseline cannot be a bundle, in one sentence; "" if it can, or there is none."""
    mil_models: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of that baseline's files, by path within the study."""
    segmenter: str
    classifier: str
    integrator: str
    integrator_fitted_on: str
    overridden: tuple[str, ...]
    interval: str
    """On what the bundle's interval of P is calibrated, or why it is not, in one sentence."""
    least_tumor: str
    """From how much tumour on the bundle calls a slide, and whether that is measured."""
    sets: tuple[SetCounts, ...] = ()
    table_1: CharacteristicsTable | None = None
    table_2: CharacteristicsTable | None = None
    references: tuple[ReferenceRow, ...] = ()
    segmenters: tuple[SegmenterRow, ...]
    classifiers: tuple[ClassifierRow, ...]
    integrators: tuple[IntegratorRow, ...]
    slides: tuple[SlideRow, ...]
    predictions: tuple[SlidePrediction, ...]
    patients: tuple[PatientRow, ...] = ()
    subgroups: tuple[SubgroupRow, ...] = ()
    validation: tuple[ValidationRow, ...]
    coverage: tuple[CoverageRow, ...] = ()
    rule_out: RuleOut | None = None
    reflex: tuple[ReflexRow, ...] = ()
    decision: tuple[DecisionCurve, ...] = ()
    calibration: tuple[CalibrationRow, ...]
    disagreement: tuple[DisagreementRow, ...] = ()
    misdiagnosis: tuple[FeatureTest, ...]
    misdiagnosis_numbers: tuple[NumberTest, ...] = ()
    misdiagnosis_left_out: tuple[str, ...]
    """A sentence for each feature without a test, with the reason."""
    tripod: tuple[TripodRow, ...] = ()

    def holm_of(self, table: str, feature: str, group: str) -> float | None:
        """Return P of a feature as adjusted for all features that its table compares.

        Fisher's P of categories and the rank test's of numbers are adjusted together.

        Args:
            table: Name of the test set.
            feature: Name of the feature.
            group: `positive` for FN and TP, `negative` for FP and TN.
        """
        tests = {
            test.feature: getattr(test, group).fisher
            for test in self.misdiagnosis
            if test.table == table
        } | {
            test.feature: getattr(test, group)
            for test in self.misdiagnosis_numbers
            if test.table == table
        }
        return dict(zip(tests, holm(list(tests.values())), strict=True))[feature]

    def bundle_row(self, name: str) -> SlideRow | None:
        """Return the bundle's row of Table S4 for the test set `name`, or None."""
        return next((row for row in self.slides if row.selected and row.set == name), None)
