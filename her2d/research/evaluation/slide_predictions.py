"""Predict test slides with the bundle, as the daemon does, and with every integrator."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.api import Scorer
from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import CallCounts
from her2d.pipeline.evaluability import UnreadTiles, find_obstacle
from her2d.pipeline.outcome import SlideOutcome, TileClass
from her2d.pipeline.rules import PipelineRules
from her2d.pipeline.scoring import score_slide
from her2d.pipeline.tile_counts import TileCounts
from her2d.research.evaluation.annotated_share import AnnotatedShare
from her2d.research.evaluation.columns import MOST_LEVELS, is_column_of_numbers
from her2d.research.evaluation.misdiagnosis import (
    FeatureTest,
    GroupTests,
    LevelCounts,
    NumberTest,
    misdiagnosis_tests,
    number_test,
)
from her2d.research.evaluation.report import SlidePrediction, SlideRow, ValidationRow
from her2d.research.evaluation.share_validation import (
    ValidatedSlides,
    agreement,
    deferral,
    risk_coverage,
    sweep,
    tile_rule,
)
from her2d.research.evaluation.slides import SlidePredictions, slide_metrics
from her2d.research.evaluation.tiles import predict_strong
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.system.numerals import read_number

_UNTESTED = GroupTests(None, None)
_INDETERMINATE = Status.INDETERMINATE.value


@dataclass(frozen=True, slots=True)
class PredictedSlide:
    """A test slide and the pipeline's outcome, which does not hold the slide's pixels.

    Attributes:
        slide: The slide.
        outcome: The pipeline's outcome, some dozen bytes per tile.
    """

    slide: CohortSlide
    outcome: SlideOutcome


def predict_slides(bundle: Bundle, slides: Sequence[CohortSlide]) -> Iterator[PredictedSlide]:
    """Run slides through the bundle's pipeline, one after the other.

    A slide with so many unreadable tiles that the daemon would not record a result is predicted
    indeterminate, so that it does not end the evaluation.

    Args:
        bundle: The bundle.
        slides: The slides.

    Raises:
        SlideError: A slide cannot be read.
        EngineError: The bundle cannot be run.
    """
    with Scorer(bundle) as scorer:
        for slide in slides:
            yield PredictedSlide(slide, scorer.processor.pipeline.submit(slide.he_path).result())


def slide_prediction(found: PredictedSlide, annotated: AnnotatedShare | None) -> SlidePrediction:
    """Return the prediction of the bundle's own integrator.

    Args:
        found: The slide with the pipeline's outcome.
        annotated: The slide's annotated share; None if it is not known.
    """
    score = found.outcome.score
    return SlidePrediction(
        name=found.slide.name,
        patient=found.slide.patient,
        set=found.slide.split.value,
        true_status=found.slide.her2_status.value,
        predicted=score.her2_status.value,
        percent=score.high_expression_percent,
        borderline=score.borderline,
        ci_low=score.ci_low,
        ci_high=score.ci_high,
        ci_calibrated=score.ci_calibrated,
        annotated_by_tile=None if annotated is None else 100 * annotated.by_tile,
        annotated_by_area=None if annotated is None else 100 * annotated.by_area,
    )


@dataclass(frozen=True, slots=True)
class IntegratorPrediction:
    """Prediction of one slide by one integrator.

    Attributes:
        set: Test set of the slide.
        patient: The slide's patient.
        true_status: True HER2 status.
        predicted: Predicted HER2 status.
        fraction: P of equation 1, 0 to 1; NaN if it is not defined.
    """

    set: str
    patient: str
    true_status: str
    predicted: str
    fraction: float


def integrator_prediction(
    model: Any, found: PredictedSlide, *, tile_cut: float, rules: PipelineRules
) -> IntegratorPrediction:
    """Score a slide with another integrator of the study.

    Args:
        model: The integrator, see `load_model`.
        found: The slide with the pipeline's outcome.
        tile_cut: Probability above which the integrator calls a tile strong.
        rules: The bundle's rules for calling a slide.
    """
    outcome = found.outcome
    tumor = ~np.isnan(outcome.p_folds[..., 0])
    strong = predict_strong(model, outcome.p_folds[tumor]) > tile_cut
    counts = TileCounts(outcome.tumor_pixels[tumor].astype(np.int64), strong)
    unread = UnreadTiles(outcome.count(TileClass.UNREADABLE), outcome.unreadable_pixels)
    obstacle = find_obstacle(
        counts,
        outcome.quality,
        unread,
        rules.evaluable,
        scale=outcome.scale,
        threshold=rules.threshold,
    )
    score = score_slide(
        counts, obstacle=obstacle, threshold=rules.threshold, tile_cut=tile_cut, interval=None
    )
    percent = score.high_expression_percent
    return IntegratorPrediction(
        found.slide.split.value,
        found.slide.patient,
        found.slide.her2_status.value,
        score.her2_status.value,
        float("nan") if percent is None else percent / 100,
    )


def slide_rows(
    predictions: dict[str, list[IntegratorPrediction]], selected: str
) -> tuple[SlideRow, ...]:
    """Make Table S4, with a row for each integrator and test set.

    Args:
        predictions: Predictions by integrator.
        selected: Name of the bundle's integrator.
    """
    rows = []
    for integrator, found in predictions.items():
        for name in dict.fromkeys(prediction.set for prediction in found):
            of_set = [p for p in found if p.set == name]
            with_tumor = [p for p in of_set if p.true_status != _INDETERMINATE]
            known = [p for p in with_tumor if p.predicted != _INDETERMINATE]
            metrics = slide_metrics(
                SlidePredictions(
                    np.array([p.true_status == Status.POSITIVE for p in known], bool),
                    np.array([p.predicted == Status.POSITIVE for p in known], bool),
                    np.array([p.fraction for p in known], np.float64),
                    np.array([p.patient for p in known], str),
                ),
            )
            rows.append(
                SlideRow.of(
                    integrator,
                    selected=integrator == selected,
                    set_name=name,
                    metrics=metrics,
                    indeterminate=len(with_tumor) - len(known),
                    without_tumor=_count_without_tumor(of_set),
                )
            )
    return tuple(rows)


def validation_rows(
    predictions: Sequence[SlidePrediction], threshold: float
) -> tuple[ValidationRow, ...]:
    """Validate P of the bundle on each test set, on slides with a call and a HER2 status.

    Args:
        predictions: Predictions of the bundle's own integrator.
        threshold: P from which the bundle calls a slide positive.
    """
    rows = []
    for name in dict.fromkeys(prediction.set for prediction in predictions):
        slides = validated_slides([p for p in predictions if p.set == name])
        rows.append(
            ValidationRow(
                set=name,
                threshold_percent=100 * threshold,
                by_tile=agreement(slides, slides.by_tile, threshold),
                by_area=agreement(slides, slides.by_area, threshold),
                tile_rule=tile_rule(slides, threshold),
                risk_coverage=risk_coverage(slides, threshold),
                deferral=deferral(slides, threshold),
                sweep=sweep(slides),
            )
        )
    return tuple(rows)


def validated_slides(predictions: Sequence[SlidePrediction]) -> ValidatedSlides:
    """Return the slides with a call and a HER2 status as arrays."""
    known = [p for p in predictions if _INDETERMINATE not in (p.true_status, p.predicted)]

    def shares(name: str) -> NDArray[np.float64]:
        return np.array([getattr(p, name) for p in known], np.float64) / 100

    return ValidatedSlides(
        patient=np.array([p.patient for p in known], str),
        positive=np.array([p.true_status == Status.POSITIVE for p in known], bool),
        share=shares("percent"),
        low=shares("ci_low"),
        high=shares("ci_high"),
        by_tile=shares("annotated_by_tile"),
        by_area=shares("annotated_by_area"),
    )


def _count_without_tumor(predictions: Sequence[IntegratorPrediction]) -> CallCounts:
    predicted = Counter(p.predicted for p in predictions if p.true_status == _INDETERMINATE)
    return CallCounts(**{status.value: predicted[status.value] for status in Status})


@dataclass(frozen=True, slots=True)
class Misdiagnosis:
    """Tables 3 and 4.

    Attributes:
        tests: The tests of each feature of categories.
        numbers: The tests of each feature of numbers.
        left_out: A sentence for each feature without a test, with the reason.
    """

    tests: tuple[FeatureTest, ...]
    numbers: tuple[NumberTest, ...]
    left_out: tuple[str, ...]


def misdiagnosis_of(found: Sequence[tuple[CohortSlide, SlidePrediction]]) -> Misdiagnosis:
    """Make Tables 3 and 4 from a cohort's morphology columns, with a table for each test set.

    A column of which every value is a number, such as ages, is compared by its means if it has more
    than two different ones. A feature with the same level in all slides keeps its row without a
    test. Other columns with more than six levels are not categories and are left out.

    Args:
        found: Slides with the prediction of the bundle's integrator.
    """
    counts: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    is_number = _columns_of_numbers(found)
    for slide, prediction in found:
        outcome = _outcome(prediction)
        for feature, level in slide.morphology.items():
            if feature in is_number:
                continue
            cells = counts.setdefault((prediction.set, feature), {})
            if outcome and level:
                cells.setdefault(level, Counter())[outcome] += 1
    tests: list[FeatureTest] = []
    left_out: list[str] = []
    for (table, feature), cells in sorted(counts.items(), key=_place_of):
        levels = [
            LevelCounts(table, feature, level, fn=c["fn"], tp=c["tp"], fp=c["fp"], tn=c["tn"])
            for level, c in sorted(cells.items())
        ]
        if not levels:
            left_out.append(f"{feature} ({table}) has no values.")
        elif len(levels) == 1:
            left_out.append(f"{feature} ({table}) is {levels[0].level} in all slides.")
            tests.append(FeatureTest(table, feature, tuple(levels), _UNTESTED, _UNTESTED))
        elif len(levels) > MOST_LEVELS:
            left_out.append(f"{feature} ({table}) has {len(levels)} levels.")
        else:
            tests += misdiagnosis_tests(levels)
    return Misdiagnosis(tuple(tests), _number_tests(found, is_number), tuple(left_out))


def _place_of(item: tuple[tuple[str, str], object]) -> tuple[int, str]:
    """Sort by set, the test set first, and then by feature."""
    (set_name, feature), _ = item
    return [*Split].index(Split(set_name)), feature


def _columns_of_numbers(found: Sequence[tuple[CohortSlide, SlidePrediction]]) -> frozenset[str]:
    """Return the names of columns that hold nothing but numbers, more than two different ones."""
    columns: dict[str, set[str]] = {}
    for slide, _ in found:
        for feature, value in slide.morphology.items():
            columns.setdefault(feature, set()).add(value)
    return frozenset(f for f, values in columns.items() if is_column_of_numbers(values))


def _number_tests(
    found: Sequence[tuple[CohortSlide, SlidePrediction]], features: frozenset[str]
) -> tuple[NumberTest, ...]:
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for slide, prediction in found:
        for feature in features & slide.morphology.keys():
            value = read_number(slide.morphology[feature])
            if value is not None:
                cells = groups.setdefault((prediction.set, feature), {})
                cells.setdefault(_outcome(prediction) or "", []).append(value)
    return tuple(
        number_test(table, feature, cells, cells.get("", []))
        for (table, feature), cells in sorted(groups.items(), key=_place_of)
    )


def _outcome(prediction: SlidePrediction) -> str | None:
    match prediction.true_status, prediction.predicted:
        case "positive", "positive":
            return "tp"
        case "positive", "negative":
            return "fn"
        case "negative", "positive":
            return "fp"
        case "negative", "negative":
            return "tn"
    return None
