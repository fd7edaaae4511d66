"""Tables and the HTML page from predictions."""

import functools
import itertools
from pathlib import Path

import pytest

from her2d.bundle.manifest import (
    CallCounts,
    Manifest,
    Measured,
    Normalization,
    Part,
    Parts,
    Training,
)
from her2d.research.evaluation.calibration import Bin, Calibration
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.figures import (
    calibration_figure,
    confusion_figure,
    roc_figure,
)
from her2d.research.evaluation.html import render
from her2d.research.evaluation.misdiagnosis import LevelCounts, holm, misdiagnosis_tests
from her2d.research.evaluation.model_card import model_card
from her2d.research.evaluation.publish import split_metrics
from her2d.research.evaluation.reflex_testing import ReflexRow, RuleOut, StandardizedYield
from her2d.research.evaluation.report import (
    IntegratorRow,
    Report,
    SegmenterRow,
    SlidePrediction,
    SlideRow,
    TileMetrics,
)
from her2d.research.evaluation.report_figures import ReportFigures
from her2d.research.evaluation.rows import Interval
from her2d.research.evaluation.slide_predictions import (
    IntegratorPrediction,
    misdiagnosis_of,
    slide_rows,
    validation_rows,
)
from her2d.research.training.cohort import CohortSlide, Split, Status

# Each slide is of another patient.
PATIENTS = (f"P{number}" for number in itertools.count())
CALLS = ("positive", "negative", "negative")
INTERNAL = {("positive", "positive"): 16, ("positive", "negative"): 2}
INTERNAL |= {("negative", "positive"): 9, ("negative", "negative"): 88}


def predictions() -> list[IntegratorPrediction]:
    """The paper's internal test set, a slide without tumour, an indeterminate positive one."""
    found = [
        IntegratorPrediction(
            "test", next(PATIENTS), true, predicted, 0.3 if predicted == "positive" else 0.01
        )
        for (true, predicted), times in INTERNAL.items()
        for _ in range(times)
    ]
    benign = IntegratorPrediction(
        "test", next(PATIENTS), "indeterminate", "indeterminate", float("nan")
    )
    lost = IntegratorPrediction("test", next(PATIENTS), "positive", "indeterminate", float("nan"))
    return [*found, benign, lost]


@functools.cache
def rows_of_predictions(*others: IntegratorPrediction) -> tuple[SlideRow, ...]:
    """Rows with bootstrapped intervals, which take seconds."""
    return slide_rows({"rf": [*predictions(), *others]}, "rf")


def report(**changes) -> Report:
    return Report(
        **{
            "cohort": "a <b>cohort</b>",
            "code_version": "1",
            "seed": 1,
            "bundle_digest": "0" * 64,
            "models": {},
            "segmenter": "segnet",
            "classifier": "resnet50",
            "integrator": "rf",
            "integrator_fitted_on": "held-out slides",
            "overridden": (),
            "interval": "The interval of P is not calibrated.",
            "least_tumor": "A slide is called from 1 tumour tile on.",
            "segmenters": (),
            "classifiers": (),
            "integrators": (),
            "slides": rows_of_predictions(),
            "predictions": (),
            "validation": (),
            "calibration": (),
            "misdiagnosis": (),
            "misdiagnosis_left_out": (),
        }
        | changes
    )


def manifest(**changes) -> Manifest:
    part = Part(file="a.onnx", sha256="0" * 64, architecture="SegNet")
    return Manifest(
        name="ours",
        version="3",
        intended_use="Research only.",
        normalization=Normalization(mean=(0, 0, 0), std=(1, 1, 1)),
        parts=Parts(segmenter=part, classifiers=part, integrator=part),
        training=Training(cohort="531 slides", seed=5, code_version="1", command="her2d"),
        **changes,
    )


def test_the_papers_confusion_matrix_gives_its_accuracy():
    (row,) = report().slides
    assert row.confusion == Confusion(16, 2, 9, 88)
    assert round(row.accuracy.value, 4) == 0.9043
    assert row.selected


