"""Publish an evaluated study's models as a bundle with its metrics and a model card."""

import shutil
from pathlib import Path

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import MANIFEST_FILE, Manifest, Measured
from her2d.research.evaluation.evaluate import read_report
from her2d.research.evaluation.model_card import CARD_FILE, model_card
from her2d.research.evaluation.report import Report
from her2d.research.training.bundle_writer import write_manifest
from her2d.research.training.candidate import selected_files
from her2d.research.training.cohort import Split
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
    candidate = load_bundle(study.candidate)
    changed = _changed_since(study, report)
    if candidate.digest != report.bundle_digest:
        changed.append(study.candidate.name)
    if changed:
        raise StudyError(
            f"The models changed since they were evaluated ({', '.join(changed)}). Run"
            " `her2d evaluate` again."
        )
    manifest = candidate.manifest.model_dump(exclude_none=True) | {
        "name": directory.resolve().name,
        "version": version,
        "measured": split_metrics(report, Split.TEST),
        "measured_external": split_metrics(report, Split.EXTERNAL),
    }
    if intended_use is not None:
        manifest["intended_use"] = intended_use
    return _written(candidate, Manifest.model_validate(manifest), directory)


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
    segmenter = next(row for row in report.segmenters if row.selected).sets[split.value]
    tiles = next(row for row in report.integrators if row.selected).sets[split.value].auroc
    if segmenter is None or tiles is None or row.accuracy.value is None:
        raise StudyError(
            f"The split {split.value} is too small. It must have strong and weak tumour tiles."
        )
    of_set = [slide for slide in report.predictions if slide.set == split.value]
    return Measured(
        cohort=f"split {split.value} of: {report.cohort}",
        slides=len(of_set),
        slides_positive=sum(slide.true_status == "positive" for slide in of_set),
        slides_without_tumor=sum(slide.true_status == "indeterminate" for slide in of_set),
        calls_without_tumor=row.without_tumor,
        slides_without_call=row.indeterminate,
        segmenter_miou=segmenter,
        tile_auroc=tiles,
        slide_accuracy=row.accuracy.value,
        slide_accuracy_ci_low=row.accuracy.low,
        slide_accuracy_ci_high=row.accuracy.high,
        slide_sensitivity=row.sensitivity.value,
        slide_specificity=row.specificity.value,
        slide_auroc=row.auroc.value,
        slide_accuracy_of_all=row.accuracy_of_all,
    )


def _changed_since(study: Study, report: Report) -> list[str]:
    """Return the paths of the selection and models that changed after the evaluation."""
    now = selected_files(study)
    paths = dict.fromkeys([*report.models, *now])
    return [path for path in paths if report.models.get(path) != now.get(path)]


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
