"""Publish an evaluated study's models as a bundle with its metrics and a model card."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import MANIFEST_FILE, Manifest, Measured
from her2d.research.evaluation.evaluate import read_report
from her2d.research.evaluation.mil import MIL
from her2d.research.evaluation.model_card import CARD_FILE, model_card
from her2d.research.evaluation.report import Report, SlideRow
from her2d.research.training.bundle_writer import write_manifest
from her2d.research.training.candidate import selected_files
from her2d.research.training.cohort import Split
from her2d.research.training.mil import mil_files
from her2d.research.training.study import Study, StudyError
from her2d.system.files import replace_folder


def publish(
    study: Study, directory: Path, *, version: str = "1", intended_use: str | None = None
) -> Bundle:
    """Publish the bundle that `her2d evaluate` evaluated, named after the folder.

    An earlier bundle in the folder remains usable until the new one replaces it.

    Args:
        study: An evaluated study.
        directory: Folder to write.
        version: Version of the bundle.
        intended_use: One sentence for the manifest; None is research only.

    Returns:
        The published bundle.

    Raises:
        StudyError: The study is not evaluated, or its models changed after the evaluation.
        ValueError: The name of the folder is not valid for a bundle, or the folder exists and does
            not hold a bundle.
        OSError: The folder cannot be written.
    """
    report = read_report(study)
    changed = _changed_since(report.models, selected_files(study))
    candidate = _evaluated(study.candidate, report.bundle_digest, changed)
    measured = {split: split_metrics(report, split) for split in (Split.TEST, Split.EXTERNAL)}
    return _named(candidate, directory, measured, version=version, intended_use=intended_use)


def publish_mil(
    study: Study, directory: Path, *, version: str = "1", intended_use: str | None = None
) -> Bundle:
    """Publish the baseline that learns from slide labels, as `her2d evaluate` evaluated it.

    Args:
        study: An evaluated study with a trained baseline.
        directory, version, intended_use: As for `publish`.

    Returns:
        The published bundle.

    Raises:
        StudyError: The study is not evaluated with the baseline, the baseline cannot be a bundle,
            or models changed afterwards.
        ValueError, OSError: As for `publish`.
    """
    report = read_report(study)
    if report.mil_bundle_problem:
        raise StudyError(f"The baseline cannot be a bundle. {report.mil_bundle_problem}")
    if report.mil_bundle_digest is None:
        raise StudyError(
            f"The evaluation of {study.root} has no baseline that learns from slide labels. Run"
            " `her2d train mil` and `her2d evaluate` first."
        )
    changed = _changed_since(report.models, selected_files(study))
    changed += _changed_since(report.mil_models, mil_files(study))
    candidate = _evaluated(study.mil_candidate, report.mil_bundle_digest, changed)
    measured = {split: mil_metrics(report, split) for split in (Split.TEST, Split.EXTERNAL)}
    return _named(candidate, directory, measured, version=version, intended_use=intended_use)


def split_metrics(report: Report, split: Split) -> Measured | None:
    """Return a manifest's metrics of one test set, or None if the study does not have the set.

    Args:
        report: Report of the evaluation.
        split: The test set.

    Raises:
        StudyError: The set is too small for a metric that the manifest requires.
    """
    row = report.bundle_row(split.value)
    if row is None:
        return None
    tiles = next(row for row in report.integrators if row.selected).sets[split.value].auroc
    if tiles is None:
        raise StudyError(_too_small(split))
    of_tiles = _measured(report, row, split, tile_auroc=tiles)
    return of_tiles.model_copy(update=_coverage(report, split))


def _coverage(report: Report, split: Split) -> dict[str, float | int | None]:
    """Return how often the interval of P held the annotated share; nothing if it was not known."""
    whole = next((r for r in report.coverage if (r.set, r.band) == (split.value, "all")), None)
    if whole is None:
        return {}
    return {
        "interval_slides": whole.slides,
        "interval_coverage": whole.share.value,
        "interval_coverage_ci_low": whole.share.low,
        "interval_coverage_ci_high": whole.share.high,
    }


def mil_metrics(report: Report, split: Split) -> Measured | None:
    """Return the same of the baseline that learns from slide labels; it classifies no tiles."""
    row = next((r for r in report.slides if (r.integrator, r.set) == (MIL, split.value)), None)
    return None if row is None else _measured(report, row, split, tile_auroc=None)


def _too_small(split: Split) -> str:
    return f"The split {split.value} is too small. It must have strong and weak tumour tiles."


def _measured(report: Report, row: SlideRow, split: Split, *, tile_auroc: float | None) -> Measured:
    segmenter = next(row for row in report.segmenters if row.selected).sets[split.value]
    if segmenter is None or row.accuracy.value is None:
        raise StudyError(_too_small(split))
    of_set = [slide for slide in report.predictions if slide.set == split.value]
    return Measured(
        cohort=f"split {split.value} of: {report.cohort}",
        slides=len(of_set),
        slides_positive=sum(slide.true_status == "positive" for slide in of_set),
        slides_without_tumor=sum(slide.true_status == "indeterminate" for slide in of_set),
        calls_without_tumor=row.without_tumor,
        slides_without_call=row.indeterminate,
        segmenter_miou=segmenter,
        tile_auroc=tile_auroc,
        slide_accuracy=row.accuracy.value,
        slide_accuracy_ci_low=row.accuracy.low,
        slide_accuracy_ci_high=row.accuracy.high,
        slide_sensitivity=row.sensitivity.value,
        slide_sensitivity_ci_low=row.sensitivity.low,
        slide_sensitivity_ci_high=row.sensitivity.high,
        slide_specificity=row.specificity.value,
        slide_specificity_ci_low=row.specificity.low,
        slide_specificity_ci_high=row.specificity.high,
        slide_auroc=row.auroc.value,
        slide_auroc_ci_low=row.auroc.low,
        slide_auroc_ci_high=row.auroc.high,
        slide_accuracy_of_all=row.accuracy_of_all,
    )


def _changed_since(evaluated: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the paths of the files that changed after the evaluation, by their digests."""
    paths = dict.fromkeys([*evaluated, *now])
    return [path for path in paths if evaluated.get(path) != now.get(path)]