@pytest.mark.parametrize("prevalence", [None, 0.125])
def test_the_page_gives_what_a_rule_out_threshold_saves_in_the_stated_population_too(prevalence):
    here = Interval(value=0.5, low=0.4, high=0.6)
    there = StandardizedYield(saved=here, npv=Interval(value=0.97, low=0.9, high=0.99))
    stated = None if prevalence is None else there
    rule = RuleOut(
        threshold_percent=10.0,
        slides=116,
        patients=115,
        positive=39,
        saved=here,
        npv=here,
        note="Chosen.",
        prevalence=prevalence,
        standardized=stated,
    )
    row = ReflexRow(
        set="test",
        slides=57,
        not_tested=34,
        missed=3,
        saved=here,
        npv=here,
        found=here,
        standardized=stated,
    )
    page = render(report(rule_out=rule, reflex=(row,)), ReportFigures())
    beside = "0.500 (0.400 to 0.600); where 12.5 % are HER2-positive 0.970 (0.900 to 0.990)"
    assert page.count(beside) == (0 if prevalence is None else 2)
    assert "<td>34<td>0.500 (0.400 to 0.600)" in page


def test_a_metric_that_is_not_known_is_one_dash():
    (row,) = report().slides
    unknown = Interval(value=None, low=None, high=None)
    page = render(report(slides=(row.model_copy(update={"auroc": unknown}),)), ReportFigures())
    assert "(–" not in page
    assert "– (" not in page


def test_indeterminate_slides_are_counted_separately_and_benign_ones_are_not_counted():
    (row,) = report().slides
    assert row.indeterminate == 1


def benign_called_positive() -> Report:
    benign = [IntegratorPrediction("test", next(PATIENTS), "indeterminate", "positive", 1.0)] * 8
    return report(slides=rows_of_predictions(*benign))


def test_slides_without_tumour_are_counted_by_predicted_status():
    (row,) = benign_called_positive().slides
    assert row.without_tumor == CallCounts(positive=8, negative=0, indeterminate=1)
    assert row.confusion == Confusion(16, 2, 9, 88)


def test_the_page_shows_the_predictions_of_slides_without_tumour():
    page = render(benign_called_positive(), ReportFigures())
    assert "<th>slides without tumour predicted positive<th>negative<th>indeterminate" in page
    assert "<td>8<td>0<td>1" in page


def test_the_card_lists_the_predictions_of_slides_without_tumour():
    predicted = CallCounts(positive=8, negative=0, indeterminate=1)
    figures = Measured(
        cohort="here",
        slides=125,
        slides_positive=19,
        slides_without_tumor=9,
        calls_without_tumor=predicted,
        segmenter_miou=0.9,
        tile_auroc=0.9,
        slide_accuracy=0.9,
    )
    card = model_card(manifest(measured=figures))
    assert "of these predicted positive: 8, negative: 0, indeterminate, which is correct: 1" in card


def test_accuracy_is_also_given_with_indeterminate_slides_counted_as_wrong():
    (row,) = report().slides
    assert row.accuracy_of_all == pytest.approx((16 + 88) / (115 + 1))


def test_the_manifest_and_its_card_count_indeterminate_slides():
    figures = {"test": TileMetrics(tiles=9, strong=3, auroc=0.9, sensitivity=0.9, specificity=0.7)}
    integrator = IntegratorRow(
        name="rf",
        selected=True,
        validation_auroc=0.9,
        validation_sensitivity=0.9,
        validation_specificity=0.7,
        sets=figures,
    )
    segmenter = SegmenterRow(name="segnet", selected=True, validation=0.8, sets={"test": 0.8})
    found = split_metrics(report(segmenters=(segmenter,), integrators=(integrator,)), Split.TEST)
    assert found.slides_without_call == 1
    assert found.calls_without_tumor == CallCounts(positive=0, negative=0, indeterminate=1)
    assert found.slide_accuracy_of_all == pytest.approx(104 / 116)
    card = model_card(manifest(measured=found))
    assert "indeterminate slides, excluded below: 1" in card
    assert "slide accuracy, indeterminate counted as wrong: 0.8966" in card
    assert "slides whose interval of P holds" not in card


