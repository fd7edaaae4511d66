"""Export the selected models as a bundle that is not yet evaluated."""

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import skops.io

from her2d import __version__
from her2d.bundle.loading import Bundle, load_bundle, sha256_of
from her2d.bundle.manifest import Decision, Environment, Manifest, Normalization, Parts, Training
from her2d.method import FOLDS
from her2d.research.networks.export import export_classifiers, export_segmenter
from her2d.research.training.bundle_writer import (
    CLASSIFIERS_FILE,
    INTEGRATOR_FILE,
    SEGMENTER_FILE,
    manifest_part,
    write_manifest,
)
from her2d.research.training.cohort import CohortSlide, Split, Status
from her2d.research.training.fit import WEIGHTS_FILE, read_result, shared_normalization
from her2d.research.training.integrator_file import check_integrator
from her2d.research.training.integrators import IntegratorScore
from her2d.research.training.model_selection import ModelSelection, check_selection, read_selection
from her2d.research.training.out_of_fold import load_classifiers, load_segmenter
from her2d.research.training.recipe import Recipe
from her2d.research.training.stain import measure_stain
from her2d.research.training.study import Study
from her2d.research.training.tile_store import TileStore
from her2d.system.files import replace_folder

INTENDED_USE = "Research only. Not a medical device, not for diagnosis."


def write_candidate(study: Study, recipe: Recipe, *, command: str) -> Bundle:
    """Export the selected models into `study.candidate`, replacing an earlier export.

    Args:
        study: Study with selected models.
        recipe: The study's recipe.
        command: Command that trained the models, for the manifest.

    Returns:
        The exported bundle.

    Raises:
        StudyError, FitError: Models are missing, do not match, or learned from slides that are not
            training slides now.
        OSError: The folder cannot be written.
    """
    selection, scores = read_selection(study)
    check_selection(study, recipe)
    normalization = _normalization(study, selection)
    directory = study.candidate.with_name("candidate.part")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    segmenter = load_segmenter(study, selection.segmenter)
    export_segmenter(
        segmenter, directory / SEGMENTER_FILE, mean=normalization.mean, std=normalization.std
    )
    classifiers = load_classifiers(study, selection.classifier)
    export_classifiers(
        classifiers, directory / CLASSIFIERS_FILE, mean=normalization.mean, std=normalization.std
    )
    fitted = study.integrators / f"{selection.integrator}.skops"
    check_integrator(fitted)
    shutil.copyfile(fitted, directory / INTEGRATOR_FILE)
    integrator = next(score for score in scores if score.name == selection.integrator)
    write_manifest(
        directory,
        _manifest(study, recipe, selection, normalization, directory, command, integrator),
    )
    replace_folder(study.candidate, directory)
    return load_bundle(study.candidate)


def selected_files(study: Study) -> dict[str, str]:
    """Compute the SHA-256 of model_selection.json and of each selected model.

    Returns:
        Hexadecimal digests, by path relative to the study.

    Raises:
        StudyError: No models are selected.
        OSError: A model is missing.
    """
    selection, _ = read_selection(study)
    networks = [study.segmenter(selection.segmenter)]
    networks += [study.classifier(selection.classifier, fold) for fold in range(FOLDS)]
    paths = [study.selection, *(network / WEIGHTS_FILE for network in networks)]
    paths.append(study.integrators / f"{selection.integrator}.skops")
    return {path.relative_to(study.root).as_posix(): sha256_of(path) for path in paths}


def _normalization(study: Study, selection: ModelSelection) -> Normalization:
    folds = [study.classifier(selection.classifier, fold) for fold in range(FOLDS)]
    directories = [study.segmenter(selection.segmenter), *folds]
    return shared_normalization([read_result(directory) for directory in directories])


def _environments(study: Study, selection: ModelSelection) -> tuple[Environment, ...]:
    """Return what the selected networks were trained on, each environment once."""
    folds = [study.classifier(selection.classifier, fold) for fold in range(FOLDS)]
    found = [
        read_result(path).environment for path in (study.segmenter(selection.segmenter), *folds)
    ]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _manifest(
    study: Study,
    recipe: Recipe,
    selection: ModelSelection,
    normalization: Normalization,
    directory: Path,
    command: str,
    integrator: IntegratorScore,
) -> Manifest:
    segmenter = read_result(study.segmenter(selection.segmenter))
    classifier = read_result(study.classifier(selection.classifier, 0))
    model = skops.io.get_untrusted_types(file=directory / INTEGRATOR_FILE)
    restored = f"; restores {', '.join(model)}" if model else ""
    return Manifest(
        name="candidate",
        version="0",
        intended_use=INTENDED_USE,
        decision=Decision(tile_cut=integrator.tile_cut),
        normalization=normalization,
        parts=Parts(
            segmenter=manifest_part(
                directory, SEGMENTER_FILE, _width(selection.segmenter, segmenter.width_multiplier)
            ),
            classifiers=manifest_part(
                directory,
                CLASSIFIERS_FILE,
                "5 x " + _width(selection.classifier, classifier.width_multiplier),
            ),
            integrator=manifest_part(directory, INTEGRATOR_FILE, selection.integrator + restored),
        ),
        training=Training(
            cohort=describe_cohort(study.cohort()),
            seed=recipe.seed,
            code_version=__version__,
            command=command,
            environments=_environments(study, selection),
            notes=(
                f"Folds grouped by {recipe.grouping.value}. Integrator fitted on"
                f" {selection.integrator_fitted_on}."
                f"{_parameters(integrator)}"
                f" Recipe {_digest(recipe)[:12]}."
                + (
                    f" Selected by the user: {', '.join(selection.overridden)}."
                    if selection.overridden
                    else ""
                )
            ),
        ),
        stain=measure_stain(TileStore(study.tiles, _training_slides(study))),
    )


def _parameters(integrator: IntegratorScore) -> str:
    """Return a sentence on the integrator's parameters, "" if it has none."""
    chosen = ", ".join(f"{name} {value}" for name, value in integrator.parameters.items())
    return f" Its parameters ({chosen}) by {integrator.parameters_by}." if chosen else ""


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()


def _training_slides(study: Study) -> list[str]:
    return [slide.name for slide in study.cohort() if slide.split is Split.TRAIN]


def describe_cohort(slides: list[CohortSlide]) -> str:
    """Describe slides, patients and positive slides of each split in one line."""
    parts = []
    for split, count in Counter(slide.split for slide in slides).items():
        of = [slide for slide in slides if slide.split is split]
        positive = sum(slide.her2_status is Status.POSITIVE for slide in of)
        patients = len({slide.patient for slide in of})
        parts.append(f"{split.value}: {count} slides of {patients} patients, {positive} positive")
    return "; ".join(parts)


def _width(name: str, width_multiplier: float) -> str:
    return name if width_multiplier == 1 else f"{name}, width x {width_multiplier:g}"
