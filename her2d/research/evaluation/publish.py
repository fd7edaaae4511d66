"""An evaluated study's models -> a bundle folder with its figures and a model card."""

import shutil
from pathlib import Path

from scipy.stats import binomtest

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import MANIFEST_FILE, Manifest, Measured
from her2d.research.evaluation.confusion import Confusion
from her2d.research.evaluation.evaluate import read_report
from her2d.research.evaluation.model_card import CARD_FILE, model_card
from her2d.research.evaluation.report import Report
from her2d.research.training.bundle_writer import write_manifest
from her2d.research.training.candidate import selected_files
from her2d.research.training.cohort import Split
from her2d.research.training.model_selection import read_selection
from her2d.research.training.study import Study, StudyError
from her2d.system.files import replace_folder


def publish(
    study: Study, directory: Path, *, version: str = "1", intended_use: str | None = None
) -> Bundle:
    """Pack the bundle that `her2d evaluate` measured into `directory`, named after the folder.

    A bundle that was there before stays loadable until the new one replaces it whole.

    Raises:
        StudyError: the study is not evaluated, or its models changed since.
        ValueError: the folder's name is no bundle's name.
        OSError: the folder cannot be written.
    """
    report = read_report(study)
    candidate = load_bundle(study.candidate)
    changed = _changed_since(study, report)
    if candidate.digest != report.bundle_digest:
        changed.append(study.candidate.name)
    if changed:
        raise StudyError(
            f"The models changed since they were measured ({', '.join(changed)}): run her2d"
            " evaluate again."
        )
    manifest = candidate.manifest.model_dump(exclude_none=True) | {
        "name": directory.resolve().name,
        "version": version,
        "measured": measured(report, Split.TEST),
        "measured_external": measured(report, Split.EXTERNAL),
    }
    if intended_use is not None:
        manifest["intended_use"] = intended_use
    return _written(candidate, Manifest.model_validate(manifest), directory)


def measured(report: Report, split: Split) -> Measured | None:
    """A manifest's figures of one test set; None where the study has no such set.

    Raises:
        StudyError: a figure that a manifest states is not defined on so few slides.
    """
    row = report.bundle_row(split.value)
    if row is None:
        return None
    segmenter = next(row for row in report.segmenters if row.selected).sets[split.value]
    tiles = next(row for row in report.integrators if row.selected).sets[split.value].auroc
    if segmenter is None or tiles is None or row.accuracy.value is None:
        raise StudyError(
            f"The split {split.value} is too small: it must hold strong and weak tumour tiles."
        )
    low, high = _wilson(row.confusion)
    of_set = [call for call in report.predictions if call.set == split.value]
    return Measured(
        cohort=f"split {split.value} of: {report.cohort}",
        slides=len(of_set),
        slides_positive=sum(call.true_status == "positive" for call in of_set),
        slides_without_tumor=sum(call.true_status == "indeterminate" for call in of_set),
        calls_without_tumor=row.without_tumor,
        slides_without_call=row.without_call,
        segmenter_miou=segmenter,
        tile_auroc=tiles,
        slide_accuracy=row.accuracy.value,
        slide_accuracy_ci_low=low,
        slide_accuracy_ci_high=high,
        slide_sensitivity=row.sensitivity.value,
        slide_specificity=row.specificity.value,
        slide_auroc=row.auroc.value,
        slide_accuracy_of_all=row.accuracy_of_all,
    )


def _wilson(confusion: Confusion) -> tuple[float, float]:
    """Wilson's 95 % interval of the accuracy (Wilson 1927): a bootstrap knows no doubt where every
    slide was predicted right, however few they are."""
    right = confusion.tp + confusion.tn
    predicted = right + confusion.fp + confusion.fn
    interval = binomtest(right, predicted).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _changed_since(study: Study, report: Report) -> list[str]:
    """The selection and selected models, as paths, that are not those that were measured."""
    if not report.models:  # Reports did not hold them once; they did say what was selected.
        selection, _ = read_selection(study)
        measured = (report.segmenter, report.classifier, report.integrator)
        same = (selection.segmenter, selection.classifier, selection.integrator) == measured
        return [] if same else [study.selection.name]
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
        raise ValueError(f"{directory} is there and is no bundle")
    replace_folder(directory, part)
    return load_bundle(directory)