def test_the_card_gives_coverage_and_every_figure_of_slides_with_its_limits():
    measured = Measured(
        cohort="test",
        slides=80,
        slides_positive=20,
        segmenter_miou=0.8,
        slide_accuracy=0.9,
        slide_accuracy_ci_low=0.8,
        slide_accuracy_ci_high=0.95,
        slide_sensitivity=0.85,
        slide_sensitivity_ci_low=0.6,
        slide_sensitivity_ci_high=0.93,
        slide_auroc=0.88,
        interval_slides=77,
        interval_coverage=0.96,
        interval_coverage_ci_low=0.89,
        interval_coverage_ci_high=0.99,
    )
    card = model_card(manifest(measured=measured))
    assert "slide accuracy: 0.9000 (0.8000 to 0.9500)" in card
    assert "slide sensitivity: 0.8500 (0.6000 to 0.9300)" in card
    assert "slide AUROC: 0.8800\n" in card
    held = "slides whose interval of P holds the annotated share, of 77: 0.9600 (0.8900 to 0.9900)"
    assert held in card


def test_what_is_not_defined_is_null_in_json():
    rows = slide_rows(
        {"rf": [IntegratorPrediction("test", next(PATIENTS), "negative", "negative", 0.0)]}, "rf"
    )
    again = Report.model_validate_json(report(slides=rows).model_dump_json())
    assert again.slides[0].sensitivity.value is None
    assert again.slides[0].specificity.value == 1


def test_the_page_escapes_the_cohorts_description():
    page = render(report(), ReportFigures(slides=["<svg></svg>"]))
    assert "a &lt;b&gt;cohort" in page
    assert "0.9043" in page
    assert "<svg></svg>" in page


def test_figures_are_the_same_bytes_each_time():
    reliability = Calibration((Bin(0.2, 0.1, 5), Bin(0.8, 0.9, 5)), 0.1, 0.1)
    for draw in (
        lambda: roc_figure(predictions(), "ROC"),
        lambda: confusion_figure(Confusion(1, 2, 3, 4), "C"),
        lambda: calibration_figure(reliability, "R"),
    ):
        assert draw() == draw()
        assert draw().startswith("<svg")


def test_there_is_no_roc_of_one_class():
    assert (
        roc_figure(
            [IntegratorPrediction("test", next(PATIENTS), "negative", "negative", 0.0)], "ROC"
        )
        is None
    )


def predicted(
    number: int, true: str, call: str, **morphology: str
) -> tuple[CohortSlide, SlidePrediction]:
    slide = CohortSlide(
        name=str(number),
        patient=str(number),
        he_path=Path(),
        ihc_path=None,
        annotation_path=Path(),
        her2_status=Status(true),
        split=Split.TEST,
        morphology=morphology,
    )
    return slide, SlidePrediction(
        name=slide.name,
        patient=slide.patient,
        set="test",
        true_status=true,
        predicted=call,
        percent=None,
        borderline=False,
        ci_low=None,
        ci_high=None,
        ci_calibrated=None,
        annotated_by_tile=None,
        annotated_by_area=None,
    )


def test_morphology_columns_become_table_3():
    # Table 3's adenoid differentiation: FP 7 and 2, TN 27 and 61, P 0.014.
    cells = [("positive", "presence", 7), ("positive", "absence", 2)]
    cells += [("negative", "presence", 27), ("negative", "absence", 61)]
    found = [
        predicted(number, "negative", call, adenoid=level, age=str(number))
        for call, level, times in cells
        for number in range(times)
    ]
    (test,) = misdiagnosis_of(found).tests
    assert test.feature == "adenoid"
    assert test.negative.chi_square == pytest.approx(0.014, abs=0.001)
    assert test.positive.chi_square is None


