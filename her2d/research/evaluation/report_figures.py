"""All figures of a report."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from her2d.research.evaluation.figures import (
    agreement_figure,
    bland_altman_figure,
    calibration_figure,
    confusion_figure,
    decision_figure,
    forest_figure,
    risk_coverage_figure,
    roc_figure,
)
from her2d.research.evaluation.flow_figures import (
    Workflow,
    participants_figure,
    status_figure,
    workflow_figure,
)
from her2d.research.evaluation.report import Report
from her2d.research.evaluation.slide_pictures import Case, SlidePictures
from her2d.research.evaluation.slide_predictions import IntegratorPrediction, validated_slides
from her2d.research.training.cohort import Split


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """The figures that a page shows, as SVG texts and as pictures of slides.

    Attributes:
        participants, workflow, status: Figures 1, 2 and S1; "" if not drawn.
        tumor, right, wrong: Cases of Figures S3, 3 and 4.
        slides: ROC curves and confusion matrices of the slides (Figure S2).
        truth: P with its interval against the annotated share by area, other centres first.
        shares: Further figures about P and the annotated share.
        tiles: Calibration of p(strong).
        subgroups, decision: Figures of each test set.
    """

    participants: str = ""
    workflow: str = ""
    status: str = ""
    tumor: Sequence[Case] = ()
    right: Sequence[Case] = ()
    wrong: Sequence[Case] = ()
    slides: Sequence[str] = ()
    truth: Sequence[str] = ()
    shares: Sequence[str] = ()
    tiles: Sequence[str] = ()
    subgroups: Sequence[str] = ()
    decision: Sequence[str] = ()


def report_figures(
    report: Report,
    predictions: Sequence[IntegratorPrediction],
    *,
    tile_cut: float,
    pictures: SlidePictures,
) -> ReportFigures:
    """Draw all figures of a report.

    Args:
        report: The report.
        predictions: Predictions of the bundle's integrator.
        tile_cut: The bundle's tile cut.
        pictures: Pictures of the test slides.
    """
    own = [row for row in report.slides if row.selected]
    workflow = Workflow(
        segmenter=report.segmenter,
        classifier=report.classifier,
        integrator=report.integrator,
        tile_cut=tile_cut,
        threshold_percent=report.validation[0].threshold_percent,
    )
    return ReportFigures(
        participants=participants_figure(report.sets, own),
        workflow=workflow_figure(workflow),
        status=status_figure(report.sets),
        tumor=pictures.tumor,
        right=pictures.right,
        wrong=pictures.wrong,
        slides=_drawn(
            figure
            for row in own
            for figure in (
                roc_figure(
                    [p for p in predictions if p.set == row.set], f"ROC of slides, {row.set}"
                ),
                confusion_figure(row.confusion, f"Slides, {row.set}"),
            )
        ),
        truth=_truth_figures(report),
        shares=_share_figures(report),
        tiles=_drawn(
            calibration_figure(row.calibration, f"Calibration of tiles, {row.set}")
            for row in report.calibration
        ),
        subgroups=_drawn(
            forest_figure([row for row in report.subgroups if row.set == name], name)
            for name in dict.fromkeys(row.set for row in report.subgroups)
        ),
        decision=_drawn(decision_figure(curve, curve.set) for curve in report.decision),
    )


def _truth_figures(report: Report) -> list[str]:
    rows = sorted(report.validation, key=lambda row: row.set != Split.EXTERNAL)
    figures = []
    for row in rows:
        slides = validated_slides([p for p in report.predictions if p.set == row.set])
        figures.append(agreement_figure(slides, slides.by_area, row.threshold_percent, row.set))
    return _drawn(figures)


def _share_figures(report: Report) -> list[str]:
    figures = []
    for row in report.validation:
        slides = validated_slides([p for p in report.predictions if p.set == row.set])
        figures += [
            agreement_figure(
                slides,
                slides.by_tile,
                row.threshold_percent,
                f"P and the annotated share by tile, {row.set}",
            ),
            bland_altman_figure(slides, slides.by_tile, f"Difference by tile, {row.set}"),
            bland_altman_figure(slides, slides.by_area, f"Difference by area, {row.set}"),
            risk_coverage_figure(row.risk_coverage, f"Risk and coverage, {row.set}"),
        ]
    return _drawn(figures)


def _drawn(figures: Iterable[str | None]) -> list[str]:
    return [figure for figure in figures if figure is not None]