def _evaluated(folder: Path, digest: str, changed: list[str]) -> Bundle:
    """Return the candidate in a folder. Raises StudyError if it or its models changed."""
    candidate = load_bundle(folder)
    if candidate.digest != digest:
        changed = [*changed, folder.name]
    if changed:
        raise StudyError(
            f"The models changed since they were evaluated ({', '.join(changed)}). Run"
            " `her2d evaluate` again."
        )
    return candidate


def _named(
    candidate: Bundle,
    directory: Path,
    measured: Mapping[Split, Measured | None],
    *,
    version: str,
    intended_use: str | None,
) -> Bundle:
    """Write a candidate as the bundle that is named after the folder."""
    manifest = candidate.manifest.model_dump(exclude_none=True) | {
        "name": directory.resolve().name,
        "version": version,
        "measured": measured[Split.TEST],
        "measured_external": measured[Split.EXTERNAL],
    }
    if intended_use is not None:
        manifest["intended_use"] = intended_use
    return _written(candidate, Manifest.model_validate(manifest), directory)


def _written(candidate: Bundle, manifest: Manifest, directory: Path) -> Bundle:
    part = directory.resolve().with_name(f".{directory.resolve().name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(candidate.directory, part, ignore=lambda _, names: {MANIFEST_FILE} & set(names))
    (part / CARD_FILE).write_text(model_card(manifest))
    write_manifest(part, manifest)
    if directory.exists() and not (directory / MANIFEST_FILE).is_file():
        raise ValueError(f"{directory} exists and is not a bundle")
    replace_folder(directory, part)
    return load_bundle(directory)