def test_a_feature_that_all_slides_share_keeps_its_row_without_a_test():
    predictions = [predicted(n, "negative", c, mucinous="absence") for n, c in enumerate(CALLS)]
    found = misdiagnosis_of(predictions)
    (test,) = found.tests
    (level,) = test.levels
    assert (level.level, level.fp, level.tn) == ("absence", 1, 2)
    assert test.negative.chi_square is None
    assert found.left_out == ("mucinous (test) is absence in all slides.",)


def test_the_page_marks_a_p_value_that_is_estimated():
    levels = [LevelCounts("test", "grade", str(n), 40 + n, 60 - n, 0, 0) for n in range(6)]
    tests = tuple(misdiagnosis_tests(levels))
    page = render(report(misdiagnosis=tests), ReportFigures())
    assert f"≈ {tests[0].positive.fisher:.3f}" in page


def test_a_column_of_many_levels_is_reported_as_left_out():
    predictions = [predicted(n, "negative", "negative", block=f"B{n}") for n in range(7)]
    found = misdiagnosis_of(predictions)
    assert found.tests == ()
    assert found.left_out == ("block (test) has 7 levels.",)
    page = render(report(misdiagnosis_left_out=found.left_out), ReportFigures())
    assert "Features without a test: block (test) has 7 levels." in page


def ages() -> list[tuple[CohortSlide, SlidePrediction]]:
    """False positives are older; a slide without a call is 90, one without an age is left out."""
    calls = [("negative", 40 + n) for n in range(8)] + [("positive", 70 + n) for n in range(4)]
    found = [predicted(n, "negative", call, age=str(age)) for n, (call, age) in enumerate(calls)]
    lost = predicted(98, "negative", "indeterminate", age="90")
    return [*found, lost, predicted(99, "negative", "negative", age="")]


def test_a_column_of_numbers_is_compared_by_its_means():
    (test,) = misdiagnosis_of(ages()).numbers
    assert misdiagnosis_of(ages()).tests == ()
    assert (test.table, test.feature) == ("test", "age")
    assert (test.all.slides, test.fp.slides, test.tn.slides) == (13, 4, 8)
    assert (test.fp.mean, test.tn.mean) == (71.5, 43.5)
    assert test.fp.std == pytest.approx(1.291, abs=0.001)
    # The rank test of 4 against 8 that do not overlap: 2 of 495 orders are as extreme.
    assert test.negative == pytest.approx(2 / 495)
    assert test.positive is None


def test_the_page_shows_the_mean_age():
    page = render(report(misdiagnosis_numbers=misdiagnosis_of(ages()).numbers), ReportFigures())
    assert '<td class="text">age<td>' in page
    assert "71.500 ± 1.291" in page


def test_a_column_with_a_word_among_its_numbers_or_with_two_values_is_of_categories():
    for levels in (("1", "2", "x"), ("0", "1", "0")):
        slides = [predicted(n, "negative", CALLS[n], grade=levels[n]) for n in range(3)]
        assert misdiagnosis_of(slides).numbers == ()


def test_holm_adjusts_the_smallest_p_most_and_never_reverses_their_order():
    # Holm 1979: 0.01 x 3, 0.03 x 2, and 0.04 no less than the one before.
    assert holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_p_is_adjusted_for_all_features_of_a_table():
    slides = [
        (one.model_copy(update={"morphology": one.morphology | {"adenoid": level}}), prediction)
        for (one, prediction), level in zip(ages(), "ppppaaaappapaa", strict=True)
    ]
    found = misdiagnosis_of(slides)
    whole = report(misdiagnosis=found.tests, misdiagnosis_numbers=found.numbers)
    assert whole.holm_of("test", "age", "negative") == pytest.approx(4 / 495)
    assert whole.holm_of("test", "adenoid", "negative") == found.tests[0].negative.fisher
    assert whole.holm_of("test", "age", "positive") is None


