"""Test slides run through the bundle as the daemon runs it, and predicted by every integrator."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from her2d.api import Scorer
from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import CallCounts
from her2d.pipeline.outcome import SlideOutcome, TileClass
from her2d.pipeline.scoring import TileCounts, score_slide
from her2d.research.evaluation.misdiagnosis import (
    FeatureTest,
    GroupTests,
    LevelCounts,
    misdiagnosis_tests,
)
from her2d.research.evaluation.report import SlidePrediction, SlideRow
from her2d.research.evaluation.slides import SlidePredictions, slide_metrics
from her2d.research.evaluation.tiles import load_model, p_of
from her2d.research.training.cohort import CohortSlide, Status
from her2d.research.training.study import Study

_MOST_LEVELS = 6
_UNTESTED = GroupTests(None, None)
_WITHOUT_CALL = Status.INDETERMINATE.value


@dataclass(frozen=True, slots=True)
class PredictedSlide:
    """A test slide and what was found in it, without pixels: some dozen bytes a tile."""

    slide: CohortSlide
    outcome: SlideOutcome


def predict_slides(bundle: Bundle, slides: Sequence[CohortSlide]) -> Iterator[PredictedSlide]:
    """Run the bundle over `slides`, one after the other. Raises SlideError, EngineError."""
    with Scorer(bundle) as scorer:
        for slide in slides:
            yield PredictedSlide(slide, scorer.score(slide.he_path).outcome)


def slide_prediction(found: PredictedSlide) -> SlidePrediction:
    """The bundle's own call of a slide."""
    score = found.outcome.score
    return SlidePrediction(
        name=found.slide.name,
        patient=found.slide.patient,
        set=found.slide.split.value,
        true_status=found.slide.her2_status.value,
        predicted=score.her2_status.value,
        percent=score.high_expression_percent,
        borderline=score.borderline,
    )


@dataclass(frozen=True, slots=True)
class IntegratorPrediction:
    """How one integrator predicts one slide; `fraction` is P, NaN where there is none."""

    set: str
    true_status: str
    predicted: str
    fraction: float


def integrator_prediction(
    study: Study, name: str, found: PredictedSlide, *, seed: int
) -> IntegratorPrediction:
    """Score a slide's tumour tiles as if `name` were the bundle's integrator."""
    outcome = found.outcome
    tumor = ~np.isnan(outcome.p_folds[..., 0])
    strong = p_of(load_model(study, name), outcome.p_folds[tumor]) > 0.5
    score = score_slide(
        TileCounts(outcome.tumor_pixels[tumor].astype(np.int64), strong),
        tiles_unreadable=outcome.count(TileClass.UNREADABLE),
        unreadable_pixels=outcome.unreadable_pixels,
        seed=seed,
    )
    percent = score.high_expression_percent
    return IntegratorPrediction(
        found.slide.split.value,
        found.slide.her2_status.value,
        score.her2_status.value,
        float("nan") if percent is None else percent / 100,
    )


def slide_rows(
    predictions: dict[str, list[IntegratorPrediction]], selected: str, *, seed: int
) -> tuple[SlideRow, ...]:
    """Table S4: a row for each integrator and test set."""
    rows = []
    for integrator, found in predictions.items():
        for name in dict.fromkeys(call.set for call in found):
            of_set = [c for c in found if c.set == name]
            with_tumor = [c for c in of_set if c.true_status != _WITHOUT_CALL]
            known = [c for c in with_tumor if c.predicted != _WITHOUT_CALL]
            metrics = slide_metrics(
                SlidePredictions(
                    np.array([c.true_status == Status.POSITIVE for c in known], bool),
                    np.array([c.predicted == Status.POSITIVE for c in known], bool),
                    np.array([c.fraction for c in known], np.float64),
                ),
                seed=seed,
            )
            rows.append(
                SlideRow.of(
                    integrator,
                    selected=integrator == selected,
                    set_name=name,
                    metrics=metrics,
                    without_call=len(with_tumor) - len(known),
                    without_tumor=_calls_without_tumor(of_set),
                )
            )
    return tuple(rows)


def _calls_without_tumor(predictions: Sequence[IntegratorPrediction]) -> CallCounts:
    predicted = Counter(call.predicted for call in predictions if call.true_status == _WITHOUT_CALL)
    return CallCounts(**{status.value: predicted[status.value] for status in Status})


@dataclass(frozen=True, slots=True)
class Misdiagnosis:
    """Tables 3 and 4; `left_out` says in a sentence each which columns have no test, and why."""

    tests: tuple[FeatureTest, ...]
    left_out: tuple[str, ...]


def misdiagnosis_of(found: Sequence[tuple[CohortSlide, SlidePrediction]]) -> Misdiagnosis:
    """Tables 3 and 4 of a cohort's own morphology columns, a table for each test set.

    A feature that all slides share keeps its row, without a test. Columns of more than six levels,
    such as ages, are no categories and are left out.
    """
    counts: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    for slide, call in found:
        outcome = _outcome(call)
        for feature, level in slide.morphology.items():
            cells = counts.setdefault((call.set, feature), {})
            if outcome and level:
                cells.setdefault(level, Counter())[outcome] += 1
    tests: list[FeatureTest] = []
    left_out: list[str] = []
    for (table, feature), cells in sorted(counts.items()):
        levels = [
            LevelCounts(table, feature, level, fn=c["fn"], tp=c["tp"], fp=c["fp"], tn=c["tn"])
            for level, c in sorted(cells.items())
        ]
        if not levels:
            left_out.append(f"{table}, {feature}: no slide with a call has a value.")
        elif len(levels) == 1:
            left_out.append(f"{table}, {feature}: all slides are {levels[0].level}.")
            tests.append(FeatureTest(table, feature, tuple(levels), _UNTESTED, _UNTESTED))
        elif len(levels) > _MOST_LEVELS:
            left_out.append(f"{table}, {feature}: {len(levels)} levels are no categories.")
        else:
            tests += misdiagnosis_tests(levels)
    return Misdiagnosis(tuple(tests), tuple(left_out))


def _outcome(call: SlidePrediction) -> str | None:
    match call.true_status, call.predicted:
        case "positive", "positive":
            return "tp"
        case "positive", "negative":
            return "fn"
        case "negative", "positive":
            return "fp"
        case "negative", "negative":
            return "tn"
    return None
