"""Evaluate a study's models on its test sets and write the report."""

from collections.abc import Callable, Mapping

from her2d import __version__
from her2d.bundle.loading import Bundle
from her2d.pipeline.rules import rules_of
from her2d.research.evaluation.annotated_share import annotated_shares
from her2d.research.evaluation.disagreement import disagreement_rows
from her2d.research.evaluation.figures import (
    agreement_figure,
    bland_altman_figure,
    calibration_figure,
    confusion_figure,
    heatmap_figure,
    risk_coverage_figure,
    roc_figure,
)
from her2d.research.evaluation.held_out import find_false_tumor, score_held_out
from her2d.research.evaluation.html import render
from her2d.research.evaluation.interval_calibration import calibrate_interval
from her2d.research.evaluation.least_tumor import limit_tumor
from her2d.research.evaluation.mil import MIL, MilPredictions
from her2d.research.evaluation.report import Report, SlidePrediction
from her2d.research.evaluation.slide_predictions import (
    IntegratorPrediction,
    PredictedSlide,
    integrator_prediction,
    misdiagnosis_of,
    predict_slides,
    slide_prediction,
    slide_rows,
    validated_slides,
    validation_rows,
)
from her2d.research.evaluation.tiles import (
    calibration_rows,
    classifier_rows,
    integrator_rows,
    segmenter_rows,
)
from her2d.research.training.candidate import describe_cohort, selected_files, write_candidate
from her2d.research.training.cohort import CohortSlide, Split
from her2d.research.training.mil import load_mil
from her2d.research.training.model_selection import read_selection
from her2d.research.training.out_of_fold import split_probabilities
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import Study, StudyError, recorded_commands, write_text

REPORT_FILE, PAGE_FILE = "report.json", "report.html"
_SETS = (Split.TEST, Split.EXTERNAL)
_HEATMAPS_EACH = 4

Progress = Callable[[str], None]