def test_a_column_without_values_is_reported_as_left_out():
    found = misdiagnosis_of([predicted(1, "negative", "negative", age="")])
    assert found.left_out == ("age (test) has no values.",)


def test_the_page_shows_the_specificity_of_integrators_on_tiles():
    figures = TileMetrics(tiles=9, strong=3, auroc=0.9, sensitivity=0.8, specificity=0.6123)
    row = IntegratorRow(
        name="rf",
        selected=True,
        validation_auroc=0.9,
        validation_sensitivity=0.8,
        validation_specificity=0.7123,
        sets={"test": figures},
    )
    page = render(report(integrators=(row,)), ReportFigures())
    assert "<td>0.7123" in page
    assert "<td>0.6123" in page


def test_a_test_set_that_the_study_does_not_have_has_no_metrics():
    assert split_metrics(report(), Split.EXTERNAL) is None


def test_a_bundle_that_predicts_every_slide_correctly_has_a_wilson_interval():
    right = [
        IntegratorPrediction("test", next(PATIENTS), "negative", "negative", 0.01)
        for _ in range(27)
    ]
    right += [
        IntegratorPrediction("test", next(PATIENTS), "positive", "positive", 0.3) for _ in range(11)
    ]
    segmenter = SegmenterRow(name="segnet", selected=True, validation=0.9, sets={"test": 0.9})
    figures = TileMetrics(tiles=10, strong=4, auroc=0.9, sensitivity=0.8, specificity=0.7)
    integrator = IntegratorRow(
        name="rf",
        selected=True,
        validation_auroc=0.9,
        validation_sensitivity=0.8,
        validation_specificity=0.7,
        sets={"test": figures},
    )
    rows = slide_rows({"rf": right}, "rf")
    found = split_metrics(
        report(segmenters=(segmenter,), integrators=(integrator,), slides=rows), Split.TEST
    )
    assert found.slide_accuracy == 1
    # Wilson: n / (n + z^2) at the lower end.
    assert found.slide_accuracy_ci_low == pytest.approx(38 / (38 + 1.959964**2))
    assert found.slide_accuracy_ci_high == 1


def test_a_model_card_states_the_manifest():
    card = model_card(manifest())
    for said in ("# ours 3", "Research only.", "SegNet", "531 slides", "positive from 10 %"):
        assert said in card
    assert "Measured" not in card


def test_the_page_and_json_compare_p_with_the_annotated_share():
    found = [
        SlidePrediction(
            name=f"S{number}",
            patient=f"P{number}",
            set="test",
            true_status=true,
            predicted="positive" if percent >= 10 else "negative",
            percent=percent,
            borderline=False,
            ci_low=percent / 2,
            ci_high=min(2 * percent + 1, 100),
            ci_calibrated=True,
            annotated_by_tile=percent - 1.5,
            annotated_by_area=None if number == 0 else percent + 2,
        )
        for number, (percent, true) in enumerate(
            [(2.0, "negative"), (9.0, "negative"), (30.0, "positive"), (60.0, "positive")]
        )
    ]
    without = found[0].model_copy(update={"predicted": "indeterminate", "percent": None})
    (row,) = validation_rows([*found, without], 0.1)
    assert (row.by_tile.slides, row.by_area.slides) == (4, 3)
    assert row.by_tile.bias == pytest.approx(1.5)
    assert row.by_area.bias == pytest.approx(-2)
    assert row.tile_rule.other_status == 1
    made = report(validation=(row,))
    page = render(made, ReportFigures(shares=["<svg>agreement</svg>"]))
    assert "<td>by tile<td>4<td>+1.50<td>1.50" in page
    assert "puts 1 of 3 slides on the other side of 10 %" in page
    assert "<svg>agreement</svg>" in page
    assert Report.model_validate_json(made.model_dump_json()) == made
