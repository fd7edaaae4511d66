"""Evaluate a study's models on its test sets and write the report."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from her2d import __version__
from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import BundleError, Interval
from her2d.inference.engine import EngineError
from her2d.pipeline.rules import rules_of
from her2d.research.evaluation.annotated_share import annotated_shares
from her2d.research.evaluation.coverage import CoverageRow, coverage_rows
from her2d.research.evaluation.decision_curve import decision_curve, fit_status_probability
from her2d.research.evaluation.disagreement import disagreement_rows
from her2d.research.evaluation.held_out import find_false_tumor, held_out_calls, score_held_out
from her2d.research.evaluation.html import render
from her2d.research.evaluation.interval_calibration import calibrate_interval
from her2d.research.evaluation.least_tumor import limit_tumor
from her2d.research.evaluation.mil import MIL, MilPredictions
from her2d.research.evaluation.participants import set_counts, table_1, table_2
from her2d.research.evaluation.patients import patient_row
from her2d.research.evaluation.pdf import write_pdf
from her2d.research.evaluation.references import reference_rows
from her2d.research.evaluation.reflex_testing import choose_rule_out, reflex_row
from her2d.research.evaluation.report import Report, SlidePrediction
from her2d.research.evaluation.report_figures import report_figures
from her2d.research.evaluation.slide_pictures import SlidePictures
from her2d.research.evaluation.slide_predictions import (
    IntegratorPrediction,
    integrator_prediction,
    misdiagnosis_of,
    predict_slides,
    slide_prediction,
    slide_rows,
    validated_slides,
    validation_rows,
)
from her2d.research.evaluation.subgroups import subgroup_rows
from her2d.research.evaluation.tiles import (
    calibration_rows,
    classifier_rows,
    integrator_rows,
    load_model,
    segmenter_rows,
)
from her2d.research.evaluation.tripod import tripod_rows
from her2d.research.training.candidate import describe_cohort, selected_files, write_candidate
from her2d.research.training.cohort import CohortSlide, Split
from her2d.research.training.encoders import EncoderError
from her2d.research.training.mil import load_mil, mil_files
from her2d.research.training.mil_candidate import write_mil_candidate
from her2d.research.training.model_selection import read_selection, recipe_as_trained
from her2d.research.training.out_of_fold import split_probabilities
from her2d.research.training.recipe import Recipe
from her2d.research.training.study import (
    Study,
    StudyError,
    hold_folder,
    recorded_commands,
    write_text,
)

REPORT_FILE, PAGE_FILE, PDF_FILE = "report.json", "report.html", "report.pdf"
_SETS = (Split.TEST, Split.EXTERNAL)

Found = TypeVar("Found")
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
    `study.candidate`. `write_report_pdf` makes report.pdf from them.

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
    with hold_folder(study.evaluation):
        return _evaluate(study, recipe, command, progress)


def _evaluate(study: Study, recipe: Recipe, command: str | None, progress: Progress) -> Report:
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
        bundle,
        held_out,
        evidence=recipe.integrator.interval_evidence,
        prevalence=recipe.integrator.prevalence,
        seed=recipe.seed,
    )
    false_tumor = find_false_tumor(study, bundle, progress=progress)
    limited = limit_tumor(calibrated.bundle, held_out, false_tumor, seed=recipe.seed)
    bundle = limited.bundle
    mil_digest, mil_problem = None, ""
    if trained_mil is not None:
        progress("exporting the baseline that learns from slide labels")
        try:
            mil_digest = write_mil_candidate(study, trained_mil, bundle).digest
        except (EncoderError, EngineError, BundleError) as error:
            # It is evaluated all the same: some encoders cannot be part of a bundle.
            mil_problem = str(error)
    progress("predicting test slides")
    cuts = {score.name: score.tile_cut for score in scores}
    predictions, own, pictures = _predictions(
        study, bundle, evaluation_slides(cohort), cuts, mil, progress
    )
    if mil is not None:
        mil.write_attention()
    progress("predicting test tiles")
    tiles = {split: split_probabilities(study, selection.classifier, split) for split in sets}
    misdiagnosis = misdiagnosis_of(own)
    decision = bundle.manifest.decision
    of_sets = {split.value: [p for _, p in own if p.set == split.value] for split in sets}
    held_out_p = held_out_calls(held_out, decision)
    prevalence = recipe.integrator.prevalence
    rule_out = choose_rule_out(held_out_p, decision.threshold, prevalence=prevalence)
    probability = fit_status_probability(held_out_p, prevalence=prevalence)
    slides = slide_rows(predictions, selection.integrator)
    segmenters = segmenter_rows(study, recipe, sets, selection.segmenter, progress)
    classifiers = classifier_rows(study, recipe, selection.classifier)
    report = Report(
        cohort=describe_cohort(cohort),
        code_version=__version__,
        seed=recipe.seed,
        bundle_digest=bundle.digest,
        models=models,
        mil_bundle_digest=mil_digest,
        mil_bundle_problem=mil_problem,
        mil_models=mil_files(study),
        segmenter=selection.segmenter,
        classifier=selection.classifier,
        integrator=selection.integrator,
        integrator_fitted_on=selection.integrator_fitted_on,
        overridden=selection.overridden,
        interval=calibrated.note,
        least_tumor=limited.note,
        sets=set_counts(cohort),
        table_1=table_1(cohort),
        table_2=table_2(cohort),
        references=reference_rows(
            [
                *(("segmenter", row.name) for row in segmenters),
                *(("classifier", row.name) for row in classifiers),
                *(
                    ("baseline" if name == MIL else "integrator", name)
                    for name in dict.fromkeys(row.integrator for row in slides)
                ),
            ]
        ),
        segmenters=segmenters,
        classifiers=classifiers,
        integrators=integrator_rows(study, selection, scores, tiles),
        slides=slides,
        predictions=tuple(prediction for _, prediction in own),
        patients=tuple(patient_row(name, of) for name, of in of_sets.items()),
        subgroups=subgroup_rows(own),
        validation=validation_rows([prediction for _, prediction in own], decision.threshold),
        coverage=tuple(_coverage(of_sets, bundle.manifest.interval)),
        rule_out=rule_out,
        reflex=_known(reflex_row(name, of, rule_out) for name, of in of_sets.items()),
        decision=_known(
            decision_curve(name, of, probability, prevalence=prevalence)
            for name, of in of_sets.items()
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
    trained_by = recipe_as_trained(study, recipe, selection)
    report = report.model_copy(update={"tripod": tripod_rows(report, trained_by)})
    figures = report_figures(
        report, predictions[selection.integrator], tile_cut=decision.tile_cut, pictures=pictures
    )
    # That of an earlier evaluation must not lie beside this page.
    (study.evaluation / PDF_FILE).unlink(missing_ok=True)
    write_text(study.evaluation / PAGE_FILE, render(report, figures))
    write_text(study.evaluation / REPORT_FILE, report.model_dump_json(indent=1))
    return report


def write_report_pdf(study: Study) -> Path:
    """Write report.pdf from the report.html of the last evaluation, and return its path.

    Raises:
        StudyError: The study is not evaluated.
        PdfError: The PDF cannot be made.
        OSError: The PDF cannot be written.
    """
    try:
        page = (study.evaluation / PAGE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StudyError(f"{study.root} is not evaluated. Run `her2d evaluate` first.") from error
    path = study.evaluation / PDF_FILE
    write_pdf(page, path)
    return path


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
    dict[str, list[IntegratorPrediction]], list[tuple[CohortSlide, SlidePrediction]], SlidePictures
]:
    """Run each slide through the pipeline once, and draw pictures of some."""
    predictions: dict[str, list[IntegratorPrediction]] = {name: [] for name in tile_cuts}
    own: list[tuple[CohortSlide, SlidePrediction]] = []
    rules = rules_of(bundle)
    annotated = annotated_shares(study, slides)
    pictures = SlidePictures(study)
    models = {name: load_model(study, name) for name in tile_cuts}
    for found in predict_slides(bundle, slides):
        progress(found.slide.name)
        for name, cut in tile_cuts.items():
            predictions[name].append(
                integrator_prediction(models[name], found, tile_cut=cut, rules=rules)
            )
        if mil is not None:
            predictions.setdefault(MIL, []).append(mil.predict(found))
        own.append((found.slide, slide_prediction(found, annotated.get(found.slide.name))))
        pictures.add(found)
    return predictions, own, pictures


def _coverage(
    of_sets: Mapping[str, Sequence[SlidePrediction]], calibration: Interval | None
) -> Iterator[CoverageRow]:
    prevalence = None if calibration is None else calibration.prevalence
    for name, predictions in of_sets.items():
        slides = validated_slides(predictions)
        yield from coverage_rows(
            name,
            slides.by_area,
            slides.low,
            slides.high,
            positive=slides.positive,
            prevalence=prevalence,
        )


def _known(rows: Iterable[Found | None]) -> tuple[Found, ...]:
    return tuple(row for row in rows if row is not None)