def evaluate(
    study: Study,
    recipe: Recipe,
    *,
    command: str | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Evaluate the selected models, and those they were selected from, on the test sets.

    Writes report.json and report.html into `study.evaluation`, and the evaluated bundle into
    `study.candidate`.

    Args:
        study: Study with selected models.
        recipe: The study's recipe.
        command: Command that trained the models, for the manifest; None takes the commands that
            the study recorded.
        progress: Called with a description of each step.

    Returns:
        The report.

    Raises:
        EncoderError, StudyError, FoldsError, FitError: Models are missing, or learned from slides
            that are not training slides now, or the cohort does not have test slides.
        SlideError: A test slide cannot be read.
        OSError: The study cannot be written.
    """
    selection, scores = read_selection(study)
    cohort = study.cohort()
    sets = tuple(split for split in _SETS if any(s.split is split for s in cohort))
    if not sets:
        raise StudyError("The cohort does not have slides in the splits test and external.")
    trained_mil = load_mil(study, recipe)
    mil = MilPredictions(study, trained_mil) if trained_mil is not None else None
    progress("exporting the selected models")
    models = selected_files(study)
    recorded = "; ".join(recorded_commands(study)) or "her2d train (arguments not recorded)"
    bundle = write_candidate(study, recipe, command=command or recorded)
    held_out = score_held_out(study, recipe, bundle, progress=progress)
    calibrated = calibrate_interval(
        bundle, held_out, evidence=recipe.integrator.interval_evidence, seed=recipe.seed
    )
    false_tumor = find_false_tumor(study, bundle, progress=progress)
    limited = limit_tumor(calibrated.bundle, held_out, false_tumor, seed=recipe.seed)
    bundle = limited.bundle
    progress("predicting test slides")
    cuts = {score.name: score.tile_cut for score in scores}
    predictions, own, heatmaps = _predictions(
        study, bundle, evaluation_slides(cohort), cuts, mil, progress
    )
    if mil is not None:
        mil.write_attention()
    progress("predicting test tiles")
    tiles = {split: split_probabilities(study, selection.classifier, split) for split in sets}
    misdiagnosis = misdiagnosis_of(own)
    report = Report(
        cohort=describe_cohort(cohort),
        code_version=__version__,
        seed=recipe.seed,
        bundle_digest=bundle.digest,
        models=models,
        segmenter=selection.segmenter,
        classifier=selection.classifier,
        integrator=selection.integrator,
        integrator_fitted_on=selection.integrator_fitted_on,
        overridden=selection.overridden,
        interval=calibrated.note,
        least_tumor=limited.note,
        segmenters=segmenter_rows(study, recipe, sets, selection.segmenter, progress),
        classifiers=classifier_rows(study, recipe, selection.classifier),
        integrators=integrator_rows(study, selection, scores, tiles),
        slides=slide_rows(predictions, selection.integrator),
        predictions=tuple(prediction for _, prediction in own),
        validation=validation_rows(
            [prediction for _, prediction in own], bundle.manifest.decision.threshold
        ),
        calibration=calibration_rows(study, selection.integrator, tiles),
        disagreement=disagreement_rows(
            {Split.INTEGRATOR: split_probabilities(study, selection.classifier, Split.INTEGRATOR)}
            | tiles
        ),
        misdiagnosis=misdiagnosis.tests,
        misdiagnosis_numbers=misdiagnosis.numbers,
        misdiagnosis_left_out=misdiagnosis.left_out,
    )
    figures = _figures(report, predictions[selection.integrator])
    page = render(report, figures=figures, heatmaps=heatmaps, share_figures=_share_figures(report))
    study.evaluation.mkdir(parents=True, exist_ok=True)
    write_text(study.evaluation / PAGE_FILE, page)
    write_text(study.evaluation / REPORT_FILE, report.model_dump_json(indent=1))
    return report


def evaluation_slides(cohort: list[CohortSlide]) -> list[CohortSlide]:
    """Return the slides that no model was trained, selected or fitted on."""
    return [slide for slide in cohort if slide.split in _SETS]


def read_report(study: Study) -> Report:
    """Read the report of the last evaluation.

    Raises:
        StudyError: The study is not evaluated, or the report is not valid.
    """
    try:
        return Report.model_validate_json((study.evaluation / REPORT_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise StudyError(f"{study.root} is not evaluated. Run `her2d evaluate` first.") from error


def _predictions(
    study: Study,
    bundle: Bundle,
    slides: list[CohortSlide],
    tile_cuts: Mapping[str, float],
    mil: MilPredictions | None,
    progress: Progress,
) -> tuple[
    dict[str, list[IntegratorPrediction]], list[tuple[CohortSlide, SlidePrediction]], list[str]
]:
    """Run each slide through the pipeline once, and draw heatmaps of some."""
    predictions: dict[str, list[IntegratorPrediction]] = {name: [] for name in tile_cuts}
    own: list[tuple[CohortSlide, SlidePrediction]] = []
    rules = rules_of(bundle)
    annotated = annotated_shares(study, slides)
    # Heatmaps of slides predicted wrong and right; pixels of other slides are not kept.
    heatmaps: dict[bool, list[str]] = {True: [], False: []}
    for found in predict_slides(bundle, slides):
        progress(found.slide.name)
        for name, cut in tile_cuts.items():
            predictions[name].append(
                integrator_prediction(study, name, found, tile_cut=cut, rules=rules)
            )
        if mil is not None:
            predictions.setdefault(MIL, []).append(mil.predict(found))
        own.append((found.slide, slide_prediction(found, annotated.get(found.slide.name))))
        drawn = heatmaps[_is_correct(found)]
        if len(drawn) < _HEATMAPS_EACH:
            drawn.append(heatmap_figure(found))
    return predictions, own, heatmaps[True] + heatmaps[False]


def _is_correct(found: PredictedSlide) -> bool:
    return found.outcome.score.her2_status.value == found.slide.her2_status.value


def _figures(report: Report, predictions: list[IntegratorPrediction]) -> list[str]:
    figures = []
    for row in report.slides:
        if row.selected:
            of_set = [prediction for prediction in predictions if prediction.set == row.set]
            figures.append(roc_figure(of_set, f"ROC of slides, {row.set}"))
            figures.append(confusion_figure(row.confusion, f"Slides, {row.set}"))
    figures += [
        calibration_figure(row.calibration, f"Calibration of tiles, {row.set}")
        for row in report.calibration
    ]
    return [figure for figure in figures if figure is not None]


def _share_figures(report: Report) -> list[str]:
    figures = []
    for row in report.validation:
        slides = validated_slides([p for p in report.predictions if p.set == row.set])
        for name, annotated in (("by tile", slides.by_tile), ("by area", slides.by_area)):
            title = f"P, annotated share {name}, {row.set}"
            figures.append(agreement_figure(slides, annotated, row.threshold_percent, title))
            figures.append(bland_altman_figure(slides, annotated, title))
        figures.append(risk_coverage_figure(row.risk_coverage, f"Risk and coverage, {row.set}"))
    return [figure for figure in figures if figure is not None]
